"""Rejection sampling: the best of many responses, then supervised fine-tuning on them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from training.recipes.spec.online import RewardedSpec
from training.recipes.spec.parts import RunPath, setting
from training.recipes.spec.sources import LLAMA2
from training.recipes.spec.supervised import SupervisedSpec


class RejectionSpec(RewardedSpec, SupervisedSpec):
    """Rejection sampling: answer each prompt many times, keep the best by reward, and imitate those."""

    recipe: Literal["rejection"]
    kept: RunPath | None = setting(
        None,
        "The best responses of earlier rounds (their best.jsonl); they are scored again and stay if they are "
        "still the best.",
        unit="file",
        source=f"{LLAMA2}, sec. 3.2.3",
    )
    samples_per_prompt: int = setting(
        10, "Responses per prompt.", unit="responses", source=f"10 to 100 in {LLAMA2}, fig. 7", ge=1, le=1024
    )
    keep: int = setting(1, "Best responses per prompt that are learned from.", unit="responses", ge=1, le=64)
    temperature: float = setting(
        1.2, "Sampling temperature.", source=f"1.2 to 1.3 in {LLAMA2}, sec. 3.2.3", gt=0, le=5
    )
    sampling_batch_size: int = setting(64, "Responses written at once.", unit="responses", ge=1, le=8192)
    learning_rate: float = setting(2e-5, "Peak step size of AdamW.", source=f"{LLAMA2}, sec. 3.1", gt=0, le=1)

    @model_validator(mode="after")
    def check_one_process(self) -> Self:
        if self.processes > 1:
            raise ValueError("processes: rejection writes its responses in one process; set it to 1")
        if self.patience is not None:
            raise ValueError("patience: rejection has no held-out responses to evaluate; leave it out")
        return self
