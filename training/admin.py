"""The administration's pages of the training tables. What is a record of what happened can only be read."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from rating.admin import ShortSearch
from training.models import (
    DatasetSnapshot,
    Evaluation,
    EvaluationItem,
    Promotion,
    RunEvent,
    SnapshotJudgment,
    TrainingRun,
    Trigger,
)


class RecordAdmin(ShortSearch):
    """Pages of rows that the program writes and nobody changes by hand."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(TrainingRun)
class TrainingRunAdmin(RecordAdmin):
    """Runs; they are queued and cancelled on the operator's pages."""

    list_display = (
        "number",
        "project",
        "recipe",
        "purpose",
        "state",
        "attempt",
        "step",
        "created_at",
        "ended_at",
    )
    list_filter = ("state", "purpose", "recipe")
    list_select_related = ("project",)
    search_fields = ("project__slug", "=number", "error_message")


@admin.register(RunEvent)
class RunEventAdmin(RecordAdmin):
    """What runs reported."""

    list_display = ("run", "attempt", "kind", "step", "happened_at")
    list_filter = ("kind",)
    list_select_related = ("run__project",)
    search_fields = ("=run__number",)


@admin.register(DatasetSnapshot)
class DatasetSnapshotAdmin(RecordAdmin):
    """Snapshots; never changed."""

    list_display = ("number", "project", "content_hash", "created_by", "created_at")
    list_select_related = ("project", "created_by")
    search_fields = ("project__slug", "content_hash")


@admin.register(SnapshotJudgment)
class SnapshotJudgmentAdmin(RecordAdmin):
    """Which judgments are in which snapshot."""

    list_display = ("snapshot", "judgment")
    list_select_related = ("snapshot__project", "judgment")


@admin.register(Trigger)
class TriggerAdmin(admin.ModelAdmin):
    """Triggers; the operator's pages check a plan, so here it can only be read."""

    list_display = ("name", "project", "enabled", "every_judgments", "schedule", "last_fired_at")
    list_filter = ("enabled",)
    list_select_related = ("project",)
    readonly_fields = ("project", "every_judgments", "schedule", "plan", "judgments_seen", "last_fired_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(Evaluation)
class EvaluationAdmin(RecordAdmin):
    """Blind comparisons."""

    list_display = ("number", "project", "candidate", "baseline", "state", "created_at", "closed_at")
    list_filter = ("state",)
    list_select_related = ("project", "candidate", "baseline")


@admin.register(EvaluationItem)
class EvaluationItemAdmin(RecordAdmin):
    """The items of evaluations, with what the reward model thinks."""

    list_display = ("evaluation", "item", "candidate_position", "candidate_reward", "baseline_reward")
    list_select_related = ("evaluation__project", "item")


@admin.register(Promotion)
class PromotionAdmin(RecordAdmin):
    """Promotions; append-only."""

    list_display = (
        "model_version",
        "project",
        "replaced",
        "evaluation",
        "undoes",
        "decided_by",
        "decided_at",
    )
    list_select_related = (
        "model_version",
        "project",
        "replaced",
        "evaluation__project",
        "undoes__model_version",
        "decided_by",
    )
