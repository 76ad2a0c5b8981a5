"""Blind comparisons of two model versions, and the promotions that follow from them."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils.translation import pgettext_lazy

from rating.models import Item, ModelVersion, Project, User
from training.models.runs import TrainingRun


class Evaluation(models.Model):
    """Two model versions compared blind on the same held-out prompts."""

    class State(models.TextChoices):
        """Where the comparison stands."""

        SAMPLING = "sampling", pgettext_lazy("evaluation state", "Writing responses")
        OPEN = "open", pgettext_lazy("evaluation state", "Being rated")
        CLOSED = "closed", pgettext_lazy("evaluation state", "Closed")
        FAILED = "failed", pgettext_lazy("evaluation state", "Failed")

    project = models.ForeignKey(Project, models.PROTECT, related_name="evaluations")
    number = models.PositiveIntegerField()
    candidate = models.ForeignKey(ModelVersion, models.PROTECT, related_name="evaluations_as_candidate")
    baseline = models.ForeignKey(ModelVersion, models.PROTECT, related_name="evaluations_as_baseline")
    state = models.CharField(max_length=10, choices=State, default=State.SAMPLING)
    sampling_run = models.OneToOneField(
        TrainingRun, models.PROTECT, null=True, blank=True, related_name="evaluation"
    )
    items = models.ManyToManyField(Item, through="EvaluationItem", related_name="evaluations")
    same_responses = models.PositiveIntegerField(
        default=0, help_text="Prompts that both answered alike, counted as ties and not shown."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="evaluation_numbered_once"),
            models.CheckConstraint(condition=~Q(candidate=F("baseline")), name="evaluation_of_two"),
        ]

    def __str__(self) -> str:
        return f"{self.project} evaluation {self.number}"


class EvaluationItem(models.Model):
    """One prompt of an evaluation. The candidate wrote the completion at `candidate_position`."""

    evaluation = models.ForeignKey(Evaluation, models.CASCADE, related_name="places")
    item = models.OneToOneField(Item, models.PROTECT, related_name="evaluation_place")
    candidate_position = models.PositiveSmallIntegerField()
    candidate_reward = models.FloatField(null=True, blank=True)
    baseline_reward = models.FloatField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(candidate_position__lte=1), name="evaluation_item_of_two")
        ]

    def __str__(self) -> str:
        return f"{self.item} of {self.evaluation}"


class Promotion(models.Model):
    """From now on this model version is the user model. Append-only; the latest counts."""

    project = models.ForeignKey(Project, models.PROTECT, related_name="promotions")
    model_version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="promotions")
    replaced = models.ForeignKey(ModelVersion, models.PROTECT, null=True, blank=True, related_name="+")
    evaluation = models.ForeignKey(
        Evaluation, models.PROTECT, null=True, blank=True, related_name="promotions"
    )
    undoes = models.OneToOneField("self", models.PROTECT, null=True, blank=True, related_name="undone_by")
    evidence = models.JSONField(default=dict, help_text="The evaluation's figures when it was decided.")
    reason = models.TextField(blank=True)
    decided_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    decided_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.model_version} promoted"
