"""Starting runs, watching one, cancelling it, reading its log."""

from __future__ import annotations

from django.contrib import messages
from django.http import FileResponse, Http404, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext
from django.views.decorators.http import require_POST

from rating.access import MemberRequest, project_view
from rating.models import Project, Role
from training.models import TrainingRun
from training.polling import render_polled
from training.run_page import read_progress, read_run
from training.services.runs import request_cancel
from training.start import StartForm

LOG_FILE = "log.txt"


@project_view(Role.OPERATOR)
def new_run(request: MemberRequest, project: Project) -> HttpResponse:
    """Choose a recipe and its settings, and queue the run; `?from=7` starts from the settings of run 7."""
    form = StartForm(project, request.GET, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        run = form.queue(request.user)
        if run is not None:
            messages.success(request, gettext("Run %(number)s is queued.") % {"number": run.number})
            return redirect("training:run", project.slug, run.number)
    status = 422 if request.method == "POST" else 200
    return render(request, "training/new_run.html", {"project": project, "start": form}, status=status)


@project_view(Role.OPERATOR, Role.ADMIN)
def run(request: MemberRequest, project: Project, number: int) -> HttpResponse:
    """One run: what it is for, how far it is, its curves, samples, figures, log, settings and result."""
    return render_polled(request, "training/run.html", "progress", read_run(find_run(project, number)))


@project_view(Role.OPERATOR, Role.ADMIN)
def run_progress(request: MemberRequest, project: Project, number: int) -> HttpResponse:
    """What moves on the run's page; at the end of the run the browser is told to load the page once."""
    found = find_run(project, number)
    if not request.headers.get("HX-Request"):
        return redirect("training:run", project.slug, number)
    if found.state not in (TrainingRun.State.QUEUED, TrainingRun.State.RUNNING):
        return HttpResponse(headers={"HX-Refresh": "true"})
    return render_polled(request, "training/run.html", "progress", read_progress(found))


@project_view(Role.OPERATOR)
@require_POST
def cancel_run(request: MemberRequest, project: Project, number: int) -> HttpResponse:
    """Cancel a queued run; ask a running one to stop after its step."""
    found = request_cancel(find_run(project, number), request.user)
    named = {"number": number}
    if found.state == TrainingRun.State.CANCELLED:
        messages.success(request, gettext("Run %(number)s is cancelled.") % named)
    elif found.state == TrainingRun.State.RUNNING:
        said = gettext("Run %(number)s is asked to stop; it saves a checkpoint first.")
        messages.info(request, said % named)
    else:
        messages.warning(request, gettext("Run %(number)s had already ended.") % named)
    return redirect("training:run", project.slug, number)


@project_view(Role.OPERATOR, Role.ADMIN)
def run_log(request: MemberRequest, project: Project, number: int) -> HttpResponseBase:
    """The whole log as plain text, streamed from the run's directory."""
    found = find_run(project, number)
    try:
        file = (found.directory / LOG_FILE).open("rb")
    except FileNotFoundError:
        raise Http404(
            gettext("This run has no log: it has not started yet, or its directory was removed.")
        ) from None
    name = f"{project.slug}-run-{number}.log.txt"
    return FileResponse(file, as_attachment=True, filename=name, content_type="text/plain; charset=utf-8")


def find_run(project: Project, number: int) -> TrainingRun:
    """The project's run of that number, or 404."""
    runs = TrainingRun.objects.select_related(
        "project", "policy", "model_version", "snapshot", "trigger", "after", "created_by"
    )
    return get_object_or_404(runs, project=project, number=number)
