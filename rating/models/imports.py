"""Files that are being taken in: the row is the queue, as with training runs."""

from __future__ import annotations

import uuid
from pathlib import Path

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from rating.models.people import User
from rating.models.projects import Project


class Import(models.Model):
    """A file that was uploaded, what it is taken for, how far it is, and what became of it.

    Changed by conditional UPDATEs on the state and the attempt, see rating.services.imports.jobs.
    """

    class State(models.TextChoices):
        """Where the import stands."""

        UPLOADED = "uploaded", _("Waiting for your word")
        QUEUED = "queued", _("In the queue")
        RUNNING = "running", _("Running")
        SUCCEEDED = "succeeded", _("Done")
        REFUSED = "refused", _("Refused")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    class Phase(models.TextChoices):
        """What a running import does; `done` and `total` are bytes while it checks, then rows."""

        CHECKING = "checking", _("Checking the file")
        STORING = "storing", _("Storing the rows")

    project = models.ForeignKey(Project, models.CASCADE, related_name="imports")
    name = models.CharField(max_length=200, help_text="The file's name where it came from.")
    size = models.PositiveBigIntegerField(help_text="Bytes, as uploaded.")
    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    format = models.CharField(max_length=30, default="auto")
    columns = models.JSONField(default=dict, blank=True, help_text="Which column is what, if named by hand.")
    keep_good = models.BooleanField(default=False, help_text="Take the good rows although others are bad.")
    dry_run = models.BooleanField(default=False, help_text="Only check, and keep nothing.")
    state = models.CharField(max_length=10, choices=State, default=State.UPLOADED)
    phase = models.CharField(max_length=10, choices=Phase, default=Phase.CHECKING)
    done = models.PositiveBigIntegerField(default=0)
    total = models.PositiveBigIntegerField(default=0)
    position = models.JSONField(default=dict, blank=True, help_text="Where a next attempt goes on.")
    report = models.JSONField(default=dict, blank=True, help_text="What went in and what was left out.")
    errors = models.JSONField(default=list, blank=True, help_text="The first faults of a refused file.")
    attempt = models.PositiveIntegerField(default=0)
    claimed_by = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    queued_at = models.DateTimeField(null=True, blank=True)
    phase_at = models.DateTimeField(null=True, blank=True, help_text="When the phase began.")
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]
        indexes = [
            models.Index(
                fields=["state"], condition=Q(state__in=["queued", "running"]), name="import_to_be_done"
            )
        ]

    def __str__(self) -> str:
        return f"import {self.pk} of {self.name}"

    @property
    def directory(self) -> Path:
        """Where the file lies until it is taken in, and the refused rows afterwards."""
        return Path(settings.HOME) / "imports" / self.key.hex

    @property
    def path(self) -> Path:
        """The uploaded file."""
        return self.directory / "upload"

    @property
    def refused_path(self) -> Path:
        """The refused rows, each with its line and the reason."""
        return self.directory / "refused.jsonl"

    @property
    def active(self) -> bool:
        """Whether it is going to change by itself."""
        return self.state in (self.State.QUEUED, self.State.RUNNING)
