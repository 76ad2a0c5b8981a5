"""API tokens: made, found by their digest, counted, revoked."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Case, F, Value, When
from django.utils import timezone
from django.utils.translation import gettext as _

from rating.models import ApiToken, Project, User
from rating.services.audit import record_event
from rating.services.texts import TextError, check_text

PREFIX = "ratchet_"
SHOWN = 12
MAX_DAYS = 366
MAX_TOKENS = 50


class TokenError(ValueError):
    """A token that cannot be made: which field, and what would be right."""

    def __init__(self, field: str, message: str) -> None:
        self.field, self.message = field, message
        super().__init__(f"{field}: {message}")


@transaction.atomic
def create_token(
    user: User, *, name: str, scopes: Sequence[str], days: int, project: Project | None = None
) -> tuple[ApiToken, str]:
    """A new token and its text, which is nowhere but in this answer.

    Raises:
        TokenError: names the field and says what would be right.
    """
    name = name.strip()
    try:
        check_text(name, _("Name"))
    except TextError as error:
        raise TokenError("name", str(error)) from None
    if not 1 <= len(name) <= 80:
        raise TokenError("name", _("Give it a name of 1 to 80 characters."))
    if not scopes or set(scopes) - set(ApiToken.Scope.values):
        words = _("Choose one or more of %(known)s.")
        raise TokenError("scopes", words % {"known": ", ".join(ApiToken.Scope.values)})
    if not 1 <= days <= MAX_DAYS:
        raise TokenError("days", _("Use a whole number from 1 to %(most)s.") % {"most": MAX_DAYS})
    if project is not None and not Project.objects.visible_to(user).filter(pk=project.pk).exists():
        raise TokenError("project", _("Choose one of your projects, or none for all of them."))
    if live_tokens(user) >= MAX_TOKENS:
        words = _("An account has at most %(most)s tokens; revoke one first.")
        raise TokenError("name", words % {"most": MAX_TOKENS})
    text = PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        user=user,
        project=project,
        name=name,
        scopes=[scope for scope in ApiToken.Scope.values if scope in scopes],
        digest=digest_of(text),
        start=text[:SHOWN],
        expires_at=timezone.now() + timedelta(days=days),
    )
    record_event("token.made", project, token.start, name=name, scopes=token.scopes)
    return token, text


def live_tokens(user: User) -> int:
    """How many of the account's tokens still work."""
    return ApiToken.objects.filter(user=user, revoked_at=None, expires_at__gt=timezone.now()).count()


def digest_of(text: str) -> str:
    """sha256 of a token: 256 random bits need neither salt nor stretching."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def find_token(text: str) -> ApiToken | None:
    """The token with this text, if it works: neither revoked nor run out, of an active account."""
    found = ApiToken.objects.select_related("user").filter(
        digest=digest_of(text), revoked_at=None, expires_at__gt=timezone.now(), user__is_active=True
    )
    return found.first()


def count_call(token: ApiToken) -> int:
    """Count a request; returns how many seconds to wait when the minute's number is used up, else 0."""
    now = timezone.now()
    minute = int(now.timestamp()) // 60
    same = When(minute=minute, then=F("calls") + 1)
    ApiToken.objects.filter(pk=token.pk).update(
        calls=Case(same, default=Value(1)), minute=minute, last_used_at=now
    )
    calls = ApiToken.objects.filter(pk=token.pk).values_list("calls", flat=True).first() or 0
    return 60 - int(now.timestamp()) % 60 if calls > settings.API_CALLS_A_MINUTE else 0


@transaction.atomic
def revoke_token(token: ApiToken) -> None:
    """From now on the token does nothing; its row stays, for the record."""
    if ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()):
        record_event("token.revoked", token.project, token.start, name=token.name)
