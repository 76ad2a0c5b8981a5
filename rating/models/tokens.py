"""Keys with which programs act for an account."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from rating.models.people import User
from rating.models.projects import Project


class ApiToken(models.Model):
    """Lets a program do what its account may do, narrowed by scopes, a project and a time.

    The token itself is shown once and never stored: `digest` is its sha256, `start` its first characters.
    """

    class Scope(models.TextChoices):
        """What a token is good for."""

        READ = "read", _("Read")
        WRITE = "write", _("Write: imports, guidelines, snapshots")
        TRAIN = "train", _("Train: runs, triggers, evaluations, promotions")
        MANAGE = "manage", _("Manage: projects, settings, members")

    user = models.ForeignKey(User, models.CASCADE, related_name="api_tokens")
    project = models.ForeignKey(
        Project, models.CASCADE, null=True, blank=True, related_name="api_tokens", help_text="Empty: all."
    )
    name = models.CharField(max_length=80)
    scopes = models.JSONField(default=list)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    start = models.CharField(max_length=12, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    minute = models.PositiveBigIntegerField(
        default=0, help_text="The minute that `calls` counts, since 1970."
    )
    calls = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.start}… of {self.user}"
