"""The overview: where the wheel of a project stands, and the list of its runs."""

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import render

from rating.access import MemberRequest, project_view
from rating.models import Project, Role
from training.glance import read_wheel
from training.models import TrainingRun
from training.polling import render_polled

RUNS_ON_A_PAGE = 50


@project_view(Role.OPERATOR, Role.ADMIN)
def overview(request: MemberRequest, project: Project) -> HttpResponse:
    """User model, triggers, trainer, runs, evaluations; asks again by itself while something moves."""
    wheel = read_wheel(project)
    return render_polled(request, "training/overview.html", "wheel", {"project": project, "wheel": wheel})


@project_view(Role.OPERATOR, Role.ADMIN)
def runs(request: MemberRequest, project: Project) -> HttpResponse:
    """All runs of the project, newest first."""
    found = TrainingRun.objects.filter(project=project).select_related("model_version", "policy", "trigger")
    page = Paginator(found, RUNS_ON_A_PAGE).get_page(request.GET.get("page"))
    return render(request, "training/runs.html", {"project": project, "page": page})
