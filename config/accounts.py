"""How people get in: accounts are made by an administrator, never by a visitor."""

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.auth_backends import AuthenticationBackend
from django.http import HttpRequest

from rating.models import User
from rating.prepared import Prepared, whole


class ClosedSignupAdapter(DefaultAccountAdapter):
    """Sign-up is closed."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False


class AccountBackend(AuthenticationBackend):
    """allauth's, but for the reading of the signed-in account, which every request asks for."""

    def get_user(self, user_id: int) -> User | None:
        user = _USER.first(user=user_id)
        return user if user is not None and self.user_can_authenticate(user) else None


_USER = Prepared(lambda: User.objects.filter(pk=whole("user")))
