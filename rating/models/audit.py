"""Who did what, and when."""

from __future__ import annotations

from typing import Any, NoReturn

from django.db import models

from rating.models.judgments import AppendOnlyError
from rating.models.people import User
from rating.models.projects import Project
from rating.models.tokens import ApiToken

NEVER = "The audit trail is added to, never changed and never shortened."


class AuditQuerySet(models.QuerySet["AuditEvent"]):
    """Events that are added and read, never changed or removed."""

    def update(self, **values: object) -> NoReturn:
        raise AppendOnlyError(NEVER)

    def delete(self) -> NoReturn:
        raise AppendOnlyError(NEVER)


class AuditEvent(models.Model):
    """One deed: who, with which token, what, to what, in which project. Append-only.

    `actor` is empty for what Ratchet did by itself; `actor_name` stays when the account is gone.
    """

    project = models.ForeignKey(Project, models.PROTECT, null=True, blank=True, related_name="audit_events")
    actor = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    actor_name = models.CharField(max_length=150, blank=True)
    token = models.ForeignKey(ApiToken, models.SET_NULL, null=True, blank=True, related_name="+")
    action = models.CharField(max_length=40, help_text="Such as `snapshot.frozen`.")
    subject = models.CharField(max_length=200, blank=True, help_text="What it was done to.")
    details = models.JSONField(default=dict, blank=True)
    happened_at = models.DateTimeField(auto_now_add=True)

    objects = AuditQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["project", "-id"], name="audit_project_recent")]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnlyError(NEVER)
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AppendOnlyError(NEVER)
