"""What is handed out: items, and the leases of items to raters."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Expression, Q
from django.utils import timezone

from rating.models.people import Rater
from rating.models.projects import Guidelines, Project
from rating.models.texts import Completion, Prompt


class Item(models.Model):
    """A prompt with one to nine of its completions, to be rated together. Its completions never change.

    `open_slots` is how many more raters it may be handed to: the overlap, less the judgments in force, less
    the live leases. It is changed in the same transaction as those; the database refuses a negative number.
    """

    class Purpose(models.TextChoices):
        """Why it is rated."""

        COLLECT = "collect", "Collect preferences"
        EVALUATE = "evaluate", "Compare two model versions"

    project = models.ForeignKey(Project, models.CASCADE, related_name="items")
    prompt = models.ForeignKey(Prompt, models.CASCADE, related_name="items")
    completions = models.ManyToManyField(Completion, through="ItemCompletion", related_name="items")
    purpose = models.CharField(max_length=10, choices=Purpose, default=Purpose.COLLECT)
    content_hash = models.CharField(
        max_length=64, editable=False, help_text="sha256 of the purpose, the prompt and the completions' ids."
    )
    priority = models.SmallIntegerField(default=0, help_text="Higher comes first.")
    queue_key = models.FloatField(help_text="Order among items of equal priority.")
    overlap = models.PositiveSmallIntegerField(validators=[MinValueValidator(1)])
    open_slots = models.IntegerField(help_text="How many more raters it may be handed to now.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "content_hash"], name="item_once_per_project"),
            models.CheckConstraint(condition=Q(open_slots__gte=0), name="item_never_over_overlap"),
            models.CheckConstraint(condition=Q(overlap__gte=1), name="item_overlap_positive"),
        ]
        indexes = [
            models.Index(
                fields=["project", "-priority", "queue_key", "id"],
                condition=Q(open_slots__gt=0),
                name="item_queue",
            )
        ]

    def __str__(self) -> str:
        return f"item {self.pk}"


class ItemCompletion(models.Model):
    """A completion's place in an item: position 0 is `a`, 1 is `b`. The shown order is the assignment's."""

    item = models.ForeignKey(Item, models.CASCADE, related_name="places")
    completion = models.ForeignKey(Completion, models.PROTECT, related_name="places")
    position = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["item", "position"], name="item_position_once"),
            models.UniqueConstraint(fields=["item", "completion"], name="item_completion_once"),
            models.CheckConstraint(condition=Q(position__lte=8), name="item_at_most_nine"),
        ]

    def __str__(self) -> str:
        return f"{self.item} position {self.position}"


class AssignmentQuerySet(models.QuerySet["Assignment"]):
    """Reads of assignments."""

    def live(self, now: datetime | Expression | None = None) -> AssignmentQuerySet:
        """Leases that have not run out."""
        return self.filter(state=Assignment.State.LEASED, expires_at__gt=now or timezone.now())

    def run_out(self, now: datetime | Expression | None = None) -> AssignmentQuerySet:
        """Leases whose time is over and whose slot has not been given back yet."""
        return self.filter(state=Assignment.State.LEASED, expires_at__lte=now or timezone.now())


class Assignment(models.Model):
    """The lease of one item to one rater, with the order in which the completions are shown."""

    class State(models.TextChoices):
        """Where the lease stands."""

        LEASED = "leased", "Leased"
        DONE = "done", "Done"
        SKIPPED = "skipped", "Skipped"
        EXPIRED = "expired", "Expired"

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    item = models.ForeignKey(Item, models.CASCADE, related_name="assignments")
    rater = models.ForeignKey(Rater, models.PROTECT, related_name="assignments")
    guidelines = models.ForeignKey(
        Guidelines, models.PROTECT, null=True, blank=True, related_name="+", help_text="The version shown."
    )
    order_shown = models.JSONField(help_text="Completion ids in the order in which they are shown.")
    state = models.CharField(max_length=10, choices=State, default=State.LEASED)
    skip_reason = models.CharField(max_length=200, blank=True)
    leased_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = AssignmentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["item", "rater"], name="assignment_once_per_rater"),
            models.CheckConstraint(
                condition=Q(state__in=["leased", "done", "skipped", "expired"]), name="assignment_state_known"
            ),
        ]
        indexes = [
            models.Index(fields=["rater", "state"], name="assignment_rater_state"),
            models.Index(fields=["expires_at"], condition=Q(state="leased"), name="assignment_leases"),
        ]

    def __str__(self) -> str:
        return f"assignment {self.public_id}"
