"""Who a program is: `Authorization: Bearer ratchet_...`."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from rating.models import ApiToken, User
from rating.services.tokens import count_call, find_token


class TokenAuthentication(BaseAuthentication):
    """Takes tokens alone: a browser's session opens nothing here, so there is nothing to forge."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """The account and the token; None without the header. Raises AuthenticationFailed."""
        kind, _space, text = request.headers.get("Authorization", "").partition(" ")
        if not kind:
            return None
        if kind.lower() != "bearer":
            raise AuthenticationFailed(_("Send the token as `Authorization: Bearer TOKEN`."))
        token = find_token(text.strip())
        if token is None:
            raise AuthenticationFailed(
                _("This token is unknown, was revoked, or has run out; make a new one.")
            )
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="ratchet"'


class TokenScheme(OpenApiAuthenticationExtension):
    """What the OpenAPI document says of it."""

    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A token made on the page “API tokens”."}


class TokenThrottle(BaseThrottle):
    """So many requests a minute for each token; the count is in its row, so all processes share it."""

    seconds = 0

    def allow_request(self, request: Request, view: Any) -> bool:
        self.seconds = count_call(request.auth) if isinstance(request.auth, ApiToken) else 0
        return not self.seconds

    def wait(self) -> float:
        return self.seconds
