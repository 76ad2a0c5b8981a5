"""Every error as problem details (RFC 9457): application/problem+json with the fields that are at fault."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, JsonResponse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from rest_framework import serializers
from rest_framework.exceptions import APIException, ErrorDetail, NotFound, ValidationError
from rest_framework.exceptions import PermissionDenied as Forbidden
from rest_framework.response import Response
from rest_framework.views import set_rollback

CONTENT_TYPE = "application/problem+json"
Problems = list[tuple[str, str]]


class FieldProblem(serializers.Serializer):
    """One fault."""

    field = serializers.CharField(
        help_text="Dotted path, such as `settings.learning_rate`; empty: all of it."
    )
    message = serializers.CharField(help_text="What is wrong, and what would be right.")


class Problem(serializers.Serializer):
    """Problem details."""

    type = serializers.CharField(help_text="`about:blank`: the status says which kind it is.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    errors = FieldProblem(many=True, required=False)


class Refused(APIException):
    """422: the service refused it; `problems` are (field, message)."""

    status_code = 422
    default_code = "refused"

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        super().__init__(
            "; ".join(f"{field}: {message}" if field else message for field, message in problems)
        )


def refuse(error: Exception) -> Refused:
    """The refusal of a service, in whichever shape: problems, field and message, or words."""
    if problems := getattr(error, "problems", None):
        return Refused(list(problems))
    if hasattr(error, "field"):
        return Refused([(str(error.field), str(getattr(error, "message", error)))])
    return Refused([("", str(error))])


def flatten(detail: Any, where: str = "") -> Problems:
    """DRF's nested errors as (dotted path, message)."""
    if isinstance(detail, dict):
        parts = [(name, inner) for name, inner in detail.items()]
    elif isinstance(detail, list) and any(isinstance(one, dict | list) for one in detail):
        parts = list(enumerate(detail))
    else:
        return [(where, str(one)) for one in (detail if isinstance(detail, list) else [detail])]
    found: Problems = []
    for name, inner in parts:
        own = "" if name == "non_field_errors" else str(name)
        found += flatten(inner, f"{where}.{own}" if where and own else where or own)
    return found


def describe(status: int, detail: str, problems: Problems | None = None) -> dict[str, Any]:
    """The body of a problem."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if problems:
        body["errors"] = [{"field": field, "message": message} for field, message in problems]
    return body


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """What DRF answers to an exception; None lets a fault of ours go on to be a 500."""
    if isinstance(error, Http404):
        error = NotFound(_("There is nothing of this address for this token."))
    elif isinstance(error, PermissionDenied):
        error = Forbidden(str(error) or None)
    if not isinstance(error, APIException):
        return None
    status, problems, detail = error.status_code, None, str(error.detail)
    if isinstance(error, Refused):
        problems = error.problems
    elif isinstance(error, ValidationError):
        status, problems = 422, flatten(error.detail)
        detail = "; ".join(f"{field}: {message}" if field else message for field, message in problems)
    elif not isinstance(error.detail, ErrorDetail):
        detail = "; ".join(message for _field, message in flatten(error.detail))
    headers = {}
    if getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = error.auth_header
    if getattr(error, "wait", None):
        headers["Retry-After"] = str(int(error.wait))
    set_rollback()
    return Response(describe(status, detail, problems), status, headers=headers, content_type=CONTENT_TYPE)


def plain(status: int, detail: str) -> JsonResponse:
    """A problem outside of DRF: a request that broke before or after a view."""
    return JsonResponse(describe(status, detail), status=status, content_type=CONTENT_TYPE)


@csrf_exempt
def not_found(request: HttpRequest, rest: str) -> JsonResponse:
    """Whatever else is asked for below /api/."""
    return plain(404, _("There is no such address; mind the slash at the end. See /api/schema/."))


def is_api(request: HttpRequest) -> bool:
    """Whether the request is a program's."""
    return request.path_info.startswith("/api/")
