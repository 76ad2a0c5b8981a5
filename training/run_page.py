"""What a run's page shows, read from its rows and its directory."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.utils.translation import gettext

from training.curves import draw_curves, last_evaluation, read_curves, read_samples
from training.explanations import explain_error
from training.glance import time_left
from training.models import Evaluation, RunEvent, TrainingRun
from training.recipe_words import TRAINABLE, recipe_purpose, recipe_title
from training.recipes.spec import RECIPES
from training.services.claims import NOTE
from training.services.runs import CANCELLATIONS, settable_fields
from training.services.sentences import Sentence, retell
from training.settings_form import default_of, show_value

LOG_FILE = "log.txt"
TAIL_LINES = 200
TAIL_BYTES = 64 * 1024
MOST_NOTES = 50


def read_progress(run: TrainingRun) -> dict[str, Any]:
    """What moves while the run runs: progress, curves, samples, the end of the log."""
    main, others = draw_curves(read_curves(run))
    return {
        "project": run.project,
        "run": run,
        "title": recipe_title(run.recipe),
        "active": run.state in (TrainingRun.State.QUEUED, TrainingRun.State.RUNNING),
        "left": time_left([run]).get(run.pk) if run.state == TrainingRun.State.RUNNING else None,
        "waits_for": waits_for(run),
        "charts": main,
        "other_charts": others,
        "samples": read_samples(run),
        "held_out": last_evaluation(run),
        "tail": read_tail(run.directory / LOG_FILE),
    }


def read_run(run: TrainingRun) -> dict[str, Any]:
    """Everything on the page of a run."""
    result = run.result or {}
    environment = result.get("environment") or {}
    started = RunEvent.objects.filter(run=run, kind="started").order_by("-pk").first()
    changed, rest = describe_settings(run)
    return read_progress(run) | {
        "compared": find_comparison(run),
        "sampled_for": Evaluation.objects.filter(sampling_run=run).first(),
        "purpose": recipe_purpose(run.recipe),
        "explanation": explain_error(run.error_code) if run.state == TrainingRun.State.FAILED else None,
        "ending": retell(run.error_message, CANCELLATIONS),
        "notes": read_notes(run),
        "changed": changed,
        "rest": rest,
        "can_clone": run.recipe in TRAINABLE,
        "started": started.data if started else {},
        "versions": (started.data.get("versions") if started else None) or environment.get("versions"),
        "rows": count_rows(run),
        "environment": environment,
        "datasets": result.get("dataset") or {},
        "metrics": sorted((result.get("metrics") or {}).items()),
        "command": repeat_command(run),
    }


@dataclass(frozen=True)
class Note:
    """A warning of the recipe or a note of the trainer."""

    when: datetime
    message: str


def read_notes(run: TrainingRun) -> list[Note]:
    """Warnings of the recipe and notes of the trainer, in their order; the newest MOST_NOTES of them."""
    events = RunEvent.objects.filter(run=run, kind__in=("warning", NOTE)).order_by("-pk")[:MOST_NOTES]
    return [Note(event.happened_at, tell_event(event)) for event in reversed(events)]


def tell_event(event: RunEvent) -> str:
    """A note in the reader's language; a warning in the recipe's own words."""
    kept = event.data.get("sentences", []) if event.kind == NOTE else []
    told = [said if isinstance(said, str) else Sentence(**said).tell() for said in kept]
    return " ".join(told) or str(event.data.get("message", ""))


def waits_for(run: TrainingRun) -> str:
    """Why a queued run has not started yet, in words; empty for any other."""
    if run.state != TrainingRun.State.QUEUED:
        return ""
    if run.after is not None and run.after.state != TrainingRun.State.SUCCEEDED:
        return gettext("It starts when run %(number)s has succeeded.") % {"number": run.after.number}
    ahead = TrainingRun.objects.filter(state=TrainingRun.State.QUEUED, pk__lt=run.pk).count()
    running = TrainingRun.objects.filter(state=TrainingRun.State.RUNNING).count()
    if ahead or running:
        # Translators: two counts of runs, as in "1 running and 2 queued before it."
        sentence = gettext("%(running)s running and %(queued)s queued before it.")
        return sentence % {"running": running, "queued": ahead}
    return gettext("It starts as soon as the trainer looks.")


def read_tail(path: Path) -> str:
    """The last lines of a log, at most TAIL_LINES and TAIL_BYTES; empty when there is no log."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            data = file.read()
    except OSError:
        return ""
    lines = data.decode("utf-8", errors="replace").replace("\x00", "").splitlines()
    whole = lines[1:] if size > TAIL_BYTES else lines
    return "\n".join(whole[-TAIL_LINES:])


def describe_settings(run: TrainingRun) -> tuple[list[tuple[str, str, str]], list[tuple[str, str]]]:
    """The settings that differ, as (name, value, what the default is), and all others, as (name, value)."""
    if run.recipe not in RECIPES:
        return [], []
    changed: list[tuple[str, str, str]] = []
    rest: list[tuple[str, str]] = []
    for field in settable_fields(run.recipe):
        info = RECIPES[run.recipe].model_fields[field]
        default = default_of(field, info)
        value = run.settings.get(field, default)
        defaults = dict(spread(field, default))
        for name, inner in spread(field, value):
            text = show_value(inner)
            if field in run.settings and (name not in defaults or inner != defaults[name]):
                changed.append((name, text, say_default(name, defaults)))
            else:
                rest.append((name, text))
    return changed, rest


def spread(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A setting as (name, value); a part as its fields, `train.r` and so on."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from spread(f"{name}.{key}", inner)
    else:
        yield name, value


def say_default(name: str, defaults: Mapping[str, Any]) -> str:
    """What a changed setting is when it is left alone; a part that is switched off has no fields."""
    if name in defaults and defaults[name] is None:
        return gettext("not set by default")
    if name in defaults:
        return gettext("default %(value)s") % {"value": show_value(defaults[name])}
    if any(other.startswith(f"{name}.") for other in defaults):
        return gettext("on by default")
    return gettext("off by default")


def find_comparison(run: TrainingRun) -> Evaluation | None:
    """The newest evaluation of the model version that the run made."""
    if run.model_version_id is None:
        return None
    return Evaluation.objects.filter(candidate=run.model_version_id).select_related("baseline").first()


def count_rows(run: TrainingRun) -> list[tuple[str, int]]:
    """The snapshot's files that have rows, with how many."""
    counts = run.snapshot.counts if run.snapshot else {}
    return [(name, count) for name, count in counts.get("rows", {}).items() if count]


def repeat_command(run: TrainingRun) -> str:
    """The commands that repeat the run by hand, in a copy of its directory."""
    source = run.directory
    parts = " ".join(shlex.quote(str(source / name)) for name in ("spec.json", "data", "models"))
    return f"mkdir again && cp -r {parts} again/\npython -m training.recipes.run again/spec.json"
