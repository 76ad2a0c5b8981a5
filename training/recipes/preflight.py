"""What is checked before anything is loaded: that this machine and this model can do what is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from training.recipes.adapters import check_saving
from training.recipes.errors import RecipeError
from training.recipes.models import check_qlora, choose_device
from training.recipes.rundir import Run
from training.recipes.spec import LearningSpec, Spec
from training.recipes.spec.estimate import estimate, what_would_fit
from training.recipes.spec.machine import free_disk, free_memory, show_bytes
from training.recipes.spec.shapes import read_shape


def check_start(spec: Spec, run: Run) -> None:
    """Refuse what cannot be done here, in words that say what can; record what the run is thought to need.

    Raises RecipeError bad_spec, bad_model, out_of_memory or disk_full.
    """
    device = choose_device(spec)
    if isinstance(spec, LearningSpec):
        if spec.train.kind == "qlora":
            check_qlora(device)
        check_saving(run, spec)
    if run.is_main:
        check_fit(spec, run, device)


def check_fit(spec: Spec, run: Run, device: torch.device) -> None:
    """Compare the estimate with what is free. A model of a hub that is not here yet is not looked at."""
    models = [spec.model] if isinstance(spec, LearningSpec) else list(spec.models.values())
    shapes = [shape for name in models if (shape := read_shape(run.directory / name))]
    if not shapes:
        return
    largest = max(shapes, key=lambda shape: shape.parameters)
    scorer = getattr(spec, "reward_model", None)
    known: dict[str, Any] = {
        "scorer": read_shape(run.directory / scorer) if scorer else None,
        "longest_row": longest_line(run.directory / next(iter(spec.data.model_dump().values()))),
        "kind": device.type,
    }
    need = estimate(spec, largest, **known)
    run.estimate = {"memory": need.memory, "disk": need.disk, **need.parts}
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    together = need.memory * (getattr(spec, "processes", 1) if device.type == "cpu" else 1)
    if free is not None and together > free:
        ways = what_would_fit(spec, largest, free, **known)
        advice = f"What would fit: {'; '.join(ways)}." if ways else "A smaller model would fit."
        where = "of the accelerator's memory" if device.type == "cuda" else "of memory"
        words = f"About {show_bytes(together)} {where} are needed, {show_bytes(free)} are free. {advice}"
        refuse(spec, run, RecipeError("out_of_memory", words))
    space = free_disk(run.directory)
    if space is not None and need.disk > space:
        words = (
            f"About {show_bytes(need.disk)} of disk are needed for checkpoints and output, "
            f"{show_bytes(space)} are free in {run.directory}: free some space, or train an adapter "
            "(train.kind lora, train.save adapter)."
        )
        refuse(spec, run, RecipeError("disk_full", words))


def refuse(spec: Spec, run: Run, error: RecipeError) -> None:
    """End the run, or only say it where the specification wants to try."""
    if spec.estimate == "refuse":
        raise RecipeError(error.code, f"{error.message} Set estimate to warn to try nevertheless.")
    run.emit("warning", message=error.message)


def longest_line(path: Path) -> int | None:
    """Bytes of the longest row: no tokenizer makes more tokens of it."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return max(map(len, file), default=None)
