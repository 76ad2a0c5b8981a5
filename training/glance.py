"""What the overview shows: the wheel at a glance for one project."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.db.models import F, Max, Min
from django.utils import timezone
from django.utils.translation import gettext, ngettext, pgettext

from rating.models import Judgment, ModelVersion, Project
from training.models import DatasetSnapshot, Evaluation, Promotion, RunEvent, TrainingRun, Trigger
from training.numbers import localize_count
from training.recipe_words import recipe_title
from training.services.evaluations import EvaluationResult, evaluation_results
from training.services.triggers import TriggerProgress, trigger_progress
from training.services.versions import user_model
from training.services.workers import TrainerStatus, trainer_status

ACTIVE = (TrainingRun.State.QUEUED, TrainingRun.State.RUNNING)
LAST_RUNS = 10
FAST, SLOW = 2, 10
SPEED_WINDOW = timedelta(minutes=10)


@dataclass(frozen=True)
class TriggerAtAGlance:
    """A trigger and how far it is."""

    trigger: Trigger
    progress: TriggerProgress

    @property
    def shown(self) -> int:
        """New judgments, at most as many as are needed."""
        return min(self.progress.new, self.progress.every or self.progress.new)

    @property
    def recipes(self) -> list[str]:
        """The recipes of its plan; a plan edited by hand may be anything, and then it has none."""
        plan = self.trigger.plan if isinstance(self.trigger.plan, list) else []
        return [str(step.get("recipe", "?")) for step in plan if isinstance(step, dict)]

    @property
    def plan_words(self) -> str:
        """The recipes in their order, in words: `reward, then ppo`."""
        words = ""
        for recipe in reversed(self.recipes):
            pair = gettext("%(first)s, then %(rest)s") % {"first": recipe, "rest": words}
            words = pair if words else recipe
        return words

    @property
    def due(self) -> bool:
        """Whether the trainer fires it the next time it looks."""
        enough = self.progress.every is not None and self.progress.new >= self.progress.every
        time = self.progress.next_time
        return self.trigger.enabled and (enough or (time is not None and time <= timezone.now()))

    @property
    def note(self) -> str:
        """What comes next, in words."""
        if not self.trigger.enabled:
            return gettext("off: does not fire")
        if self.due:
            return pgettext("trigger", "due")
        missing = (self.progress.every or 0) - self.progress.new
        return ngettext("%(count)s to go", "%(count)s to go", missing) % {"count": localize_count(missing)}


@dataclass(frozen=True)
class ActiveRun:
    """A queued or running run, and how long it will still take where that is known."""

    run: TrainingRun
    left: timedelta | None

    @property
    def title(self) -> str:
        """What it does, in a word or two."""
        return recipe_title(self.run.recipe)


@dataclass(frozen=True)
class OpenEvaluation:
    """An evaluation that is not closed, with its result so far."""

    evaluation: Evaluation
    result: EvaluationResult


@dataclass
class Wheel:
    """Everything on the overview."""

    user_model: ModelVersion | None
    promotion: Promotion | None
    triggers: list[TriggerAtAGlance]
    active: list[ActiveRun]
    evaluations: list[OpenEvaluation]
    snapshot: DatasetSnapshot | None
    runs: list[TrainingRun]
    judgments: int
    trainer: TrainerStatus

    @property
    def due(self) -> bool:
        """Whether a trigger is about to fire."""
        return any(glance.due for glance in self.triggers)

    @property
    def pace(self) -> int:
        """Seconds until the page asks again by itself; 0 when nothing is running, due or being counted."""
        if self.active or self.due:
            return FAST
        counting = any(glance.trigger.enabled and glance.progress.every for glance in self.triggers)
        return SLOW if counting or self.evaluations else 0


def read_wheel(project: Project) -> Wheel:
    """The state of a project's training; a constant number of queries per trigger."""
    runs = TrainingRun.objects.filter(project=project).select_related("model_version", "policy", "after")
    active = list(runs.filter(state__in=ACTIVE).order_by("pk"))
    opened = list(
        Evaluation.objects.filter(project=project)
        .exclude(state__in=(Evaluation.State.CLOSED, Evaluation.State.FAILED))
        .select_related("candidate", "baseline")
    )
    results = evaluation_results(opened)
    left = time_left([run for run in active if run.state == TrainingRun.State.RUNNING])
    return Wheel(
        user_model=user_model(project),
        promotion=Promotion.objects.filter(project=project)
        .select_related("decided_by", "evaluation")
        .first(),
        triggers=[
            TriggerAtAGlance(trigger, trigger_progress(trigger))
            for trigger in Trigger.objects.filter(project=project)
        ],
        active=[ActiveRun(run, left.get(run.pk)) for run in active],
        evaluations=[OpenEvaluation(evaluation, results[evaluation.pk]) for evaluation in opened],
        snapshot=DatasetSnapshot.objects.filter(project=project).first(),
        runs=list(runs[:LAST_RUNS]),
        judgments=Judgment.objects.of_project(project.pk).trainable().count(),
        trainer=trainer_status(),
    )


def time_left(running: list[TrainingRun]) -> dict[int, timedelta]:
    """How long each running run will still take, by key; without those whose speed is not known yet.

    The speed is that of the events of the last ten minutes of the run's attempt (one query for all runs).
    """
    since = timezone.now() - SPEED_WINDOW
    recent = (
        RunEvent.objects.filter(
            run__in=running,
            attempt=F("run__attempt"),
            kind__in=("progress", "metrics"),
            step__isnull=False,
            happened_at__gte=since,
        )
        .values("run")
        .annotate(first=Min("happened_at"), last=Max("happened_at"), low=Min("step"), high=Max("step"))
    )
    totals = {run.pk: run.total_steps for run in running}
    left = {}
    for row in recent:
        total, steps = totals[row["run"]], row["high"] - row["low"]
        if total and steps > 0:
            left[row["run"]] = (row["last"] - row["first"]) / steps * max(0, total - row["high"])
    return left
