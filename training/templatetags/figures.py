"""Figures as people read them: shares, durations, e-values."""

from __future__ import annotations

import math
from datetime import timedelta

from django import template

from training.models import TrainingRun

register = template.Library()

PURPOSES = {
    TrainingRun.Purpose.TRAIN: "Training",
    TrainingRun.Purpose.EVALUATE: "Evaluation",
    TrainingRun.Purpose.COLLECT: "New responses",
}


@register.filter
def percent(share: float | None) -> str:
    """A share between 0 and 1 as per cent with one digit; a dash when it was not measured."""
    return "–" if share is None else f"{share:.1%}"


@register.filter
def duration(span: timedelta | None) -> str:
    """A length of time in one or two units: `8 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if span is None:
        return "–"
    seconds = max(0, round(span.total_seconds()))
    units = [
        ("d", seconds // 86400),
        ("h", seconds // 3600 % 24),
        ("min", seconds // 60 % 60),
        ("s", seconds % 60),
    ]
    first = next((index for index, (_, amount) in enumerate(units) if amount), 3)
    shown = [f"{amount} {unit}" for unit, amount in units[first : first + 2] if amount]
    return " ".join(shown) or "0 s"


@register.filter
def took(run: TrainingRun) -> str:
    """How long a run has run; empty before it starts and while it is running."""
    return duration(run.ended_at - run.started_at) if run.ended_at and run.started_at else ""


@register.filter
def number(value: float | None) -> str:
    """A measured value with three significant digits; a dash when it was not measured."""
    if value is None:
        return "–"
    if math.isinf(value):
        return "∞"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


@register.filter
def run_state(run: TrainingRun) -> str:
    """The state's key for the style sheet; a running run that is asked to stop is `cancelling`."""
    if run.state == TrainingRun.State.RUNNING and run.cancel_requested_at:
        return "cancelling"
    return run.state


@register.filter
def run_state_word(run: TrainingRun) -> str:
    """The state in a word."""
    return "Stopping" if run_state(run) == "cancelling" else run.get_state_display()


@register.filter
def purpose_word(run: TrainingRun) -> str:
    """What the run is for, in a word or two."""
    return PURPOSES[TrainingRun.Purpose(run.purpose)]


@register.filter
def includes(roles: frozenset[str], role: str) -> bool:
    """Whether the member has the role."""
    return role in roles
