"""Trainer processes: their names, whether they live, and the heartbeat that pages read.

The heartbeat is a file per trainer in RATCHET_HOME/trainers: snapshots and run directories are there too, so
whoever shows or works on runs sees that folder in any case, and the database is spared a write a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from django.conf import settings

from training.services.files import write_atomically

STALE_SECONDS = 30.0


@dataclass(frozen=True)
class TrainerStatus:
    """Whether a trainer is there, when one last gave a sign of life, its name, and the id of its run."""

    running: bool
    seen_at: datetime | None = None
    worker: str = ""
    run_id: int | None = None


@cache
def this_place() -> str:
    """This boot of this machine, as seen by this process: process ids mean something only within it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        boot, namespace = "-", "-"
    return f"{platform.node()[:60]} {boot} {namespace}"


def worker_name(pid: int | None = None) -> str:
    """The name under which this process (or the one with that id) claims runs; no other has it, ever."""
    pid = pid or os.getpid()
    return f"{this_place()} {pid} {start_of_process(pid)}"


def start_of_process(pid: int) -> str:
    """When the process started, in the kernel's ticks; "" when it is dead, "0" where it cannot be told."""
    try:
        # The name in parentheses may hold anything; after it the state is 1st and the start time 20th.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "0" if is_alive_elsewhere(pid) else ""
    return "" if fields[0] in "ZX" else fields[19]


def is_alive_elsewhere(pid: int) -> bool:
    """Whether the process lives, on systems without /proc."""
    if Path("/proc/self").exists():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_known_dead(worker: str) -> bool:
    """Whether the name is that of a process of this very place that is gone; False when it cannot be told."""
    place, pid, start = worker.rsplit(" ", 2) if worker.count(" ") >= 2 else ("", "", "")
    if place != this_place() or not pid.isdigit():
        return False
    return start_of_process(int(pid)) != start


def heartbeat_dir() -> Path:
    """Where the trainers' signs of life are."""
    return Path(settings.HOME) / "trainers"


def heartbeat_path(worker: str) -> Path:
    """The worker's own file."""
    return heartbeat_dir() / ("".join(char if char.isalnum() else "-" for char in worker) + ".json")


def write_heartbeat(worker: str, *, run_id: int | None = None, good_for: float = STALE_SECONDS) -> None:
    """Say that this trainer lives, and for how many seconds to believe it."""
    now = time.time()
    beat = {"worker": worker, "run": run_id, "time": now, "until": now + good_for}
    heartbeat_dir().mkdir(parents=True, exist_ok=True)
    write_atomically(heartbeat_path(worker), [json.dumps(beat)])


def remove_heartbeat(worker: str) -> None:
    """Say that this trainer has stopped; a file that cannot be removed is soon too old to be believed."""
    with contextlib.suppress(OSError):
        heartbeat_path(worker).unlink()


def sweep_heartbeats() -> None:
    """Remove what trainers of this machine that were killed have left."""
    for path, beat in read_heartbeats():
        if is_known_dead(str(beat.get("worker", ""))):
            path.unlink(missing_ok=True)


def read_heartbeats() -> list[tuple[Path, dict[str, object]]]:
    """Every heartbeat file that can be read, with what it says."""
    beats: list[tuple[Path, dict[str, object]]] = []
    for path in sorted(heartbeat_dir().glob("*.json")):
        try:
            beat = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            continue  # removed or replaced at this moment
        if isinstance(beat, dict):
            beats.append((path, beat))
    return beats


def trainer_status() -> TrainerStatus:
    """Whether any trainer runs, by the newest sign of life."""
    now = time.time()
    newest = TrainerStatus(running=False)
    for _, beat in read_heartbeats():
        seen, until, run = beat.get("time"), beat.get("until"), beat.get("run")
        if not isinstance(seen, int | float) or not isinstance(until, int | float):
            continue
        worker = str(beat.get("worker", ""))
        status = TrainerStatus(
            running=until > now and not is_known_dead(worker),
            seen_at=datetime.fromtimestamp(seen, UTC),
            worker=worker,
            run_id=run if isinstance(run, int) else None,
        )
        if newest.seen_at is None or (status.running, status.seen_at) > (newest.running, newest.seen_at):
            newest = status
    return newest
