"""The token itself, projects with their settings, ways of asking, guidelines and members."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from rating.api.operations import Scope, created, operation, paged
from rating.api.pages import PageQuery, answer_page, ordered_by
from rating.api.problems import Refused
from rating.api.serializers import (
    AskingSerializer,
    AuditEventSerializer,
    GuidelinesSerializer,
    MemberSerializer,
    NewGuidelines,
    NewMember,
    NewProject,
    ProjectSerializer,
    ProjectSettings,
    TokenSerializer,
)
from rating.models import AuditEvent, Guidelines, Membership, Project, Role, User
from rating.services.asking import update_asking
from rating.services.projects import (
    ProjectError,
    add_member,
    create_project,
    publish_guidelines,
    remove_member,
    update_project,
)

ADMIN = (Role.ADMIN,)


class ProjectQuery(PageQuery):
    """A page of projects."""

    ordering = ordered_by("created", "slug")


class NumberedQuery(PageQuery):
    """A page of what is numbered."""

    ordering = ordered_by("number")


@operation(TokenSerializer)
def read_token(request: Request) -> Response:
    """Whom this token acts for, and what it may do."""
    token = request.auth
    project = token.project.slug if token.project else None
    return Response(
        TokenSerializer(
            {
                "account": token.user.get_username(),
                "name": token.name,
                "scopes": token.scopes,
                "project": project,
                "expires_at": token.expires_at,
            }
        ).data
    )


@operation(paged(ProjectSerializer), query=ProjectQuery)
def list_projects(request: Request, query: dict[str, Any]) -> Response:
    """The projects in which the account is admin or operator."""
    rows = Project.objects.visible_to(request.user)
    if not request.user.is_superuser:
        rows = Project.objects.filter(
            pk__in=Membership.objects.filter(user=request.user, role__in=(Role.ADMIN, Role.OPERATOR)).values(
                "project"
            )
        )
    if request.auth.project_id:
        rows = rows.filter(pk=request.auth.project_id)
    fields = {"created": "pk", "slug": "slug"}
    return answer_page(request, rows, query, lambda rows: ProjectSerializer(rows, many=True).data, fields)


@operation(ProjectSerializer, scope=Scope.MANAGE, body=NewProject, refuses=(ProjectError,), status=201)
def make_project(request: Request, body: dict[str, Any]) -> Response:
    """A new project; the account becomes its admin and operator. Takes the permission to create projects."""
    if not request.user.has_perm("rating.add_project"):
        raise PermissionDenied(_("This account may not create projects."))
    if request.auth.project_id:
        raise PermissionDenied(_("This token is for one project alone."))
    return created(ProjectSerializer(create_project(request.user, **body)).data)


@operation(ProjectSerializer)
def read_project(request: Request, project: Project) -> Response:
    """A project with its settings."""
    return Response(ProjectSerializer(project).data)


@operation(ProjectSerializer, scope=Scope.MANAGE, roles=ADMIN, body=ProjectSettings, refuses=(ProjectError,))
def change_project(request: Request, project: Project, body: dict[str, Any]) -> Response:
    """Change settings; what is left out stays as it is."""
    return Response(ProjectSerializer(update_project(project, **body)).data)


@operation(AskingSerializer)
def read_asking(request: Request, project: Project) -> Response:
    """What raters are asked, in their order."""
    return Response(asking_of(project))


@operation(AskingSerializer, scope=Scope.MANAGE, roles=ADMIN, body=AskingSerializer, refuses=(ProjectError,))
def change_asking(request: Request, project: Project, body: dict[str, Any]) -> Response:
    """Replace what raters are asked, from their next item on; what was said before keeps its meaning."""
    update_asking(project, body.get("settings", {}), body["dimensions"], body["questions"])
    return Response(asking_of(project))


def asking_of(project: Project) -> Any:
    """The dimensions and questions in force."""
    parts = {"dimensions": project.dimensions.in_force(), "questions": project.questions.in_force()}
    return AskingSerializer(parts).data


@operation(paged(GuidelinesSerializer), query=NumberedQuery)
def list_guidelines(request: Request, project: Project, query: dict[str, Any]) -> Response:
    """The versions of the guidelines, newest first."""
    rows = Guidelines.objects.filter(project=project)
    fields = {"number": "number"}
    return answer_page(request, rows, query, lambda rows: GuidelinesSerializer(rows, many=True).data, fields)


@operation(
    GuidelinesSerializer,
    scope=Scope.WRITE,
    roles=ADMIN,
    body=NewGuidelines,
    refuses=(ProjectError,),
    status=201,
)
def make_guidelines(request: Request, project: Project, body: dict[str, Any]) -> Response:
    """Publish a version of the guidelines; the text of the one in force makes no new one."""
    return created(GuidelinesSerializer(publish_guidelines(project, body["text"], request.user)).data)


@operation(GuidelinesSerializer)
def read_guidelines(request: Request, project: Project, number: int) -> Response:
    """One version of the guidelines."""
    found = get_object_or_404(Guidelines, project=project, number=number)
    return Response(GuidelinesSerializer(found).data)


class AuditQuery(PageQuery):
    """Which deeds."""

    ordering = ordered_by("happened")
    action = serializers.CharField(required=False, max_length=40)
    actor = serializers.CharField(required=False, max_length=150)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)


@operation(paged(AuditEventSerializer), roles=ADMIN, query=AuditQuery)
def list_audit(request: Request, project: Project, query: dict[str, Any]) -> Response:
    """Who did what, and when, newest first."""
    columns = {
        "action": "action",
        "actor": "actor_name",
        "since": "happened_at__gte",
        "until": "happened_at__lt",
    }
    wanted = {column: query[name] for name, column in columns.items() if name in query}
    rows = AuditEvent.objects.filter(project=project, **wanted).select_related("token")
    fields = {"happened": "pk"}
    return answer_page(request, rows, query, lambda rows: AuditEventSerializer(rows, many=True).data, fields)


class MemberQuery(PageQuery):
    """A page of members."""

    ordering = ordered_by("created")


@operation(paged(MemberSerializer), roles=ADMIN, query=MemberQuery)
def list_members(request: Request, project: Project, query: dict[str, Any]) -> Response:
    """Who has which role."""
    rows = Membership.objects.filter(project=project).select_related("user")
    fields = {"created": "pk"}
    return answer_page(request, rows, query, lambda rows: MemberSerializer(rows, many=True).data, fields)


@operation(
    MemberSerializer, scope=Scope.MANAGE, roles=ADMIN, body=NewMember, refuses=(ProjectError,), status=201
)
def make_member(request: Request, project: Project, body: dict[str, Any]) -> Response:
    """Give an account a role; one that it has already is left as it is."""
    user = User.objects.filter(username=body["username"], is_active=True).first()
    if user is None:
        raise Refused([("username", _("No account is called so; capitals count."))])
    return created(MemberSerializer(add_member(project, user, body["role"])).data)


@operation(None, scope=Scope.MANAGE, roles=ADMIN, refuses=(ProjectError,), status=204)
def drop_member(request: Request, project: Project, pk: int) -> Response:
    """Take one role of one account away; what it judged stays."""
    remove_member(get_object_or_404(Membership, project=project, pk=pk))
    return Response(status=204)
