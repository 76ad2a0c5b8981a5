"""Executions of recipes. The row is the queue."""

from __future__ import annotations

import uuid
from pathlib import Path

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy, pgettext_lazy

from rating.models import ModelVersion, Project, User
from training.models.snapshots import DatasetSnapshot
from training.models.triggers import Trigger


class TrainingRun(models.Model):
    """One execution of a recipe: queued, running, succeeded, failed or cancelled.

    `attempt` is the fencing token: it grows with each claim, and whatever a former holder writes with an
    older one changes nothing.
    """

    class State(models.TextChoices):
        """Where the run stands."""

        QUEUED = "queued", pgettext_lazy("run state", "Queued")
        RUNNING = "running", pgettext_lazy("run state", "Running")
        SUCCEEDED = "succeeded", pgettext_lazy("run state", "Succeeded")
        FAILED = "failed", pgettext_lazy("run state", "Failed")
        CANCELLED = "cancelled", pgettext_lazy("run state", "Cancelled")

    class Purpose(models.TextChoices):
        """What the run is for."""

        TRAIN = "train", gettext_lazy("Train a model version")
        EVALUATE = "evaluate", gettext_lazy("Answer held-out prompts for an evaluation")
        COLLECT = "collect", gettext_lazy("Write new responses to be rated")

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    project = models.ForeignKey(Project, models.PROTECT, related_name="runs")
    number = models.PositiveIntegerField()
    recipe = models.CharField(max_length=40)
    purpose = models.CharField(max_length=10, choices=Purpose, default=Purpose.TRAIN)
    settings = models.JSONField(default=dict, help_text="The recipe's fields that differ from its defaults.")
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    snapshot = models.ForeignKey(DatasetSnapshot, models.PROTECT, null=True, blank=True, related_name="runs")
    trigger = models.ForeignKey(Trigger, models.SET_NULL, null=True, blank=True, related_name="runs")
    after = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="followers")
    policy = models.ForeignKey(
        ModelVersion, models.PROTECT, null=True, blank=True, related_name="+", help_text="Trained or sampled."
    )
    model_version = models.OneToOneField(
        ModelVersion, models.PROTECT, null=True, blank=True, related_name="made_by", help_text="What it made."
    )
    attempt = models.PositiveIntegerField(default=0)
    claimed_by = models.CharField(max_length=120, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    step = models.PositiveIntegerField(default=0)
    total_steps = models.PositiveIntegerField(null=True, blank=True)
    events_offset = models.PositiveBigIntegerField(default=0, help_text="Bytes of events.jsonl read so far.")
    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)
    result = models.JSONField(null=True, blank=True)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="run_numbered_once"),
            models.CheckConstraint(
                condition=Q(state__in=["queued", "running", "succeeded", "failed", "cancelled"]),
                name="run_state_known",
            ),
        ]
        indexes = [
            models.Index(fields=["id"], condition=Q(state="queued"), name="run_queue"),
            models.Index(fields=["lease_until"], condition=Q(state="running"), name="run_leases"),
        ]

    def __str__(self) -> str:
        return f"{self.project} run {self.number} ({self.recipe})"

    @property
    def directory(self) -> Path:
        """The run directory: the whole contract with the recipe."""
        return (
            settings.RUNS_DIR
            / self.project.slug
            / f"{self.number:05d}-{self.recipe}-{self.public_id.hex[:8]}"
        )


class RunEvent(models.Model):
    """A line of the run's events.jsonl, as the trainer read it."""

    run = models.ForeignKey(TrainingRun, models.CASCADE, related_name="events")
    attempt = models.PositiveIntegerField()
    kind = models.CharField(max_length=20)
    step = models.PositiveIntegerField(null=True, blank=True)
    data = models.JSONField(default=dict)
    happened_at = models.DateTimeField()

    class Meta:
        ordering = ["pk"]
        indexes = [models.Index(fields=["run", "kind", "step"], name="run_event_kind_step")]

    def __str__(self) -> str:
        return f"{self.kind} of run {self.run_id}"
