"""Reading a run's events.jsonl into rows, as it grows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from training.models import RunEvent, TrainingRun
from training.recipes.spec import EVENTS_FILE
from training.services.claims import held
from training.services.storable import forget_number, make_storable, read_json

MAX_BYTES = 4_000_000


def store_new_events(run: TrainingRun, attempt: int) -> int:
    """Store the whole lines that events.jsonl has gained, once, and move the run's step on; returns how many.

    A last line without its end is left for the next call. Nothing is stored when the run is no longer this
    attempt's.
    """
    chunk = read_chunk(run)
    if not chunk:
        return 0
    events = [parse_event(run, attempt, line) for line in chunk.split(b"\n")[:-1] if line.strip()]
    changes: dict[str, Any] = {"events_offset": run.events_offset + len(chunk)}
    for event in events:
        if event.step is not None:
            changes["step"] = event.step
        if is_count(event.data.get("total_steps")):
            changes["total_steps"] = event.data["total_steps"]
    with transaction.atomic():
        if held(run, attempt).filter(events_offset=run.events_offset).update(**changes) != 1:
            return 0
        RunEvent.objects.bulk_create(events)
    for name, value in changes.items():
        setattr(run, name, value)
    return len(events)


def read_chunk(run: TrainingRun) -> bytes:
    """The bytes after those read before, up to the last whole line; at most a few megabytes at a time."""
    path = run.directory / EVENTS_FILE
    if not path.exists():
        return b""
    with path.open("rb") as file:
        file.seek(run.events_offset)
        chunk = file.read(MAX_BYTES)
        # A single line that is longer than a chunk is read to its end.
        while chunk and b"\n" not in chunk and (more := file.read(MAX_BYTES)):
            chunk += more
    return chunk[: chunk.rfind(b"\n") + 1]


def parse_event(run: TrainingRun, attempt: int, line: bytes) -> RunEvent:
    """One line as an unsaved row; a line that is damaged becomes a warning that says so."""
    try:
        data = read_json(line.decode("utf-8", "replace"), odd_number=forget_number)
    except ValueError:
        data = None
    if not isinstance(data, dict) or not isinstance(data.get("event"), str) or not has_its_shape(data):
        text = line[:200].decode("utf-8", "replace")
        data = {"event": "warning", "message": f"A line of {EVENTS_FILE} cannot be read: {text}"}
    data = make_storable(data)
    data.pop("seq", None)
    kind, seconds, step = data.pop("event"), data.pop("time", None), data.pop("step", None)
    return RunEvent(
        run=run,
        attempt=attempt,
        kind=kind[:20],
        step=step if is_count(step) else None,
        data=data,
        happened_at=time_of(seconds),
    )


def has_its_shape(data: dict[str, Any]) -> bool:
    """Whether what pages read of an event is there, and is of the kind that they expect."""
    kind = data["event"]
    if kind in ("metrics", "evaluation"):
        return is_figures(data.get("values", {}))
    if kind == "samples":
        rows = data.get("rows", [])
        return isinstance(rows, list) and all(map(is_sample, rows))
    if kind == "started":
        return all(isinstance(data.get(name, {}), dict) for name in ("parameters", "versions"))
    return True


def is_figures(value: object) -> bool:
    """Whether it is figures by their names; one that was no number is None."""
    return isinstance(value, dict) and all(
        one is None or isinstance(one, int | float) for one in value.values()
    )


def is_sample(row: object) -> bool:
    """Whether it is a conversation and the response to it."""
    if not isinstance(row, dict) or not isinstance(row.get("response"), str):
        return False
    messages = row.get("prompt")
    return isinstance(messages, list) and all(
        isinstance(one, dict) and isinstance(one.get("role"), str) and isinstance(one.get("content"), str)
        for one in messages
    )


def is_count(value: object) -> bool:
    """Whether the value can be stored as a step."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def time_of(seconds: object) -> datetime:
    """Seconds since 1970 as a time; now where that is none."""
    if isinstance(seconds, int | float):
        try:
            return datetime.fromtimestamp(seconds, UTC)
        except (OverflowError, OSError, ValueError):
            pass
    return timezone.now()
