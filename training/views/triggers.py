"""When runs start by themselves: making and changing triggers."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext

from rating.access import MemberRequest, project_view
from rating.models import Project, Role
from training.forms import PLAN_EXAMPLE, TriggerForm
from training.models import Trigger
from training.services.triggers import TriggerError, save_trigger, trigger_progress


@project_view(Role.OPERATOR)
def new_trigger(request: MemberRequest, project: Project) -> HttpResponse:
    """Make a trigger."""
    return edit(request, project, None)


@project_view(Role.OPERATOR)
def edit_trigger(request: MemberRequest, project: Project, pk: int) -> HttpResponse:
    """Change a trigger, or switch it on and off."""
    return edit(request, project, get_object_or_404(Trigger, project=project, pk=pk))


def edit(request: MemberRequest, project: Project, trigger: Trigger | None) -> HttpResponse:
    """The form of a trigger, and what it says saved."""
    form = TriggerForm(request.POST if request.method == "POST" else None, trigger=trigger)
    if form.is_valid():
        try:
            saved = save_trigger(project, trigger=trigger, **form.cleaned_data)
        except TriggerError as error:
            form.add_problems(error.problems)
        else:
            messages.success(request, gettext("The trigger %(name)s is saved.") % {"name": saved.name})
            return redirect("training:overview", project.slug)
    context = {
        "project": project,
        "trigger": trigger,
        "progress": trigger_progress(trigger) if trigger else None,
        "form": form,
        "example": PLAN_EXAMPLE,
    }
    return render(request, "training/trigger.html", context, status=422 if form.is_bound else 200)
