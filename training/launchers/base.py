"""What a launcher is to the trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from training.recipes.spec import Spec


class LaunchError(Exception):
    """The run's process could not be started; says why."""


class Handle(Protocol):
    """A started run."""

    def poll(self) -> int | None:
        """The exit status once the run's process has ended (minus the signal that ended it); None before."""

    def terminate(self) -> None:
        """Ask it to write a checkpoint and end (SIGTERM); it may take a while."""

    def kill(self) -> None:
        """End it now, with all that it started; returns when it is gone."""


class Launcher(Protocol):
    """Starts the recipe of a prepared run directory."""

    def launch(self, run_dir: Path, spec: Spec, *, lock: int) -> Handle:
        """Start `spec` (which lies in run_dir/spec.json). `lock` is a descriptor that the process keeps open.

        Raises:
            LaunchError: it could not be started.
        """
