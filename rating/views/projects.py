"""Projects: the list, a new one, the overview, settings, guidelines and members."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from rating.access import MemberRequest, project_view, roles_in
from rating.forms import GuidelinesForm, MemberForm, NewProjectForm, ProjectForm
from rating.models import Guidelines, Membership, Project, Prompt, Role
from rating.overview import judgments_per_day, project_cards, project_counts
from rating.services.projects import (
    ProjectError,
    add_member,
    create_project,
    current_guidelines,
    publish_guidelines,
    remove_member,
    update_project,
)


@login_required
def projects(request: MemberRequest) -> HttpResponse:
    """The projects of the account, with what it can do next in each."""
    context = {
        "cards": project_cards(request.user),
        "may_create": request.user.has_perm("rating.add_project"),
    }
    return render(request, "rating/projects.html", context)


@login_required
@permission_required("rating.add_project", raise_exception=True)
def new_project(request: MemberRequest) -> HttpResponse:
    """Make a project; the account becomes its admin and operator."""
    form = NewProjectForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            project = create_project(request.user, **form.cleaned_data)
        except ProjectError as error:
            form.add_error(error.field if error.field in form.fields else None, error.message)
        else:
            words = _("“%(project)s” is set up. Import prompts or responses next.")
            messages.success(request, words % {"project": project.name})
            return redirect("rating:project", slug=project.slug)
    return render(request, "rating/create_project.html", {"form": form}, status=status_of(form))


@project_view()
def project_page(request: MemberRequest, project: Project) -> HttpResponse:
    """The overview: guidelines, figures, and what to do next."""
    context = {
        "project": project,
        "guidelines": current_guidelines(project),
        "counts": project_counts(project),
        "bars": judgments_per_day(project),
    }
    return render(request, "rating/project.html", context)


@project_view(Role.ADMIN)
def settings(request: MemberRequest, project: Project) -> HttpResponse:
    """Change the settings; the guidelines have their own form on the same page."""
    form = settings_form(project, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            update_project(project, **form.cleaned_data)
        except ProjectError as error:
            form.add_error(error.field if error.field in form.fields else None, error.message)
        else:
            messages.success(request, _("Saved."))
            return redirect("rating:settings", slug=project.slug)
    return render_settings(request, project, form, guidelines_form(project), status_of(form))


@project_view(Role.ADMIN)
@require_POST
def new_guidelines(request: MemberRequest, project: Project) -> HttpResponse:
    """Publish a new version of the guidelines."""
    form = GuidelinesForm(request.POST)
    if form.is_valid():
        try:
            version = publish_guidelines(project, form.cleaned_data["text"], request.user)
        except ProjectError as error:
            form.add_error("text", error.message)
        else:
            words = _("Version %(number)s of the guidelines is in force.")
            messages.success(request, words % {"number": version.number})
            return redirect("rating:settings", slug=project.slug)
    return render_settings(request, project, settings_form(project), form, 422)


@project_view(Role.ADMIN)
def members(request: MemberRequest, project: Project) -> HttpResponse:
    """Who may do what; an existing account is added by its name."""
    form = MemberForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        member = add_member(project, form.cleaned_data["username"], form.cleaned_data["role"])
        messages.success(request, _("%(name)s is %(role)s here.") % role_of(member))
        return redirect("rating:members", slug=project.slug)
    memberships = project.memberships.select_related("user").order_by("user__username", "role")
    context = {"project": project, "form": form, "memberships": memberships}
    return render(request, "rating/members.html", context, status=status_of(form))


@project_view(Role.ADMIN)
@require_POST
def drop_member(request: MemberRequest, project: Project, pk: int) -> HttpResponse:
    """Take one role of one account away; what it judged stays."""
    membership = get_object_or_404(Membership.objects.select_related("user"), project=project, pk=pk)
    try:
        remove_member(membership)
    except ProjectError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, _("%(name)s is no longer %(role)s here.") % role_of(membership))
    still_admin = Role.ADMIN.value in roles_in(project, request.user)
    return redirect("rating:members", slug=project.slug) if still_admin else redirect("rating:projects")


def role_of(membership: Membership) -> dict[str, str]:
    """Who has which role, for a sentence."""
    return {"name": membership.user.get_username(), "role": membership.role_in_words}


def settings_form(project: Project, data: Any = None) -> ProjectForm:
    """The form of a fresh copy of the project: validating a form writes into its instance."""
    locked: set[str] = set()
    if Prompt.objects.filter(project=project).exists():
        locked.add("eval_percent")
    return ProjectForm(data, instance=Project.objects.get(pk=project.pk), locked=frozenset(locked))


def guidelines_form(project: Project) -> GuidelinesForm:
    """The editor with the version in force."""
    return GuidelinesForm(instance=current_guidelines(project) or Guidelines(project=project))


def render_settings(
    request: HttpRequest, project: Project, form: ProjectForm, guidelines: GuidelinesForm, status: int
) -> HttpResponse:
    """The settings page with both its forms."""
    context = {
        "project": project,
        "form": form,
        "guidelines_form": guidelines,
        "version": current_guidelines(project),
    }
    return render(request, "rating/settings.html", context, status=status)


def status_of(form: Any) -> int:
    """422 for a form that was sent and does not fit, else 200."""
    return 422 if form.is_bound and not form.is_valid() else 200
