"""A blind comparison of two model versions: how far it is, and what came of it."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext
from django.views.decorators.http import require_POST

from rating.access import MemberRequest, project_view
from rating.models import Project, Role
from training.comparison import SHOWN_PROMPTS, draw_win_rate, read_agreement, read_comparisons
from training.models import Evaluation
from training.polling import render_polled
from training.services.evaluations import EvaluationError, close_evaluation, evaluation_result


@project_view(Role.OPERATOR, Role.ADMIN)
def evaluation(request: MemberRequest, project: Project, number: int) -> HttpResponse:
    """The figures, and the prompts with both responses; texts stay hidden from raters while it is open."""
    found = find_evaluation(project, number)
    result = evaluation_result(found)
    is_open = found.state == Evaluation.State.OPEN
    hidden = is_open and Role.RATER in request.project_roles
    context = {
        "project": project,
        "evaluation": found,
        "result": result,
        "interval": draw_win_rate(result),
        "agreement": read_agreement(found),
        "moving": is_open or found.state == Evaluation.State.SAMPLING,
        "is_open": is_open,
        "hidden": hidden,
        "compared": [] if hidden else read_comparisons(found),
        "shown_prompts": SHOWN_PROMPTS,
    }
    return render_polled(request, "training/evaluation.html", "figures", context)


@project_view(Role.OPERATOR)
@require_POST
def close(request: MemberRequest, project: Project, number: int) -> HttpResponse:
    """End an open evaluation; what was judged counts, nothing more is handed out."""
    try:
        close_evaluation(find_evaluation(project, number))
    except EvaluationError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, gettext("Evaluation %(number)s is closed.") % {"number": number})
    return redirect("training:evaluation", project.slug, number)


def find_evaluation(project: Project, number: int) -> Evaluation:
    """The project's evaluation of that number, or 404."""
    found = Evaluation.objects.select_related("candidate", "baseline", "sampling_run", "project")
    return get_object_or_404(found, project=project, number=number)
