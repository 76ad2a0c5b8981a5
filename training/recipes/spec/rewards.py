"""Reward models: from comparisons, from rankings, from ratings of single responses."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from training.recipes.spec.parts import ModelKey, setting
from training.recipes.spec.sources import INSTRUCTGPT, LLAMA2
from training.recipes.spec.supervised import SupervisedSpec

REWARD_RECIPES = ("reward", "reward_ranking", "reward_rating")
STRENGTHS = ("significantly", "better", "slightly", "negligibly")
CENTERING = "Eisenstein et al. 2023, arXiv 2312.09244"
HELPSTEER = "HelpSteer2-Preference, arXiv 2410.01257"


class ScoredSpec(SupervisedSpec):
    """What the recipes that make a reward model share."""

    learning_rate: float = setting(
        1e-5, "Peak step size of AdamW.", source=f"{LLAMA2}, sec. 3.2.2", gt=0, le=1
    )
    heads: list[ModelKey] = setting(
        [],
        "Names of the scores, one head each, such as helpfulness, safety; empty: one score from every row. "
        "Rows of other heads are left out, so that a single name makes a separate model.",
        source=f"two models in {LLAMA2}, sec. 3.2.2",
        max_length=32,
    )
    ensemble: int = setting(
        1,
        "Heads per score, each from its own seed and its own resample of the rows; the score is their mean, "
        "their deviation says how sure it is.",
        unit="members",
        source="Poisson resampling: Oza and Russell 2001",
        ge=1,
        le=64,
    )
    center_coefficient: float | None = setting(
        None, "Weight of a penalty that keeps scores around zero.", source=CENTERING, ge=0, le=10
    )
    agreement: float | None = setting(
        None,
        "Share of pairs on which two raters agree, where it was measured: the report then tells the best "
        "accuracy that such labels allow.",
        unit="share",
        ge=0.5,
        le=1,
    )

    @model_validator(mode="after")
    def check_heads(self) -> Self:
        if len(set(self.heads)) < len(self.heads):
            raise ValueError("heads: every name must be there once")
        return self


class ComparedSpec(ScoredSpec):
    """What the reward models from comparisons and from rankings share: what a tie says."""

    loss: str
    tie_parameter: float | None = setting(
        None,
        "How likely ties are: Davidson's nu or Rao and Kupper's threshold in nats; null: learned.",
        source="Davidson 1970; Rao and Kupper 1967",
        gt=0,
        le=100,
    )

    @model_validator(mode="after")
    def check_ties(self) -> Self:
        if self.tie_parameter is not None and not self.models_ties:
            raise ValueError("tie_parameter: only davidson and rao_kupper use it; leave it out")
        return self

    @property
    def models_ties(self) -> bool:
        return self.loss in ("davidson", "rao_kupper")


class RewardSpec(ComparedSpec):
    """A reward model: a score of a response, fitted to pairs of which one was preferred."""

    recipe: Literal["reward"]
    loss: Literal["bradley_terry", "scaled", "davidson", "rao_kupper"] = setting(
        "bradley_terry",
        "bradley_terry asks for a score difference; scaled weighs each pair by its strength; davidson and "
        "rao_kupper learn from ties too.",
        source=f"scaled: {HELPSTEER}; Davidson 1970; Rao and Kupper 1967",
    )
    margins: Literal["none", "small", "large", "row"] = setting(
        "row",
        "What a preference is worth, from significantly to negligibly: small is 1, 2/3, 1/3, 0; large is "
        "3, 2, 1, 0; row takes the row's own. The score difference must exceed it; scaled weighs by it.",
        source=f"{LLAMA2}, eq. 2",
    )

    @model_validator(mode="before")
    @classmethod
    def read_use_margin(cls, raw: Any) -> Any:
        """`use_margin`, as the field was called once: false is margins none, true is margins row."""
        if isinstance(raw, dict) and isinstance(raw.get("use_margin"), bool) and "margins" not in raw:
            rest = {name: value for name, value in raw.items() if name != "use_margin"}
            return rest | {"margins": "row" if raw["use_margin"] else "none"}
        return raw

    @model_validator(mode="after")
    def check_margins(self) -> Self:
        if self.loss == "scaled" and self.margins == "none":
            raise ValueError("margins: scaled weighs each pair by its margin; set it to small, large or row")
        if self.models_ties and self.margins not in ("none", "row"):
            raise ValueError(f"margins: {self.loss} has no margin; set it to none or the loss to scaled")
        return self


class RankingRewardSpec(ComparedSpec):
    """A reward model from rankings: all pairs of a ranking in one batch element, divided by their number."""

    recipe: Literal["reward_ranking"]
    loss: Literal["bradley_terry", "davidson", "rao_kupper"] = setting(
        "bradley_terry",
        "bradley_terry learns from every pair of a ranking but the ties; davidson and rao_kupper from all.",
        source=f"{INSTRUCTGPT}, eq. 1; Davidson 1970; Rao and Kupper 1967",
    )
    learning_rate: float = setting(
        9e-6, "Peak step size of AdamW.", source=f"{INSTRUCTGPT}, app. C.2", gt=0, le=1
    )
    batch_size: int = setting(8, "Rankings in one forward pass.", unit="rows", ge=1, le=4096)


class RatingRewardSpec(ScoredSpec):
    """A reward model from ratings of single responses, 0 for the bottom of the scale and 1 for its top."""

    recipe: Literal["reward_rating"]
    loss: Literal["regression", "ordinal"] = setting(
        "regression",
        "regression fits the score to the rating by squared error; ordinal learns where the scale's points "
        "lie on the score (proportional odds).",
        source="McCullagh 1980",
    )
    levels: int = setting(5, "Points of the rating scale, for ordinal.", unit="points", ge=2, le=101)
