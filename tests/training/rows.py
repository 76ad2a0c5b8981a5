"""Rows of the training app for tests of pages: runs in any state with events, evaluations with judgments."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from django.utils import timezone

from rating.models import Item, ModelVersion, Project
from tests.factories import make_item, make_judgment, make_model_version, make_prompt, make_rater
from training.models import Evaluation, EvaluationItem, RunEvent, TrainingRun

State = TrainingRun.State
ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)


def seen_in(html: bytes) -> str:
    """The digest that a polled region sends back with its next request."""
    found = re.search(rb"\?seen=(\w+)", html)
    assert found
    return found[1].decode()


def make_run(project: Project, state: str = State.QUEUED, **fields: Any) -> TrainingRun:
    """A run of recipe dpo under the project's next number; begun and ended as its state says."""
    number = TrainingRun.objects.filter(project=project).count() + 1
    now = timezone.now()
    if state != State.QUEUED:
        fields.setdefault("attempt", 1)
        fields.setdefault("started_at", now - timedelta(minutes=5))
    if state in ENDED:
        fields.setdefault("ended_at", now)
    fields.setdefault("recipe", "dpo")
    return TrainingRun.objects.create(project=project, number=number, state=state, **fields)


def make_event(
    run: TrainingRun, kind: str, step: int | None = None, *, seconds_ago: float = 0, **data: Any
) -> RunEvent:
    """An event of the run's attempt."""
    when = timezone.now() - timedelta(seconds=seconds_ago)
    return RunEvent.objects.create(
        run=run, attempt=run.attempt, kind=kind, step=step, data=data, happened_at=when
    )


def make_curve(run: TrainingRun, steps: int, **values: float) -> None:
    """A metrics event for each step, a second apart."""
    now = timezone.now()
    RunEvent.objects.bulk_create(
        RunEvent(
            run=run,
            attempt=run.attempt,
            kind="metrics",
            step=step,
            data={"values": values or {"loss": 1 / step}},
            happened_at=now - timedelta(seconds=steps - step),
        )
        for step in range(1, steps + 1)
    )


def make_evaluation(
    project: Project,
    candidate: ModelVersion,
    baseline: ModelVersion,
    *,
    wins: int = 0,
    losses: int = 0,
    unjudged: int = 0,
    state: str = Evaluation.State.OPEN,
) -> Evaluation:
    """An evaluation whose candidate wrote position 0 of every item, with that many judgments."""
    number = Evaluation.objects.filter(project=project).count() + 1
    evaluation = Evaluation.objects.create(
        project=project, number=number, candidate=candidate, baseline=baseline, state=state
    )
    rater = make_rater(project)
    for index, choice in enumerate(["a"] * wins + ["b"] * losses + [""] * unjudged):
        texts = [f"good {number}.{index}", f"bad {number}.{index}"]
        prompt = make_prompt(project, f"Held-out question {number}.{index}?")
        item = make_item(project, prompt=prompt, texts=texts, purpose=Item.Purpose.EVALUATE)
        EvaluationItem.objects.create(
            evaluation=evaluation, item=item, candidate_position=0, candidate_reward=1.0, baseline_reward=0.0
        )
        if choice:
            make_judgment(item, rater, choice=choice)
    return evaluation


def make_rival(project: Project, name: str = "rival", **fields: Any) -> ModelVersion:
    """Another policy."""
    return make_model_version(project, name, **fields)
