"""How far an import is, in the figures that its page shows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from rating.models import Import

# A worker looks every second: an import that waits longer waits for somebody to start one.
LONELY = timedelta(seconds=15)
MIN_SECONDS = 2.0


@dataclass(frozen=True)
class Progress:
    """Per cent done, seconds left in this phase (None while it cannot be told), whether no worker answers."""

    percent: int
    seconds_left: int | None
    lonely: bool


def progress_of(row: Import) -> Progress:
    """The figures of an import that waits or runs."""
    now = timezone.now()
    share = min(1.0, row.done / row.total) if row.total else 0.0
    left: int | None = None
    if row.state == Import.State.RUNNING and row.phase_at is not None and share > 0:
        seconds = (now - row.phase_at).total_seconds()
        if seconds >= MIN_SECONDS:
            left = round(seconds * (1 - share) / share)
    waiting = row.state == Import.State.QUEUED and row.queued_at is not None
    return Progress(int(share * 100), left, bool(waiting and row.queued_at and now - row.queued_at > LONELY))


def shown_digest(row: Import) -> str:
    """What the progress shows, in short: the page asks again only for what is new."""
    lonely = row.active and progress_of(row).lonely
    return f"{row.state}-{row.phase}-{row.done}-{row.total}-{int(row.cancel_requested)}-{int(lonely)}"
