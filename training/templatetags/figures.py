"""Figures as people read them: shares, durations, moments, e-values, states; in the reader's language."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from django import template
from django.utils.formats import date_format
from django.utils.translation import gettext, gettext_noop, pgettext, pgettext_lazy

from training.models import TrainingRun
from training.numbers import localize_count, localize_decimal, localize_share

register = template.Library()

PURPOSES = {
    TrainingRun.Purpose.TRAIN: gettext_noop("Training"),
    TrainingRun.Purpose.EVALUATE: gettext_noop("Evaluation"),
    TrainingRun.Purpose.COLLECT: gettext_noop("New responses"),
}
# What the recipes call the weights that they count.
WEIGHTS = {"total": gettext_noop("Weights in all"), "trainable": gettext_noop("Weights that learn")}
# d, h, min and s are days, hours, minutes and seconds. Two units that follow one another, and each alone.
DURATIONS = {
    ("d", "h"): gettext_noop("%(d)s d %(h)s h"),
    ("h", "min"): gettext_noop("%(h)s h %(min)s min"),
    ("min", "s"): gettext_noop("%(min)s min %(s)s s"),
    ("d",): gettext_noop("%(d)s d"),
    ("h",): gettext_noop("%(h)s h"),
    ("min",): gettext_noop("%(min)s min"),
    ("s",): gettext_noop("%(s)s s"),
}
# In the notation of Django's date filter; a language may order the parts as it is used to.
MOMENTS = {
    "full": pgettext_lazy("date format", "j M Y, H:i"),
    "seconds": pgettext_lazy("date format", "j M Y, H:i:s"),
    "short": pgettext_lazy("date format", "j M, H:i"),
    "short_seconds": pgettext_lazy("date format", "j M, H:i:s"),
    "weekday": pgettext_lazy("date format", "D j M, H:i"),
    "weekday_full": pgettext_lazy("date format", "D j M Y, H:i"),
}


@register.filter
def percent(share: float | None) -> str:
    """A share between 0 and 1 as per cent with one digit; a dash when it was not measured."""
    return "–" if share is None else localize_share(share)


@register.filter(expects_localtime=True)
def moment(value: datetime | None, form: str = "full") -> str:
    """A date and time in the language's own order; empty for none. The forms are those of MOMENTS."""
    return "" if value is None else date_format(value, str(MOMENTS[form]))


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
    shown = {unit: amount for unit, amount in units[first : first + 2] if amount} or {"s": 0}
    return gettext(DURATIONS[tuple(shown)]) % shown


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
    return localize_count(round(value)) if abs(value) >= 1000 else localize_decimal(f"{value:.3g}")


@register.filter
def run_state(run: TrainingRun) -> str:
    """The state's key for the style sheet; a running run that is asked to stop is `cancelling`."""
    if run.state == TrainingRun.State.RUNNING and run.cancel_requested_at:
        return "cancelling"
    return run.state


@register.filter
def run_state_word(run: TrainingRun) -> str:
    """The state in a word."""
    if run_state(run) == "cancelling":
        return pgettext("run state", "Stopping")
    return str(run.get_state_display())


@register.filter
def purpose_word(run: TrainingRun) -> str:
    """What the run is for, in a word or two."""
    return gettext(PURPOSES[TrainingRun.Purpose(run.purpose)])


@register.filter
def weights_word(kind: str) -> str:
    """Which weights of a model were counted, in words; a kind that is not known by its own name."""
    return gettext(WEIGHTS[kind]) if kind in WEIGHTS else gettext("Weights: %(kind)s") % {"kind": kind}


@register.filter
def whole(count: float) -> int:
    """A measured count as the whole number that it is: plural forms ask for one."""
    return round(count)


@register.filter
def includes(roles: frozenset[str], role: str) -> bool:
    """Whether the member has the role."""
    return role in roles
