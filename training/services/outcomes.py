"""What follows when a run has ended: a model version, an evaluation, new items, or a failure in words."""

from __future__ import annotations

import os
import signal
from typing import Any

from django.db import transaction

from rating.models import ModelVersion
from training.models import TrainingRun
from training.recipes.spec import RESULT_FILE, RUN_STATUSES
from training.services.claims import (
    LONG_LEASE,
    add_note,
    fail_run,
    finish_run,
    give_up_attempt,
    renew_lease,
)
from training.services.evaluations import EvaluationError, open_evaluation, start_evaluation
from training.services.events import is_figures
from training.services.runs import ACTIVE, Purpose
from training.services.sampling import store_responses
from training.services.sentences import Sentence
from training.services.storable import forget_number, make_storable, read_json
from training.services.versions import VersionError, describe_output, register_version

LOG_FILE = "log.txt"
POLICY_RECIPES = (
    "sft",
    "dpo",
    "kto",
    "orpo",
    "simpo",
    "ppo",
    "rloo",
    "grpo",
    "online_dpo",
    "rejection",
)
LOG_TAIL_BYTES = 2000


def read_result(run: TrainingRun) -> dict[str, Any] | None:
    """What the recipe wrote last: status, step, model, kind, metrics, error and more; None before."""
    path = run.directory / RESULT_FILE
    if not path.exists():
        return None
    result = read_json(path.read_text("utf-8"), odd_number=forget_number)
    if not isinstance(result, dict) or result.get("status") not in RUN_STATUSES or not has_its_shape(result):
        raise ValueError(f"{path} was changed and cannot be read.")
    stored: dict[str, Any] = make_storable(result)
    return stored


def has_its_shape(result: dict[str, Any]) -> bool:
    """Whether the parts that are read of a result are of the kind that is expected."""
    parts = [result.get(name) or {} for name in ("error", "metrics", "environment", "dataset")]
    if not all(isinstance(part, dict) for part in parts):
        return False
    return is_figures(parts[1]) and isinstance(parts[2].get("versions") or {}, dict)


def settle_run(run: TrainingRun, attempt: int, exit_status: int | None) -> bool:
    """End the attempt as the run directory says; False when it was lost to another trainer (no change).

    `exit_status` is the process's, minus the signal's number when one ended it; None when nothing was started
    because the result of an earlier attempt was there already.
    """
    try:
        result = read_result(run)
        if result is None:
            return settle_without_result(run, attempt, exit_status)
        if result["status"] == "succeeded":
            return settle_success(run, attempt, result)
    except (VersionError, OSError, ValueError, KeyError) as error:
        return fail_run(run, attempt, "bad_data", f"The run ended, but its results cannot be used: {error}")
    if result["status"] == "cancelled" and run.cancel_requested_at is None:
        reason = Sentence("Its process was told to stop by somebody else than the trainer.")
        return give_up_attempt(run, attempt, reason)
    return finish_run(run, attempt, result)


def settle_without_result(run: TrainingRun, attempt: int, exit_status: int | None) -> bool:
    """The process is gone and has not said why."""
    if exit_status is not None and exit_status < 0:
        name = signal.Signals(-exit_status).name
        reason = Sentence("Its process was ended by %(signal)s.", {"signal": name})
        if -exit_status == signal.SIGKILL:
            reason = Sentence(
                "Its process was ended by %(signal)s (most often because the machine ran out of memory).",
                {"signal": name},
            )
        return give_up_attempt(run, attempt, reason)
    message = f"Its process ended with status {exit_status} and left no result. {tail_log(run)}".strip()
    return fail_run(run, attempt, "crash", message)


def tail_log(run: TrainingRun) -> str:
    """The end of the run's log, for an error message."""
    path = run.directory / LOG_FILE
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES), os.SEEK_SET)
        text = file.read().decode("utf-8", "replace").replace("\x00", "\ufffd").strip()
    return f"The log ends with:\n{text}" if text else "Its log is empty."


def settle_success(run: TrainingRun, attempt: int, result: dict[str, Any]) -> bool:
    """Store what the run made, and start what comes next, in one transaction: all of it or nothing."""
    if not renew_lease(run, attempt, LONG_LEASE):
        return False
    facts = describe_output(run, result) if result.get("kind") else None
    with transaction.atomic():
        version = register_version(run, result, facts) if facts else None
        if not finish_run(run, attempt, result, version):
            transaction.set_rollback(True)
            return False
        if run.purpose == Purpose.EVALUATE:
            open_evaluation(run)
        elif run.purpose == Purpose.COLLECT:
            add_note(run, attempt, *store_responses(run).sentences)
        elif version is not None and version.kind == ModelVersion.Kind.POLICY:
            compare_with_user_model(run, attempt, version)
    return True


def next_policy_run(run: TrainingRun) -> TrainingRun | None:
    """The next run of the chain that trains what this one made, if it is still to come."""
    follower = TrainingRun.objects.filter(after=run, state__in=ACTIVE).first()
    while follower is not None and follower.recipe not in POLICY_RECIPES:
        follower = TrainingRun.objects.filter(after=follower, state__in=ACTIVE).first()
    return follower


def compare_with_user_model(run: TrainingRun, attempt: int, version: ModelVersion) -> None:
    """Start the new policy's blind comparison, or say on the run's page why there is none.

    Of a plan that makes several policies from one another only the last is compared: raters' time is dear.
    """
    successor = next_policy_run(run)
    if successor is not None:
        none = Sentence(
            "%(name)s is not compared by itself: run %(number)s (%(recipe)s) trains it on.",
            {"name": version.name, "number": successor.number, "recipe": successor.recipe},
        )
        add_note(run, attempt, none)
        return
    try:
        with transaction.atomic():
            evaluation = start_evaluation(run.project, version)
    except EvaluationError as error:
        none = Sentence("No evaluation of %(name)s was started.", {"name": version.name})
        add_note(run, attempt, none, error.message)
    else:
        started = Sentence(
            "Evaluation %(number)s compares %(name)s with %(baseline)s.",
            {"number": evaluation.number, "name": version.name, "baseline": evaluation.baseline.name},
        )
        add_note(run, attempt, started)
