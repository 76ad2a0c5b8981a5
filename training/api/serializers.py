"""Shapes of what goes in and out on the training side. Serializers check shapes; the services decide."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from rating.api.serializers import MOST, StrictSerializer
from rating.models import ModelVersion
from training.models import DatasetSnapshot, Evaluation, Promotion, RunEvent, TrainingRun, Trigger


class SnapshotSerializer(serializers.ModelSerializer):
    """A snapshot: its hash, what was asked for, and how many rows came of it."""

    class Meta:
        model = DatasetSnapshot
        fields = ("number", "content_hash", "query", "counts", "created_at")


class NewSnapshot(StrictSerializer):
    """Which judgments, and how they become rows; the fields are those of a snapshot's `query.asked`."""

    query = serializers.DictField(default=dict)


class RowChangesSerializer(serializers.Serializer):
    """The rows of one file; the last three are null where there are too many to compare."""

    name = serializers.CharField()
    before = serializers.IntegerField()
    after = serializers.IntegerField()
    added = serializers.IntegerField(allow_null=True)
    removed = serializers.IntegerField(allow_null=True)
    changed = serializers.IntegerField(allow_null=True)


class ChoiceChange(serializers.Serializer):
    """A choice of the query that differs."""

    field = serializers.CharField()
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class DifferenceSerializer(serializers.Serializer):
    """From one snapshot to another."""

    choices = ChoiceChange(many=True)
    judgments_added = serializers.IntegerField()
    judgments_removed = serializers.IntegerField()
    raters_added = serializers.ListField(child=serializers.CharField())
    raters_removed = serializers.ListField(child=serializers.CharField())
    rows = RowChangesSerializer(many=True)


class RunSerializer(serializers.ModelSerializer):
    """A run: what it is for, how far it is, and how it ended."""

    snapshot = serializers.IntegerField(source="snapshot.number", default=None)
    after = serializers.IntegerField(source="after.number", default=None)
    trigger = serializers.CharField(source="trigger.name", default=None)

    class Meta:
        model = TrainingRun
        fields = (
            *("number", "recipe", "purpose", "settings", "state", "snapshot", "after", "trigger", "policy"),
            *("model_version", "attempt", "step", "total_steps", "error_code", "error_message", "result"),
            *("cancel_requested_at", "created_at", "started_at", "ended_at"),
        )


class NewRun(StrictSerializer):
    """A run to be queued."""

    recipe = serializers.CharField(max_length=40)
    settings = serializers.DictField(default=dict)
    snapshot = serializers.IntegerField(
        required=False, min_value=1, max_value=MOST, help_text="A number; without one, a new one is frozen."
    )
    policy = serializers.IntegerField(
        required=False, min_value=1, max_value=MOST, help_text="A version's id; the user model without one."
    )
    after = serializers.IntegerField(required=False, min_value=1, max_value=MOST, help_text="A run's number.")


class EventSerializer(serializers.ModelSerializer):
    """A line of what the run told; `id` grows, so `since` takes the last one that is known."""

    class Meta:
        model = RunEvent
        fields = ("id", "attempt", "kind", "step", "data", "happened_at")


class VersionSerializer(serializers.ModelSerializer):
    """A model version."""

    run = serializers.IntegerField(source="made_by.number", default=None)

    class Meta:
        model = ModelVersion
        fields = (
            *("id", "name", "kind", "base", "adapter", "system_prompt", "endpoint", "parent", "run"),
            *("tokenizer_hash", "chat_template_hash", "files", "created_at"),
        )


class NewVersion(StrictSerializer):
    """A base model: a directory of the server, or the id of a hub model."""

    name = serializers.CharField(max_length=120)
    base = serializers.CharField(max_length=500)
    kind = serializers.ChoiceField(choices=ModelVersion.Kind.choices, default=ModelVersion.Kind.POLICY)


class ResultSerializer(serializers.Serializer):
    """An evaluation's figures from the candidate's side; null: not measured (yet)."""

    wins = serializers.IntegerField()
    losses = serializers.IntegerField()
    ties = serializers.IntegerField()
    both_bad = serializers.IntegerField()
    same_responses = serializers.IntegerField()
    judged = serializers.IntegerField()
    total = serializers.IntegerField()
    win_rate = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    e_value = serializers.FloatField(allow_null=True)
    decided = serializers.BooleanField()
    reward_win_rate = serializers.FloatField(allow_null=True)
    mean_kl = serializers.FloatField(allow_null=True)
    baseline_mean_kl = serializers.FloatField(allow_null=True)
    verdict = serializers.CharField()


class EvaluationSerializer(serializers.ModelSerializer):
    """A blind comparison, with its figures as they stand."""

    sampling_run = serializers.IntegerField(source="sampling_run.number", default=None)
    result = serializers.SerializerMethodField()

    class Meta:
        model = Evaluation
        fields = (
            "number",
            "candidate",
            "baseline",
            "state",
            "sampling_run",
            "result",
            "created_at",
            "closed_at",
        )

    def get_result(self, evaluation: Evaluation) -> Any:
        """As counted by `evaluation_results`, put into the context."""
        return ResultSerializer(self.context["results"][evaluation.pk].as_evidence()).data


class NewEvaluation(StrictSerializer):
    """A comparison to be started."""

    candidate = serializers.IntegerField(min_value=1, max_value=MOST, help_text="A version's id.")
    baseline = serializers.IntegerField(
        required=False, min_value=1, max_value=MOST, help_text="The user model without one."
    )
    prompts = serializers.IntegerField(min_value=1, max_value=10_000, default=30)


class TriggerSerializer(serializers.ModelSerializer):
    """When runs start by themselves."""

    class Meta:
        model = Trigger
        fields = (
            *("id", "name", "enabled", "every_judgments", "schedule", "plan", "judgments_seen"),
            *("last_fired_at", "created_at"),
        )


class NewTrigger(StrictSerializer):
    """All of a trigger; replacing one says everything again."""

    name = serializers.CharField(max_length=120)
    enabled = serializers.BooleanField(default=True)
    every_judgments = serializers.IntegerField(
        default=None, allow_null=True, min_value=1, max_value=1_000_000_000
    )
    schedule = serializers.CharField(default="", allow_blank=True, max_length=100)
    plan = serializers.ListField(child=serializers.DictField(), min_length=1, max_length=20)


class PromotionSerializer(serializers.ModelSerializer):
    """This version is the user model from then on."""

    evaluation = serializers.IntegerField(source="evaluation.number", default=None)
    decided_by = serializers.CharField(source="decided_by.username", default=None)

    class Meta:
        model = Promotion
        fields = (
            *("id", "model_version", "replaced", "evaluation", "undoes", "evidence", "reason", "decided_by"),
            "decided_at",
        )


class NewPromotion(StrictSerializer):
    """A version to be promoted; its newest evaluation against the user model is kept as the evidence."""

    version = serializers.IntegerField(min_value=1, max_value=MOST, help_text="Its id.")
    reason = serializers.CharField(max_length=2000)
    confirm = serializers.BooleanField(
        default=False, help_text="Needed where no evaluation has decided for the version."
    )


class Undoing(StrictSerializer):
    """Why a promotion is undone."""

    reason = serializers.CharField(max_length=2000)
