"""Sessions in the database, read with a prepared query: every request asks for its session first."""

from __future__ import annotations

from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.models import Session
from django.db import models
from django.utils import timezone

from rating.prepared import Prepared, Slot, moment

_SESSION = Prepared(
    lambda: Session.objects.filter(session_key=Slot("key", models.CharField()), expire_date__gt=moment("now"))
)


class SessionStore(DatabaseStore):
    """Django's own, but for the reading."""

    def _get_session_from_db(self) -> Session | None:
        session = _SESSION.first(key=self.session_key, now=timezone.now())
        if session is None:
            self._session_key = None
        return session
