"""Recipes that learn from a fixed set of rows: what they share, and supervised fine-tuning."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from training.recipes.spec.parts import LearningSpec, Probes, setting
from training.recipes.spec.sources import LLAMA2


class SupervisedSpec(LearningSpec):
    """What the recipes with a fixed dataset share."""

    epochs: float = setting(
        1.0, "Passes over the training rows.", unit="epochs", source=LLAMA2, gt=0, le=1000
    )
    max_steps: int | None = setting(
        None, "Stop after so many steps, whatever epochs says.", unit="steps", ge=1, le=10_000_000
    )
    batch_size: int = setting(8, "Rows in one forward pass.", unit="rows", ge=1, le=4096)
    processes: int = setting(
        1,
        "Processes on this machine, each with batches of its own, so that a step sees so many times more "
        "rows; each has an accelerator of its own, where there are any.",
        unit="processes",
        ge=1,
        le=64,
    )
    gradient_accumulation: int = setting(1, "Forward passes per step.", ge=1, le=4096)
    warmup_ratio: float = setting(
        0.03, "Share of the steps in which the step size grows.", unit="share", source=LLAMA2, ge=0, le=1
    )
    schedule: Literal["linear", "cosine", "constant"] = setting(
        "cosine", "How the step size falls after the warm-up."
    )
    min_learning_rate_ratio: float = setting(
        0.1,
        "Where the cosine schedule ends, as a share of the peak; the others end at 0 or stay.",
        unit="share",
        source=f"{LLAMA2}, sec. 3.2.2",
        ge=0,
        le=1,
    )
    eval_every: int | None = setting(
        None, "Evaluate every so many steps; null: only at the end.", unit="steps", ge=1, le=1_000_000
    )
    patience: int | None = setting(
        None,
        "Stop after so many evaluations in a row without a better one, and keep the best model; null: train "
        "to the end and keep the last.",
        unit="evaluations",
        ge=1,
        le=10_000,
    )
    best_by: Literal["loss", "accuracy"] = setting(
        "loss", "What patience calls better: a lower held-out loss, or a higher accuracy."
    )

    @model_validator(mode="after")
    def check_patience(self) -> Self:
        if self.patience is not None and self.eval_every is None:
            raise ValueError("eval_every: patience counts evaluations; say how often there is one")
        if self.patience is not None and self.data.eval is None:
            raise ValueError("data.eval: patience needs held-out rows")
        return self


class SftSpec(SupervisedSpec):
    """Supervised fine-tuning: imitate given responses, or the chosen ones of pairs."""

    recipe: Literal["sft"]
    learning_rate: float = setting(2e-5, "Peak step size of AdamW.", source=f"{LLAMA2}, sec. 3.1", gt=0, le=1)
    weight_decay: float = setting(0.1, "Decoupled weight decay.", source=f"{LLAMA2}, sec. 3.1", ge=0, le=1)
    epochs: float = setting(
        2.0, "Passes over the rows.", unit="epochs", source=f"{LLAMA2}, sec. 3.1", gt=0, le=1000
    )
    packing: bool = setting(
        False,
        "Lay short rows end to end in sequences of max_length: fuller batches. Each row sees itself only.",
        source="arXiv 2404.10830",
    )
    probes: Probes | None = setting(None, "Prompts answered before and after training.")

    @model_validator(mode="after")
    def check_packing(self) -> Self:
        if self.packing and self.train.kind in ("prompt", "prefix"):
            raise ValueError(
                "packing: virtual tokens stand before a whole sequence, not before each row in it"
            )
        return self
