"""The family of model versions: adding, comparing, promoting, undoing."""

from __future__ import annotations

from django.contrib import messages
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext
from django.views.decorators.http import require_POST

from rating.access import MemberRequest, project_view
from rating.models import ModelVersion, Project, Role
from training.family import read_case, read_family
from training.forms import BaseModelForm, EvaluationForm, PromotionForm, ReasonForm, ResponsesForm
from training.models import Promotion
from training.services.evaluations import EvaluationError, start_evaluation
from training.services.promotions import PromotionError, promote_version, undo_promotion
from training.services.runs import RunError
from training.services.sampling import request_responses
from training.services.versions import VersionError, add_base_version


@project_view(Role.OPERATOR, Role.ADMIN)
def versions(request: MemberRequest, project: Project) -> HttpResponse:
    """The family with its evaluations, and the history of promotions."""
    return show_family(request, project)


@project_view(Role.OPERATOR)
@require_POST
def add_version(request: MemberRequest, project: Project) -> HttpResponse:
    """Add a base model: a directory on this machine or the id of a hub model."""
    form = BaseModelForm(request.POST)
    if form.is_valid():
        try:
            version = add_base_version(project, form.cleaned_data["name"], form.cleaned_data["base"])
        except VersionError as error:
            form.add_error(error.field, error.message)
        else:
            said = gettext("%(name)s is added. Promote it to make it the user model.")
            messages.success(request, said % {"name": version.name})
            return redirect("training:versions", project.slug)
    return show_family(request, project, base_form=form, status=422)


@project_view(Role.OPERATOR)
def promote(request: MemberRequest, project: Project, pk: int) -> HttpResponse:
    """Show what speaks for the version; on POST make it the user model, with a reason."""
    version = get_object_or_404(ModelVersion, project=project, pk=pk)
    case = read_case(project, version)
    form = PromotionForm(request.POST if request.method == "POST" else None, decided=case.decided)
    if form.is_valid():
        reason = form.cleaned_data["reason"]
        try:
            promote_version(project, version, user=request.user, evaluation=case.evaluation, reason=reason)
        except PromotionError as error:
            form.add_error(None, error.message)
        else:
            messages.success(request, gettext("%(name)s is the user model now.") % {"name": version.name})
            return redirect("training:versions", project.slug)
    context = {"project": project, "version": version, "case": case, "form": form}
    return render(request, "training/promote.html", context, status=422 if form.is_bound else 200)


@project_view(Role.OPERATOR)
@require_POST
def start_comparison(request: MemberRequest, project: Project, pk: int) -> HttpResponse:
    """Start a blind comparison of the version with the user model."""
    version = get_object_or_404(ModelVersion, project=project, pk=pk)
    form = EvaluationForm(request.POST)
    if form.is_valid():
        try:
            evaluation = start_evaluation(
                project, version, prompts=form.cleaned_data["prompts"], user=request.user
            )
        except EvaluationError as error:
            form.add_error(None, error.message)
        else:
            said = gettext("Evaluation %(number)s is queued: both write their responses.")
            messages.success(request, said % {"number": evaluation.number})
            return redirect("training:evaluation", project.slug, evaluation.number)
    return refuse(request, project, form)


@project_view(Role.OPERATOR)
@require_POST
def write_responses(request: MemberRequest, project: Project, pk: int) -> HttpResponse:
    """Have the version answer prompts; its responses become items to be rated."""
    version = get_object_or_404(ModelVersion, project=project, pk=pk)
    form = ResponsesForm(request.POST)
    if form.is_valid():
        try:
            run = request_responses(project, version, count=form.cleaned_data["count"], user=request.user)
        except RunError as error:
            form.add_error(None, str(error))
        else:
            said = gettext("Run %(number)s is queued: %(name)s writes new responses.")
            messages.success(request, said % {"number": run.number, "name": version.name})
            return redirect("training:run", project.slug, run.number)
    return refuse(request, project, form)


@project_view(Role.OPERATOR)
@require_POST
def undo(request: MemberRequest, project: Project, pk: int) -> HttpResponse:
    """Make the version that was replaced the user model again, with a reason."""
    promotion = get_object_or_404(Promotion, project=project, pk=pk)
    form = ReasonForm(request.POST)
    if form.is_valid():
        try:
            undone = undo_promotion(promotion, user=request.user, reason=form.cleaned_data["reason"])
        except PromotionError as error:
            form.add_error(None, error.message)
        else:
            said = gettext("%(name)s is the user model again.")
            messages.success(request, said % {"name": undone.model_version.name})
            return redirect("training:versions", project.slug)
    return refuse(request, project, form)


def refuse(request: HttpRequest, project: Project, form: BaseForm) -> HttpResponse:
    """The page of versions with what was wrong at its top."""
    for field, errors in form.errors.items():
        for error in errors:
            named = gettext("%(field)s: %(error)s")
            whole = field == "__all__"
            said = str(error) if whole else named % {"field": form[field].label, "error": error}
            messages.error(request, said)
    return show_family(request, project, status=422)


def show_family(
    request: HttpRequest, project: Project, *, base_form: BaseModelForm | None = None, status: int = 200
) -> HttpResponse:
    """Render the page of versions."""
    context = {"project": project, "family": read_family(project), "base_form": base_form or BaseModelForm()}
    context |= {"evaluation_form": EvaluationForm(), "responses_form": ResponsesForm()}
    return render(request, "training/versions.html", context, status=status)
