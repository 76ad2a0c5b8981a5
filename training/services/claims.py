"""The trainer's side of the queue: claiming, keeping, giving back and ending runs.

Every change is a conditional UPDATE on the state and the attempt. The attempt is the fencing token: it grows
with each claim, so that whoever lost a run changes nothing by writing late.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from rating.models import ModelVersion
from training.models import RunEvent, TrainingRun
from training.services.runs import CANCELLED, State, announce_end, cancel_followers, fail_evaluations
from training.services.sentences import Sentence
from training.services.workers import is_known_dead

LEASE = timedelta(seconds=60)
# Preparing and finishing a run hash its files, which may be many gigabytes.
LONG_LEASE = timedelta(minutes=15)
MAX_ATTEMPTS_WITHOUT_PROGRESS = 3
# The trainer's own notes among a run's events; the other kinds are the recipe's.
NOTE = "note"


def claim_run(worker: str) -> TrainingRun | None:
    """Take the oldest queued run whose predecessor, if any, succeeded; None when there is none.

    Two trainers never get the same attempt of the same run. Runs whose predecessor failed or was cancelled
    are cancelled on the way.
    """
    # Looking without a transaction spares the raters its lock: most of the time nothing is queued.
    if not TrainingRun.objects.filter(state=State.QUEUED).exists():
        return None
    with transaction.atomic():
        return claim_queued_run(worker)


def claim_queued_run(worker: str) -> TrainingRun | None:
    """Claim within a transaction."""
    cancel_followers()
    ready = Q(after=None) | Q(after__state=State.SUCCEEDED)
    queued = TrainingRun.objects.filter(ready, state=State.QUEUED).order_by("pk")
    run = queued.select_for_update(skip_locked=True, of=("self",)).first()
    if run is None:
        return None
    changed = TrainingRun.objects.filter(pk=run.pk, state=State.QUEUED, attempt=run.attempt).update(
        state=State.RUNNING,
        attempt=F("attempt") + 1,
        claimed_by=worker,
        lease_until=timezone.now() + LONG_LEASE,
        started_at=Coalesce("started_at", Now()),
        error_code="",
        error_message="",
    )
    return TrainingRun.objects.select_related("project").get(pk=run.pk) if changed == 1 else None


def renew_lease(run: TrainingRun, attempt: int, lease: timedelta = LEASE) -> bool:
    """Keep the run for another while; False when it is no longer this attempt's."""
    return held(run, attempt).update(lease_until=timezone.now() + lease) == 1


def held(run: TrainingRun, attempt: int) -> Any:
    """The run's row, while it is running in this attempt."""
    return TrainingRun.objects.filter(pk=run.pk, state=State.RUNNING, attempt=attempt)


@transaction.atomic
def release_run(run: TrainingRun, attempt: int, reason: Sentence | str) -> bool:
    """Put the run back into the queue without counting the attempt; it resumes where it was.

    A requested cancel is granted instead. False when the run was lost.
    """
    if requeue(run, attempt):
        add_note(run, attempt, reason, released=True)
        return True
    return end_run(run, attempt, State.CANCELLED, error_message=CANCELLED)


def requeue(run: TrainingRun, attempt: int) -> bool:
    """running -> queued with the same directory, unless somebody asked for a cancel."""
    waiting = held(run, attempt).filter(cancel_requested_at=None)
    return waiting.update(state=State.QUEUED, claimed_by="", lease_until=None) == 1


def reclaim_lost_runs(idle_worker: str = "") -> list[TrainingRun]:
    """Put runs back that nobody works on: their lease ran out, or their trainer, on this machine, is dead.

    `idle_worker` works on nothing now, so what it still holds was lost too (the database was away).
    """
    lost: list[TrainingRun] = []
    now = timezone.now()
    for run in TrainingRun.objects.filter(state=State.RUNNING):
        idle = bool(idle_worker) and run.claimed_by == idle_worker
        if idle or run.lease_until is None or run.lease_until <= now or is_known_dead(run.claimed_by):
            same_lease = Q(lease_until=run.lease_until)
            reason = Sentence("The trainer that worked on it was killed or lost.")
            if give_up_attempt(run, run.attempt, reason, same_lease):
                lost.append(run)
    return lost


@transaction.atomic
def give_up_attempt(run: TrainingRun, attempt: int, reason: Sentence | str, still: Q | None = None) -> bool:
    """End an attempt that broke off: back to the queue, or failed when several in a row led nowhere.

    A requested cancel is granted. `still` is what must hold besides the attempt. False when the run was lost.
    """
    if not held(run, attempt).filter(still or Q()).exists():
        return False
    if (
        run.cancel_requested_at is None
        and attempts_without_progress(run, attempt) >= MAX_ATTEMPTS_WITHOUT_PROGRESS
    ):
        message = (
            f"{reason} So did the attempts before: {MAX_ATTEMPTS_WITHOUT_PROGRESS} in a row ended without a "
        )
        message += "checkpoint, so it is not tried again. The log says how far they came."
        return end_run(run, attempt, State.FAILED, error_code="crash", error_message=message)
    if requeue(run, attempt):
        add_note(run, attempt, reason, Sentence("The run goes on from its last checkpoint."))
        return True
    return end_run(run, attempt, State.CANCELLED, error_message=CANCELLED)


def attempts_without_progress(run: TrainingRun, attempt: int) -> int:
    """How many attempts in a row, up to this one, wrote no checkpoint; released ones are not counted.

    A sampling run has no checkpoints: each batch it wrote is kept, and counts as one.
    """
    progress = Q(kind="checkpoint") | Q(kind=NOTE, data__released=True)
    if run.recipe == "sample":
        progress |= Q(kind="progress")
    last = run.events.filter(progress).order_by("-attempt").values_list("attempt", flat=True).first()
    return attempt - (last or 0)


@transaction.atomic
def finish_run(
    run: TrainingRun, attempt: int, result: dict[str, Any], model_version: ModelVersion | None = None
) -> bool:
    """Store what result.json says: succeeded, failed or cancelled. False when the run was lost."""
    error = result.get("error") or {}
    state = State(result["status"])
    step = result.get("step")
    return end_run(
        run,
        attempt,
        state,
        result=result,
        model_version=model_version,
        error_code=str(error.get("code", ""))[:40],
        error_message=CANCELLED if state == State.CANCELLED else str(error.get("message", "")),
        **({"step": step} if isinstance(step, int) and step >= 0 else {}),
    )


def fail_run(run: TrainingRun, attempt: int, code: str, message: str) -> bool:
    """running -> failed with words for the run page. False when the run was lost (no change)."""
    return end_run(run, attempt, State.FAILED, error_code=code, error_message=message)


@transaction.atomic
def end_run(run: TrainingRun, attempt: int, state: TrainingRun.State, **fields: Any) -> bool:
    """running -> an end, fenced by the attempt; runs that follow one without a result are cancelled."""
    changed = held(run, attempt).update(
        state=state, lease_until=None, claimed_by="", ended_at=timezone.now(), **fields
    )
    if changed:
        announce_end(run, state)
    if changed and state != State.SUCCEEDED:
        cancel_followers()
        fail_evaluations()
    return changed == 1


def add_note(run: TrainingRun, attempt: int, *sentences: Sentence | str, **data: Any) -> None:
    """A note of the trainer among the run's events: in English, and as sentences for other languages."""
    if any(isinstance(sentence, Sentence) for sentence in sentences):
        data["sentences"] = [said if isinstance(said, str) else said.as_json() for said in sentences]
    RunEvent.objects.create(
        run=run,
        attempt=attempt,
        kind=NOTE,
        step=run.step,
        data={"message": " ".join(map(str, sentences)), **data},
        happened_at=timezone.now(),
    )
