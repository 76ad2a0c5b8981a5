"""The audit trail: services record what they do, in the transaction in which they do it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from django.http import HttpRequest, HttpResponseBase

from rating.models import ApiToken, AuditEvent, Project

# The request that is being answered; nobody's where a command or the trainer does it.
asking: ContextVar[HttpRequest | None] = ContextVar("asking", default=None)


def record_event(action: str, project: Project | None, subject: object = "", **details: Any) -> AuditEvent:
    """Add to the trail who does this: the account and the token of the request that is being answered.

    Args:
        action: `object.done`, such as `run.queued`.
        details: plain JSON, of texts that were checked.
    """
    request = asking.get()
    user = getattr(request, "user", None)
    token = getattr(request, "auth", None)
    known = user if user is not None and user.is_authenticated else None
    return AuditEvent.objects.create(
        project=project,
        actor=known,
        actor_name=known.get_username() if known else "",
        token=token if isinstance(token, ApiToken) else None,
        action=action,
        subject=str(subject)[:200],
        details=details,
    )


def note_request(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: whoever asks is whoever does it."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        before = asking.set(request)
        try:
            return get_response(request)
        finally:
            asking.reset(before)

    return answer
