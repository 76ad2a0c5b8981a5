"""What an address of the API does: a function per method, with who may call it and what goes in and out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponseBase
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from rating.access import enter_project
from rating.api.problems import Problem, refuse
from rating.models import ApiToken, Project, Role

Scope = ApiToken.Scope
SerializerClass = type[serializers.BaseSerializer[Any]]
PROBLEMS = {
    401: "No token, or none that works.",
    404: "Not there, or not for this token.",
    429: "Too many calls.",
}


@dataclass(frozen=True)
class Operation:
    """One method of one address.

    Attributes:
        handler: called with the request, the project if the address names one, what the address names, and
            `query` and `body` as checked by their serializers.
        roles: who may, in an address with a project; anybody with a token otherwise.
        refuses: exceptions of services that say what is wrong with the request; they become 422.
        answers: the serializer of each status.
        before: called before the body is read, to refuse it unread.
    """

    handler: Callable[..., HttpResponseBase]
    scope: ApiToken.Scope
    roles: tuple[Role, ...]
    refuses: tuple[type[Exception], ...]
    answers: dict[int, Any]
    query: type[serializers.Serializer[Any]] | None = None
    body: type[serializers.Serializer[Any]] | None = None
    upload: bool = False
    before: Callable[[Request], None] | None = None

    def method(self) -> Callable[..., HttpResponseBase]:
        """The method of the view class."""

        def call(view: APIView, request: Request, **named: Any) -> HttpResponseBase:
            given: list[Any] = [request]
            if "slug" in named:
                given.append(self.enter(request, named.pop("slug")))
            self.check_scope(request)
            if self.before is not None:
                self.before(request)
            if self.query is not None:
                named["query"] = read(self.query, request.query_params)
            if self.body is not None:
                named["body"] = read(self.body, request.data)
            try:
                return self.handler(*given, **named)
            except self.refuses as error:
                raise refuse(error) from error

        call.__doc__ = self.handler.__doc__
        described = extend_schema(
            operation_id=self.handler.__name__,
            description=f"{self.handler.__doc__}\n\nScope: `{self.scope.value}`.{self.roles_in_words}",
            parameters=[self.query] if self.query else None,
            request={"multipart/form-data": self.body} if self.upload else self.body,
            responses=self.answers | self.problems,
        )
        return described(call)

    @property
    def roles_in_words(self) -> str:
        names = ", ".join(role.value for role in self.roles)
        return f" Roles: {names}." if names else ""

    @property
    def problems(self) -> dict[Any, Any]:
        """The errors that the document names."""
        told = PROBLEMS | {403: "The role or the scope does not do."}
        if self.query or self.body:
            told |= {422: "A field is at fault; `errors` says which."}
        if self.body:
            told |= {400: "The body cannot be read.", 413: "Too large.", 415: "Not of the kind that is read."}
        if self.refuses:
            told |= {422: "A field is at fault, or it cannot be done now; `errors` says why."}
        kind = "application/problem+json"
        return {(status, kind): OpenApiResponse(Problem, description=words) for status, words in told.items()}

    def enter(self, request: Request, slug: str) -> Project:
        """The project, for its members with one of the roles. Raises Http404, PermissionDenied."""
        project, roles = enter_project(slug, request.user)
        token: ApiToken = request.auth
        if token.project_id not in (None, project.pk):
            raise Http404
        if not roles & {role.value for role in self.roles}:
            names = ", ".join(str(role.label) for role in self.roles)
            raise PermissionDenied(_("This is for the roles: %(roles)s.") % {"roles": names})
        return project

    def check_scope(self, request: Request) -> None:
        """Raises PermissionDenied."""
        if self.scope.value not in request.auth.scopes:
            words = _("This token lacks the scope “%(scope)s”; make one that has it.")
            raise PermissionDenied(words % {"scope": self.scope.value})


def operation(
    answers: Any,
    *,
    scope: ApiToken.Scope = Scope.READ,
    roles: tuple[Role, ...] = (Role.ADMIN, Role.OPERATOR),
    refuses: tuple[type[Exception], ...] = (),
    query: type[serializers.Serializer[Any]] | None = None,
    body: type[serializers.Serializer[Any]] | None = None,
    upload: bool = False,
    before: Callable[[Request], None] | None = None,
    status: int = 200,
) -> Callable[[Callable[..., HttpResponseBase]], Operation]:
    """Decorate a handler; see Operation."""

    def decorate(handler: Callable[..., HttpResponseBase]) -> Operation:
        return Operation(handler, scope, roles, refuses, {status: answers}, query, body, upload, before)

    return decorate


def endpoint(parsers: tuple[Any, ...] = (), **methods: Operation) -> Callable[..., HttpResponseBase]:
    """The view of one address: `endpoint(get=list_runs, post=start_run)`."""
    first = next(iter(methods.values())).handler
    members: dict[str, Any] = {name: one.method() for name, one in methods.items()}
    members |= {
        "__module__": first.__module__,
        "operations": methods,
        "permission_classes": [IsAuthenticated],
    }
    if parsers:
        members["parser_classes"] = list(parsers)
    made: Any = type(f"{first.__name__}_view", (APIView,), members)
    view: Callable[..., HttpResponseBase] = made.as_view()
    return view


def read(kind: type[serializers.Serializer[Any]], data: Any) -> dict[str, Any]:
    """The checked values. Raises ValidationError."""
    serializer = kind(data=data)
    serializer.is_valid(raise_exception=True)
    values: dict[str, Any] = serializer.validated_data
    return values


def paged(kind: type[serializers.Serializer[Any]]) -> type[serializers.Serializer[Any]]:
    """What a page of such rows looks like, for the document."""
    name = kind.__name__.removesuffix("Serializer") + "Page"
    fields = {"results": kind(many=True), "next": serializers.URLField(allow_null=True)}
    return type(
        name, (serializers.Serializer,), {"__doc__": "One page; `next` is null on the last.", **fields}
    )


def created(data: Any) -> Response:
    """201 with what was made."""
    return Response(data, 201)
