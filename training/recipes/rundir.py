"""The run directory: the whole contract between a recipe and whoever started it. Imports no torch.

Every write here survives a kill at any moment: events are appended and flushed a line at a time, a checkpoint
counts only with its marker (written last, after everything else is on disk), and the result is renamed into
place.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from training.recipes.spec import CANCEL_FILE, CHECKPOINTS_DIR, EVENTS_FILE, RESULT_FILE, EventKind, Spec

MARKER = "WHOLE"
KEPT_CHECKPOINTS = 2


@dataclass
class Outcome:
    """What a recipe's train() hands back: the result's fields that only it knows."""

    step: int
    total_steps: int
    cancelled: bool = False
    model: str | None = None
    kind: Literal["policy", "reward"] | None = None
    metrics: dict[str, float] = field(default_factory=dict)


class Run:
    """An opened run directory. `stop` is set by SIGTERM; the file `cancel` means the same."""

    def __init__(self, directory: Path, spec: Spec) -> None:
        self.directory = directory.resolve()
        self.spec = spec
        self.stop = False
        self.last_step = 0
        self.total_steps = 0
        self.merge: dict[str, float] | None = None  # what merging an adapter changed, once one was merged
        self.estimate: dict[str, int] | None = None  # what the run was thought to need, in bytes
        self.facts: dict[str, object] = {}  # of the machine: device, precision, attention, processes
        # Of several processes only the first writes here.
        self.is_main = os.environ.get("RANK", "0") == "0"
        self.events = EventLog(self.directory / EVENTS_FILE if self.is_main else Path(os.devnull))

    @property
    def output(self) -> Path:
        return self.directory / self.spec.output

    @property
    def checkpoints(self) -> Path:
        return self.directory / CHECKPOINTS_DIR

    def cancel_requested(self) -> bool:
        return self.stop or (self.directory / CANCEL_FILE).exists()

    def emit(self, kind: EventKind, **fields: Any) -> None:
        self.last_step = fields.get("step", self.last_step)
        self.total_steps = fields.get("total_steps", self.total_steps)
        self.events.emit(kind, **fields)

    def emit_values(self, kind: EventKind, step: int, values: Mapping[str, object]) -> None:
        """Emit numbers by name; what is not finite is left out, for JSON has no word for it."""
        self.emit(kind, step=step, values=finite_numbers(values))

    def started(
        self, total_steps: int, resumed_from: int | None, device: object, parameters: dict[str, int]
    ) -> None:
        self.emit(
            "started",
            total_steps=total_steps,
            resumed_from=resumed_from,
            device=str(device),
            versions=package_versions(),
            parameters=parameters,
        )

    def last_checkpoint(self) -> tuple[int, Path] | None:
        """The newest whole checkpoint as (step, folder); what a kill left half-written is removed."""
        found: list[tuple[int, Path]] = []
        for path in self.checkpoints.glob("checkpoint-*"):
            match = re.fullmatch(r"checkpoint-(\d+)", path.name)
            if match and (path / MARKER).is_file():
                found.append((int(match[1]), path))
            elif self.is_main:
                shutil.rmtree(path)
        return max(found, default=None)

    def finish_checkpoint(self, path: Path, step: int) -> None:
        """Mark a written checkpoint as whole: its files reach the disk first, the marker last."""
        if not self.is_main:
            return
        sync_tree(path)
        write_atomically(path / MARKER, f"{step}\n")
        sync_directory(path.parent)
        self.emit("checkpoint", step=step)

    def drop_old_checkpoints(self) -> None:
        """Keep the newest whole ones only."""
        whole = [path for path in self.checkpoints.glob("checkpoint-*") if (path / MARKER).is_file()]
        whole.sort(key=lambda path: int(path.name.split("-")[1]))
        for path in whole[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(path)


class SecondPhase(Run):
    """A run whose first phase took so many steps: the steps of the second are told counted on from there."""

    def __init__(self, first: Run, steps_before: int) -> None:
        super().__init__(first.directory, first.spec)
        self.first = first
        self.steps_before = steps_before

    def cancel_requested(self) -> bool:
        return self.first.cancel_requested()

    def emit(self, kind: EventKind, **fields: Any) -> None:
        for name in ("step", "total_steps", "resumed_from"):
            if fields.get(name) is not None:
                fields[name] += self.steps_before
        self.first.emit(kind, **fields)


class EventLog:
    """events.jsonl, appended: one JSON object a line, numbered on from where the file ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seq = 0
        if path.exists():
            lines = keep_whole_lines(path)
            self.seq = json.loads(lines[-1])["seq"] if lines else 0

    def emit(self, kind: EventKind, **fields: Any) -> None:
        self.seq += 1
        line = {"seq": self.seq, "time": time.time(), "event": kind, **fields}
        with self.path.open("a", encoding="utf-8", errors="replace") as file:
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


def keep_whole_lines(path: Path) -> list[str]:
    """The file's lines, after a last one that a kill cut short was removed from the file."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        os.truncate(path, len(whole))
    return whole.decode("utf-8").splitlines()


def package_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("torch", "transformers", "trl", "peft"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def finite_numbers(values: Mapping[str, object]) -> dict[str, float]:
    numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
    return {name: number for name, number in numbers.items() if math.isfinite(number)}


def write_result(directory: Path, result: dict[str, Any]) -> None:
    """Write result.json whole or not at all."""
    write_atomically(directory / RESULT_FILE, json.dumps(result, indent=2, allow_nan=False) + "\n")


def read_result(directory: Path) -> dict[str, Any] | None:
    path = directory / RESULT_FILE
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def write_atomically(path: Path, text: str) -> None:
    """Temporary file, fsync, rename, fsync of the folder: after a crash the old or the new file is there,
    whole.
    """
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def sync_tree(path: Path) -> None:
    for entry in sorted(path.rglob("*")):
        if entry.is_file():
            with entry.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_directory(entry)
    sync_directory(path)


def sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_tree(path: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file below."""
    files = sorted(entry for entry in path.rglob("*") if entry.is_file())
    return {entry.relative_to(path).as_posix(): hash_file(entry) for entry in files}
