"""Recipes that learn from a fixed set of rows: what they share, and supervised fine-tuning."""

from __future__ import annotations

from typing import Literal

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
    gradient_accumulation: int = setting(1, "Forward passes per step.", ge=1, le=4096)
    warmup_ratio: float = setting(
        0.03, "Share of the steps in which the step size grows.", unit="share", source=LLAMA2, ge=0, le=1
    )
    schedule: Literal["linear", "cosine", "constant"] = setting(
        "cosine", "How the step size falls after the warm-up."
    )
    eval_every: int | None = setting(
        None, "Evaluate every so many steps; null: only at the end.", unit="steps", ge=1, le=1_000_000
    )


class SftSpec(SupervisedSpec):
    """Supervised fine-tuning: imitate given responses."""

    recipe: Literal["sft"]
    learning_rate: float = setting(2e-5, "Peak step size of AdamW.", source=f"{LLAMA2}, sec. 3.1", gt=0, le=1)
    weight_decay: float = setting(0.1, "Decoupled weight decay.", source=f"{LLAMA2}, sec. 3.1", ge=0, le=1)
    epochs: float = setting(
        2.0, "Passes over the rows.", unit="epochs", source=f"{LLAMA2}, sec. 3.1", gt=0, le=1000
    )
    probes: Probes | None = setting(None, "Prompts answered before and after training.")
