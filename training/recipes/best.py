"""Early stopping: the evaluations so far, and the weights of the best, kept beside the checkpoints."""

from __future__ import annotations

import json
import shutil
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from training.recipes.errors import RecipeError
from training.recipes.rundir import Run, write_atomically
from training.recipes.spec import SupervisedSpec

FOLDER = "best"
WEIGHTS = "weights.safetensors"
HISTORY = "history.json"


class Best:
    """Remembers each evaluation as (step, value), lower is better, and the trained weights of the best.

    What a resumed run evaluates again it finds the same, so evaluations after its checkpoint are forgotten.
    """

    def __init__(self, run: Run, spec: SupervisedSpec, resumed_from: int | None) -> None:
        self.run, self.spec = run, spec
        self.folder = run.checkpoints / FOLDER
        self.history: list[tuple[int, float]] = []
        if resumed_from is None and run.is_main:
            shutil.rmtree(self.folder, ignore_errors=True)
        if resumed_from is not None and (self.folder / HISTORY).is_file():
            rows = json.loads((self.folder / HISTORY).read_text("utf-8"))
            self.history = [(step, value) for step, value in rows if step <= resumed_from]

    @property
    def step(self) -> int:
        """The step of the best evaluation."""
        return min(self.history, key=lambda row: row[1])[0]

    @property
    def exhausted(self) -> bool:
        """Whether the patience is at an end."""
        since = sum(step > self.step for step, _ in self.history)
        return self.spec.patience is not None and since >= self.spec.patience

    def record(self, step: int, values: dict[str, Any], model: Any) -> None:
        """Take an evaluation in; the weights are kept where it is the best so far."""
        if any(seen == step for seen, _ in self.history):
            return
        self.history.append((step, self.value_of(values)))
        if not self.run.is_main:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.step == step:
            temporary = self.folder / f"{WEIGHTS}.tmp"
            save_file({name: p.detach().contiguous() for name, p in trained(model)}, temporary)
            temporary.replace(self.folder / WEIGHTS)
        write_atomically(self.folder / HISTORY, json.dumps(self.history))

    def value_of(self, values: dict[str, Any]) -> float:
        if self.spec.best_by == "loss":
            if "loss" not in values:
                raise RecipeError(
                    "bad_spec", "best_by: this recipe measures no loss here; set it to accuracy"
                )
            return float(values["loss"])
        measured = [values[name] for name in ("accuracy", "token_accuracy") if name in values]
        if not measured:
            raise RecipeError("bad_spec", "best_by: this recipe measures no accuracy here; set it to loss")
        return -float(measured[0])

    def restore(self, model: Any) -> None:
        """Bring back the best weights."""
        weights = load_file(self.folder / WEIGHTS)
        with torch.no_grad():
            for name, parameter in trained(model):
                parameter.copy_(weights[name])


def trained(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]
