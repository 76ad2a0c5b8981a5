"""Who may enter: outsiders get 404, members without the role get 403."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from django_htmx.middleware import HtmxDetails

from rating.models import Membership, Project, Role, User
from rating.prepared import Prepared, Slot, whole


class MemberRequest(HttpRequest):
    """A request of a signed-in member of a project, as `project_view` hands it on."""

    user: User
    htmx: HtmxDetails
    project_roles: frozenset[str]


def roles_in(project: Project, user: User) -> frozenset[str]:
    """The account's roles in the project; a superuser is admin and operator everywhere."""
    roles = set(Membership.objects.filter(project=project, user=user).values_list("role", flat=True))
    if user.is_superuser:
        roles |= {Role.ADMIN.value, Role.OPERATOR.value}
    return frozenset(roles)


def enter_project(slug: str, user: User) -> tuple[Project, frozenset[str]]:
    """The project and the account's roles in it. Raises Http404 for outsiders."""
    if user.is_superuser:
        project = get_object_or_404(Project, slug=slug)
        return project, roles_in(project, user)
    memberships = _MEMBERSHIPS(slug=slug, user=user.pk)
    if not memberships:
        raise Http404("No project with this address is open to this account.")
    return memberships[0].project, frozenset(membership.role for membership in memberships)


def project_view(
    *allowed: Role,
) -> Callable[[Callable[..., HttpResponseBase]], Callable[..., HttpResponseBase]]:
    """Decorate `view(request, project, ...)` for a route with a `slug`, for members with one of the roles.

    No role named means any member. The member's roles are put on `request.project_roles` for templates.
    """

    def decorate(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
        @wraps(view)
        @login_required
        def enter(request: Any, slug: str, **kwargs: Any) -> HttpResponseBase:
            project, request.project_roles = enter_project(slug, request.user)
            if allowed and not request.project_roles & {role.value for role in allowed}:
                roles = ", ".join(str(role.label) for role in allowed)
                raise PermissionDenied(_("This page is for the roles: %(roles)s.") % {"roles": roles})
            return view(request, project, **kwargs)

        enter.allowed_roles = allowed  # type: ignore[attr-defined]  # read by the test that walks all routes
        return enter

    return decorate


_MEMBERSHIPS = Prepared(
    lambda: Membership.objects.select_related("project").filter(
        project__slug=Slot("slug", models.CharField()), user=whole("user")
    )
)
