"""What a run will need, for the page that starts it: the recipes' own estimate beside what there is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings as site

from rating.models import ModelVersion
from training.models import DatasetSnapshot
from training.recipes.spec import SpecError, parse_spec
from training.recipes.spec.estimate import Estimate, estimate, what_would_fit
from training.recipes.spec.machine import free_disk, free_memory
from training.recipes.spec.shapes import ModelShape, read_shape
from training.services.rundirs import SNAPSHOT_STEMS
from training.services.runs import RunError, complete_spec
from training.services.versions import is_hub_id

NVIDIA = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class RunEstimate:
    """What a run needs and what there is, in bytes and seconds; None where it is not known."""

    need: Estimate
    memory_free: int | None
    disk_free: int | None
    ways: list[str]
    on_accelerator: bool

    @property
    def lacks_memory(self) -> bool:
        """Whether the memory of this machine is thought not to be enough."""
        return self.memory_free is not None and self.need.memory > self.memory_free

    @property
    def lacks_disk(self) -> bool:
        """Whether the disk of the runs is thought not to be enough."""
        return self.disk_free is not None and self.need.disk > self.disk_free

    @property
    def minutes(self) -> int | None:
        """The time in whole minutes, at least one."""
        return None if self.need.seconds is None else max(1, round(self.need.seconds / 60))


def estimate_run(
    recipe: str,
    settings: Mapping[str, Any],
    policy: ModelVersion | None,
    snapshot: DatasetSnapshot | None = None,
    reward_model: ModelVersion | None = None,
) -> RunEstimate | None:
    """The estimate of a run with these settings; None where the model's files are not on this machine.

    Reads the headers of the model's files, never its weights. An accelerator's free memory is not known here:
    the run itself compares with it before it starts.
    """
    shape = shape_of(policy)
    if shape is None:
        return None
    try:
        spec = parse_spec(complete_spec(recipe, settings))
    except (RunError, SpecError):
        return None
    on_accelerator = NVIDIA.exists() and spec.device == "auto"
    known: dict[str, Any] = {"scorer": shape_of(reward_model), "kind": "cuda" if on_accelerator else "cpu"}
    rows: dict[str, Any] = describe_rows(recipe, snapshot)
    need = estimate(spec, shape, **known, **rows)
    free = None if on_accelerator else free_memory()
    short = free is not None and need.memory > free
    return RunEstimate(
        need=need,
        memory_free=free,
        disk_free=free_disk(Path(site.RUNS_DIR)),
        ways=what_would_fit(spec, shape, free, **known) if short and free is not None else [],
        on_accelerator=on_accelerator,
    )


def shape_of(version: ModelVersion | None) -> ModelShape | None:
    """The shape of the version's whole model."""
    if version is None or not version.base or is_hub_id(version.base):
        return None
    return read_shape(Path(version.base))


def describe_rows(recipe: str, snapshot: DatasetSnapshot | None) -> dict[str, int]:
    """The number of rows that are learned from and their mean length in bytes, from the file's size."""
    if snapshot is None or recipe not in SNAPSHOT_STEMS:
        return {}
    name = f"{SNAPSHOT_STEMS[recipe]}.train.jsonl"
    rows = int(snapshot.counts.get("rows", {}).get(name, 0))
    path = snapshot.directory / name
    if not rows or not path.is_file():
        return {}
    return {"rows": rows, "row_bytes": path.stat().st_size // rows}
