"""What raters said. Append-only: a revision supersedes, nothing is overwritten."""

from __future__ import annotations

import uuid
from typing import Any, NoReturn

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from rating.models.items import Assignment, Item
from rating.models.people import Rater
from rating.models.projects import Dimension, Guidelines, Project, Question
from rating.models.texts import Completion


class AppendOnlyError(Exception):
    """Somebody tried to change or delete what a rater said."""


class AppendOnlyQuerySet(models.QuerySet[Any]):
    """Rows that are added and read, never changed or removed."""

    def update(self, **values: object) -> NoReturn:
        raise AppendOnlyError("What a rater said is never changed: record a judgment that supersedes it.")

    def delete(self) -> NoReturn:
        raise AppendOnlyError("What a rater said is never deleted: leave it out of a snapshot instead.")


class AppendOnlyModel(models.Model):
    """A row that is written once; its manager is an AppendOnlyQuerySet."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnlyError("What a rater said is never changed: record a judgment that supersedes it.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AppendOnlyError("What a rater said is never deleted: leave it out of a snapshot instead.")


class JudgmentQuerySet(AppendOnlyQuerySet):
    """Reads of judgments."""

    def in_force(self) -> JudgmentQuerySet:
        """Without those that a later revision supersedes."""
        return self.filter(superseded_by__isnull=True)

    def of_project(self, project_id: int) -> JudgmentQuerySet:
        """All judgments of a project."""
        return self.filter(item__project_id=project_id)

    def trainable(self) -> JudgmentQuerySet:
        """In force, and collected to learn from rather than to compare two model versions."""
        return self.in_force().filter(item__purpose=Item.Purpose.COLLECT)


class Judgment(AppendOnlyModel):
    """What one rater said of one item, in canonical completion ids, never in left and right.

    `choice` and `preferred` say it for two completions: `a` is the completion at position 0 of the item.
    `ranking` says it for more: groups of completion ids, best first, ties in one group.

    What is stored is what is better, even where the rater was asked for the more harmful response: `asked`
    says so. `none_good` says that no response is good enough; a pair is then `both_bad` as well, and more
    responses have no ranking. `rewrite` is the better response that the rater wrote.
    """

    class Choice(models.TextChoices):
        """The verdict on two completions."""

        A = "a", _("A is better")
        B = "b", _("B is better")
        TIE = "tie", _("Equally good")
        BOTH_BAD = "both_bad", _("Both bad")

    class Strength(models.TextChoices):
        """How much better, in the words of Llama 2."""

        SIGNIFICANTLY = "significantly", _("Significantly better")
        BETTER = "better", _("Better")
        SLIGHTLY = "slightly", _("Slightly better")
        NEGLIGIBLY = "negligibly", _("Negligibly better or unsure")

    class Safety(models.TextChoices):
        """Which of two responses are safe, in the words of Llama 2; chosen is `preferred`."""

        CHOSEN_SAFE = "chosen_safe", _("The chosen one is safe, the other is not")
        BOTH_SAFE = "both_safe", _("Both are safe")
        BOTH_UNSAFE = "both_unsafe", _("Both are unsafe")

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    item = models.ForeignKey(Item, models.PROTECT, related_name="judgments")
    rater = models.ForeignKey(Rater, models.PROTECT, related_name="judgments")
    assignment = models.ForeignKey(
        Assignment, models.PROTECT, null=True, blank=True, related_name="judgments"
    )
    guidelines = models.ForeignKey(Guidelines, models.PROTECT, null=True, blank=True, related_name="+")
    supersedes = models.OneToOneField(
        "self", models.PROTECT, null=True, blank=True, related_name="superseded_by"
    )
    idempotency_key = models.UUIDField(unique=True)
    choice = models.CharField(max_length=10, choices=Choice, blank=True)
    preferred = models.ForeignKey(Completion, models.PROTECT, null=True, blank=True, related_name="+")
    strength = models.CharField(max_length=15, choices=Strength, blank=True)
    ranking = models.JSONField(null=True, blank=True)
    none_good = models.BooleanField(default=False)
    asked = models.CharField(max_length=10, choices=Project.Asked, default=Project.Asked.BETTER)
    safety = models.CharField(max_length=15, choices=Safety, blank=True)
    intent = models.TextField(blank=True, help_text="What an attack on the model wanted to reach.")
    rewrite = models.ForeignKey(Completion, models.PROTECT, null=True, blank=True, related_name="+")
    flags = models.JSONField(default=list, blank=True)
    rationale = models.TextField(blank=True)
    seconds = models.FloatField(null=True, blank=True, help_text="On the item, without the time away.")
    judged_at = models.DateTimeField(db_index=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = JudgmentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(choice__in=["a", "b"], preferred__isnull=False)
                | Q(choice__in=["", "tie", "both_bad"], preferred__isnull=True),
                name="judgment_choice_names_preferred",
            ),
            models.CheckConstraint(
                condition=Q(strength__in=["", "significantly", "better", "slightly", "negligibly"]),
                name="judgment_strength_known",
            ),
            models.CheckConstraint(
                condition=Q(safety__in=["", "both_safe", "both_unsafe"])
                | Q(safety="chosen_safe", preferred__isnull=False),
                name="judgment_safety_known",
            ),
            models.CheckConstraint(
                condition=Q(none_good=False) | Q(choice__in=["", "both_bad"], ranking__isnull=True),
                name="judgment_none_good_prefers_none",
            ),
            models.CheckConstraint(
                condition=Q(seconds__isnull=True) | Q(seconds__gte=0), name="judgment_seconds_positive"
            ),
            models.UniqueConstraint(
                fields=["item", "rater"],
                condition=Q(supersedes__isnull=True),
                name="judgment_first_once_per_rater",
            ),
        ]
        indexes = [
            models.Index(fields=["rater", "-id"], name="judgment_rater_recent"),
            models.Index(
                fields=["rater", "judged_at"],
                condition=Q(supersedes__isnull=True),
                name="judgment_rater_days",
            ),
        ]

    def __str__(self) -> str:
        return f"judgment {self.public_id}"


class Rating(AppendOnlyModel):
    """A rating of one completion in one dimension; without a dimension it is the overall one."""

    judgment = models.ForeignKey(Judgment, models.PROTECT, related_name="ratings")
    completion = models.ForeignKey(Completion, models.PROTECT, related_name="ratings")
    dimension = models.ForeignKey(Dimension, models.PROTECT, null=True, blank=True, related_name="ratings")
    value = models.SmallIntegerField()

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["judgment", "completion", "dimension"], name="rating_once_per_dimension"
            ),
            models.UniqueConstraint(
                fields=["judgment", "completion"],
                condition=Q(dimension__isnull=True),
                name="rating_once_overall",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.value} for completion {self.completion_id}"


class Answer(AppendOnlyModel):
    """An answer to one of the project's questions, about the item or, with a completion, about that response.

    `value` is a boolean (yes/no), a text (choice, free text), a number from 0 to 4 or a list of texts (tags).
    """

    judgment = models.ForeignKey(Judgment, models.PROTECT, related_name="answers")
    question = models.ForeignKey(Question, models.PROTECT, related_name="answers")
    completion = models.ForeignKey(Completion, models.PROTECT, null=True, blank=True, related_name="answers")
    value = models.JSONField()

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["judgment", "question", "completion"], name="answer_once_per_response"
            ),
            models.UniqueConstraint(
                fields=["judgment", "question"],
                condition=Q(completion__isnull=True),
                name="answer_once_per_item",
            ),
        ]

    def __str__(self) -> str:
        return {True: "yes", False: "no"}[self.value] if isinstance(self.value, bool) else str(self.value)


class SpanMark(AppendOnlyModel):
    """A passage of a response that the rater marked as good or bad.

    `start` and `end` count characters (Unicode code points) of the completion's text; `end` is not included.
    """

    class Verdict(models.TextChoices):
        """What the rater thinks of it."""

        GOOD = "good", pgettext_lazy("marked passage", "Good")
        BAD = "bad", pgettext_lazy("marked passage", "Bad")

    judgment = models.ForeignKey(Judgment, models.PROTECT, related_name="span_marks")
    completion = models.ForeignKey(Completion, models.PROTECT, related_name="span_marks")
    start = models.PositiveIntegerField()
    end = models.PositiveIntegerField()
    verdict = models.CharField(max_length=4, choices=Verdict)
    reason = models.CharField(max_length=200, blank=True)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(end__gt=F("start")), name="span_mark_not_empty"),
            models.CheckConstraint(condition=Q(verdict__in=["good", "bad"]), name="span_mark_verdict_known"),
        ]

    def __str__(self) -> str:
        return f"{self.verdict} {self.start}:{self.end} of completion {self.completion_id}"
