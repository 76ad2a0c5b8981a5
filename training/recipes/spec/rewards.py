"""Reward models."""

from __future__ import annotations

from typing import Literal

from training.recipes.spec.parts import setting
from training.recipes.spec.sources import LLAMA2
from training.recipes.spec.supervised import SupervisedSpec


class RewardSpec(SupervisedSpec):
    """A reward model: a score of a response, fitted to preferences with the Bradley-Terry loss."""

    recipe: Literal["reward"]
    learning_rate: float = setting(
        1e-5, "Peak step size of AdamW.", source=f"{LLAMA2}, sec. 3.2.2", gt=0, le=1
    )
    use_margin: bool = setting(
        True, "Ask for a larger score difference where the row has a margin.", source=f"{LLAMA2}, eq. 2"
    )
    center_coefficient: float | None = setting(
        None, "Weight of a penalty that keeps scores around zero.", source="arXiv 2312.09244", ge=0, le=10
    )
