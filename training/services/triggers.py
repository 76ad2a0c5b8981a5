"""When runs start by themselves: every so many new judgments, on a schedule, or both."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cronsim import CronSim, CronSimError
from django.db import transaction
from django.db.models import Count, Exists, OuterRef
from django.utils import timezone
from django.utils.translation import gettext, override

from rating.models import Judgment, Project
from rating.services.audit import record_event
from training.models import TrainingRun, Trigger
from training.numbers import localize_count
from training.services.runs import ACTIVE, RunError, check_plan, next_run_number, queue_steps
from training.services.snapshots import SnapshotError, freeze_snapshot
from training.services.storable import make_storable
from training.services.versions import user_model

logger = logging.getLogger(__name__)


class TriggerError(ValueError):
    """A trigger that cannot be saved. `problems` lists (field, message)."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{field}: {message}" for field, message in problems))


@dataclass(frozen=True)
class TriggerProgress:
    """How far a trigger is: new trainable judgments, of how many, and when its schedule is next due."""

    new: int
    every: int | None
    next_time: datetime | None


def count_trainable(projects: Sequence[int]) -> dict[int, int]:
    """Trainable judgments per project id."""
    rows = (
        Judgment.objects.trainable()
        .filter(item__project__in=projects)
        .values_list("item__project")
        .annotate(count=Count("pk"))
    )
    return dict(rows)


def next_time(trigger: Trigger) -> datetime | None:
    """When the schedule is due for the first time since the trigger last fired or was made, in UTC."""
    if not trigger.schedule:
        return None
    since = trigger.last_fired_at or trigger.created_at
    return next(CronSim(trigger.schedule, since.astimezone(UTC)))


def trigger_progress(trigger: Trigger) -> TriggerProgress:
    """How far the trigger is."""
    count = count_trainable([trigger.project_id]).get(trigger.project_id, 0)
    return TriggerProgress(
        max(0, count - trigger.judgments_seen), trigger.every_judgments, next_time(trigger)
    )


def due_triggers(now: datetime) -> list[Trigger]:
    """Enabled triggers whose time has come and none of whose runs is still queued or running."""
    busy = TrainingRun.objects.filter(trigger=OuterRef("pk"), state__in=ACTIVE)
    triggers = list(
        Trigger.objects.filter(~Exists(busy), enabled=True, project__archived_at=None).select_related(
            "project"
        )
    )
    counts = count_trainable(list({trigger.project_id for trigger in triggers if trigger.every_judgments}))
    return [trigger for trigger in triggers if is_due(trigger, counts.get(trigger.project_id, 0), now)]


def is_due(trigger: Trigger, count: int, now: datetime) -> bool:
    """Whether enough judgments are new, or the schedule's time has come."""
    if trigger.every_judgments and count - trigger.judgments_seen >= trigger.every_judgments:
        return True
    time = next_time(trigger)
    return time is not None and time <= now


def fire_trigger(trigger: Trigger) -> list[TrainingRun]:
    """Queue the trigger's plan, once however many trainers try; no runs when another one was faster.

    Nothing to freeze, or a plan that no longer fits, is told by a failed run, so that the operator sees it.
    """
    with override(None):
        # What is told is kept, so it is in the language of the records, whoever fires.
        return fire_plan(trigger)


def fire_plan(trigger: Trigger) -> list[TrainingRun]:
    """Freeze and queue, or record why not."""
    project = trigger.project
    seen = count_trainable([project.pk]).get(project.pk, 0)
    try:
        steps = check_plan(project, trigger.plan)
        policy = user_model(project)
        if policy is None:
            raise RunError(
                [("policy", "The project has no user model yet: add a base model and promote it.")]
            )
        # Frozen outside the transaction: it writes files, and raters must not wait for them.
        snapshot = freeze_snapshot(project)
    except (RunError, SnapshotError) as error:
        return fire_in_vain(trigger, seen, str(error))
    with transaction.atomic():
        if not mark_fired(trigger, seen):
            return []
        return queue_steps(project, steps, snapshot, policy=policy, trigger=trigger)


def mark_fired(trigger: Trigger, seen: int) -> bool:
    """Move the trigger on, if it still stands where it was read and none of its runs is active."""
    busy = TrainingRun.objects.filter(trigger=trigger.pk, state__in=ACTIVE)
    changed = Trigger.objects.filter(
        ~Exists(busy),
        pk=trigger.pk,
        enabled=True,
        judgments_seen=trigger.judgments_seen,
        last_fired_at=trigger.last_fired_at,
    ).update(judgments_seen=seen, last_fired_at=timezone.now())
    return changed == 1


@transaction.atomic
def fire_in_vain(trigger: Trigger, seen: int, message: str) -> list[TrainingRun]:
    """Record a firing that could queue nothing as one failed run."""
    if not mark_fired(trigger, seen):
        return []
    first = trigger.plan[0] if isinstance(trigger.plan, list) and trigger.plan else {}
    run = TrainingRun.objects.create(
        project=trigger.project,
        number=next_run_number(trigger.project),
        recipe=str(first.get("recipe", "")) if isinstance(first, dict) else "",
        trigger=trigger,
        state=TrainingRun.State.FAILED,
        error_code="bad_data",
        error_message=f'The trigger "{trigger.name}" fired, but nothing could be queued. {message}',
        ended_at=timezone.now(),
    )
    return [run]


@transaction.atomic
def save_trigger(
    project: Project,
    *,
    name: str,
    plan: object,
    every_judgments: int | None = None,
    schedule: str = "",
    enabled: bool = True,
    trigger: Trigger | None = None,
) -> Trigger:
    """Make a trigger, or change the given one. A new one counts judgments from now on.

    Raises:
        TriggerError: names each bad field and says what would be right.
    """
    name, schedule = name.strip(), schedule.strip()
    problems = check_when(name, every_judgments, schedule)
    if make_storable(name) == name and name_is_taken(project, name, trigger):
        taken = gettext("There is already a trigger named “%(name)s” in this project.")
        problems.append(("name", taken % {"name": name}))
    steps: list[dict[str, Any]] = []
    try:
        steps = check_plan(project, plan)
    except RunError as error:
        problems += [("plan", f"{path}: {message}") for path, message in error.problems]
    if problems:
        raise TriggerError(problems)
    if trigger is None:
        seen = count_trainable([project.pk]).get(project.pk, 0)
        trigger = Trigger(project=project, judgments_seen=seen)
    trigger.name, trigger.schedule, trigger.plan = name, schedule, steps
    trigger.every_judgments, trigger.enabled = every_judgments, enabled
    if trigger.pk:
        # Not the counters: a trainer may be moving them on at this moment.
        trigger.save(update_fields=["name", "schedule", "plan", "every_judgments", "enabled"])
    else:
        trigger.save()
    record_event("trigger.saved", project, trigger.name, enabled=enabled)
    return trigger


def name_is_taken(project: Project, name: str, trigger: Trigger | None) -> bool:
    """Whether another trigger of the project has this (storable) name."""
    others = Trigger.objects.exclude(pk=trigger.pk) if trigger else Trigger.objects.all()
    return others.filter(project=project, name=name).exists()


def check_when(name: str, every_judgments: int | None, schedule: str) -> list[tuple[str, str]]:
    """The problems of a trigger's name and times."""
    problems: list[tuple[str, str]] = []
    if not 1 <= len(name) <= 120 or make_storable(name) != name:
        problems.append(("name", gettext("Give it a name of 1 to 120 characters.")))
    if every_judgments is not None and not 1 <= every_judgments <= 1_000_000_000:
        wanted = gettext("Use a whole number from 1 to %(most)s, or leave it empty.")
        problems.append(("every_judgments", wanted % {"most": localize_count(1_000_000_000)}))
    if every_judgments is None and not schedule:
        wanted = gettext("Say after how many judgments it fires, or give a schedule.")
        problems.append(("every_judgments", wanted))
    if len(schedule) > 100:
        problems.append(("schedule", gettext("Use at most 100 characters.")))
    elif schedule:
        try:
            next(CronSim(schedule, timezone.now().astimezone(UTC)))
        except (CronSimError, StopIteration):
            wanted = gettext(
                "This is no cron expression that ever comes due; for example `0 3 * * *` is 03:00 UTC."
            )
            problems.append(("schedule", wanted))
    return problems
