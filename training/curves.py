"""From a run's events to what its page shows: curves, held-out measures, samples before and after."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from training.charts import MAX_POINTS, Series, draw_lines, format_value
from training.models import RunEvent, TrainingRun

TABLE_ROWS = 50

# Curves that belong in one picture, by the recipes' names of the metrics, in the order of the page.
PANELS: tuple[tuple[str, dict[str, str]], ...] = (
    (
        _("Loss"),
        {
            "loss": _("training"),
            "eval/loss": _("held out"),
            "loss/policy": _("policy"),
            "loss/value": _("value"),
        },
    ),
    (
        _("Reward"),
        {
            "reward": _("reward"),
            "reward/length_controlled": _("at the start's length"),
            "rewards/chosen": _("chosen"),
            "rewards/rejected": _("rejected"),
        },
    ),
    (_("Reward margin"), {"rewards/margins": _("training"), "eval/rewards/margins": _("held out")}),
    (
        _("Accuracy"),
        {
            "accuracy": _("training"),
            "eval/accuracy": _("held out"),
            "eval/length_accuracy": _("longer one, held out"),
            "eval/matched_accuracy": _("held out, of equal length"),
        },
    ),
    (
        _("Accuracy by strength, held out"),
        {
            "eval/significantly/accuracy": _("significantly"),
            "eval/better/accuracy": _("better"),
            "eval/slightly/accuracy": _("slightly"),
            "eval/negligibly/accuracy": _("negligibly"),
        },
    ),
    (_("Token accuracy"), {"token_accuracy": _("training"), "eval/token_accuracy": _("held out")}),
    (_("KL to the start (nats)"), {"kl": _("per response")}),
    (_("Entropy (nats)"), {"entropy": _("per token"), "eval/entropy": _("held out")}),
    (_("Diversity (share of token pairs that are distinct)"), {"distinct_2": _("responses of a step")}),
    (_("Response length (tokens)"), {"response_length": _("mean")}),
    (_("Learning rate"), {"learning_rate": _("learning rate")}),
)
GROUPED = {name for _, names in PANELS for name in names}


@dataclass(frozen=True)
class Chart:
    """A picture and the same figures as a table."""

    title: str
    svg: SafeString
    labels: list[str]
    rows: list[tuple[int, list[str]]]


@dataclass
class Sample:
    """What was answered to one probe prompt before and after training."""

    prompt: list[dict[str, str]]
    before: str | None = None
    after: str | None = None


@dataclass
class Samples:
    """The probe prompts' answers, with the steps at which they were written."""

    rows: list[Sample] = field(default_factory=list)
    after_step: int | None = None
    finished: bool = False


def read_curves(run: TrainingRun) -> dict[str, list[tuple[float, float]]]:
    """The run's metrics by name, at most MAX_POINTS each, as (step, value) in rising step.

    Two queries, however long the run is. Held-out measures are named `eval/...`.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    kept = [*thin_events(run, "metrics"), *thin_events(run, "evaluation")]
    for event in RunEvent.objects.filter(pk__in=kept).order_by("step", "pk"):
        prefix = "eval/" if event.kind == "evaluation" else ""
        for name, value in event.data.get("values", {}).items():
            if isinstance(value, int | float) and event.step is not None:
                curves.setdefault(prefix + name, []).append((event.step, value))
    return curves


def thin_events(run: TrainingRun, kind: str) -> list[int]:
    """Keys of at most MAX_POINTS events of a kind, evenly over the steps.

    A resumed run goes over the steps after its checkpoint again: what was said later about a step counts, and
    what an earlier attempt said about steps beyond it is forgotten.
    """
    kept: list[tuple[int, int]] = []
    rows = RunEvent.objects.filter(run=run, kind=kind, step__isnull=False).order_by("pk")
    for pk, step in rows.values_list("pk", "step").iterator():
        assert step is not None
        while kept and kept[-1][1] >= step:
            kept.pop()
        kept.append((pk, step))
    if len(kept) > MAX_POINTS:
        kept = [kept[round(i * (len(kept) - 1) / (MAX_POINTS - 1))] for i in range(MAX_POINTS)]
    return [pk for pk, _ in kept]


def draw_curves(curves: dict[str, list[tuple[float, float]]]) -> tuple[list[Chart], list[Chart]]:
    """The charts of the known metrics in the page's order, and one for each other metric."""
    main = []
    for title, names in PANELS:
        series = [Series(gettext(label), curves[name]) for name, label in names.items() if name in curves]
        if chart := draw_chart(gettext(title), series):
            main.append(chart)
    rest = [draw_chart(name, [Series(name, curves[name])]) for name in sorted(curves.keys() - GROUPED)]
    return main, [chart for chart in rest if chart]


def draw_chart(title: str, series: list[Series]) -> Chart | None:
    """One chart with its table of at most TABLE_ROWS rows; None when there is nothing to draw."""
    svg = draw_lines(title, series)
    if not svg:
        return None
    steps = sorted({step for line in series for step, _ in line.points})
    if len(steps) > TABLE_ROWS:
        steps = [steps[round(i * (len(steps) - 1) / (TABLE_ROWS - 1))] for i in range(TABLE_ROWS)]
    values = [dict(line.points) for line in series]
    rows = [
        (int(step), [format_value(line[step]) if step in line else "" for line in values]) for step in steps
    ]
    return Chart(title, svg, [line.label for line in series], rows)


def read_samples(run: TrainingRun) -> Samples:
    """The first answers to the probe prompts beside the newest ones (a query)."""
    samples = Samples()
    by_prompt: dict[str, Sample] = {}
    for event in RunEvent.objects.filter(run=run, kind="samples").order_by("pk"):
        before = event.data.get("phase") == "before"
        if not before:
            samples.after_step, samples.finished = event.step, event.data.get("phase") == "after"
        for row in event.data.get("rows", []):
            sample = by_prompt.setdefault(repr(row["prompt"]), Sample(row["prompt"]))
            if before:
                sample.before = row["response"]
            else:
                sample.after = row["response"]
    samples.rows = list(by_prompt.values())
    return samples


def last_evaluation(run: TrainingRun) -> dict[str, Any]:
    """The newest held-out measures, by the recipe's names; empty when there are none."""
    event = RunEvent.objects.filter(run=run, kind="evaluation").order_by("-pk").first()
    return dict(event.data.get("values", {})) if event else {}
