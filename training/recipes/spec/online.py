"""What the recipes share that learn from responses they write themselves: rewards and alarms."""

from __future__ import annotations

import re
from typing import Literal, Self, get_args

from pydantic import model_validator

from training.recipes.spec.parts import LearningSpec, ModelPath, Part, Probes, setting
from training.recipes.spec.sources import INSTRUCTGPT, LLAMA2, ZIEGLER

RuleName = Literal["length_penalty", "ends_properly", "repetition_penalty", "contains", "forbids"]
RULE_NAMES: tuple[RuleName, ...] = get_args(RuleName)
# A run may be stopped by these. `nan` and `stuck_loss` always end it as failed: there is nothing to keep.
AlarmName = Literal["kl_budget", "reward_gaming", "low_diversity"]
ALARM_NAMES: tuple[AlarmName, ...] = get_args(AlarmName)


class RewardTerm(Part):
    """One rule that is added to the reward model's score: weight times the rule's value.

    length_penalty: minus the share by which the response is longer than `limit` tokens. ends_properly: 1 for
    a response that ended by itself with the end of a sentence. repetition_penalty: minus the share of word
    n-grams (n is `limit`, 4 unless told) that occurred before in the response. contains, forbids: 1, or minus
    1, where the regular expression `pattern` is found.
    """

    rule: RuleName = setting(..., "Which rule.")
    weight: float = setting(1.0, "What the rule's value is multiplied by.", unit="reward", ge=0, le=1000)
    limit: int | None = setting(
        None, "length_penalty: tokens; repetition_penalty: length of an n-gram.", ge=1, le=100_000
    )
    pattern: str | None = setting(
        None, "contains and forbids: a regular expression.", min_length=1, max_length=200
    )

    @model_validator(mode="after")
    def check_arguments(self) -> Self:
        wants_pattern = self.rule in ("contains", "forbids")
        if wants_pattern != (self.pattern is not None):
            raise ValueError(f"{self.rule} {'needs a' if wants_pattern else 'takes no'} pattern")
        if self.rule == "length_penalty" and self.limit is None:
            raise ValueError("length_penalty needs a limit in tokens")
        if self.limit is not None and self.rule not in ("length_penalty", "repetition_penalty"):
            raise ValueError(f"{self.rule} takes no limit")
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise ValueError(f"pattern is not a regular expression: {error}") from error
        return self


class RewardedSpec(LearningSpec):
    """What the recipes share that write responses and have them scored."""

    reward_model: ModelPath = setting(..., "The reward model that scores the responses.", unit="model")
    safety_model: ModelPath | None = setting(
        None,
        "A second reward model, for safety: its score counts where the prompt is tagged safety or where it "
        "gives less than safety_threshold, the first one's elsewhere.",
        unit="model",
        source=f"{LLAMA2}, sec. 3.2.3",
    )
    safety_threshold: float = setting(
        0.15,
        "Safety, as a probability, below which the safety model's score counts for any prompt.",
        unit="share",
        source=f"{LLAMA2}, sec. 3.2.3",
        gt=0,
        lt=1,
    )
    terms: list[RewardTerm] = setting(
        [], "Rules that are added to the score, a list of objects.", unit="rules", max_length=32
    )
    max_new_tokens: int = setting(64, "Longest response.", unit="tokens", ge=1, le=8192)
    temperature: float = setting(1.0, "Sampling temperature of the rollouts.", source=INSTRUCTGPT, gt=0, le=5)
    unfinished_penalty: float | None = setting(
        -1.0,
        "Score of a response that does not end by itself; null keeps its own.",
        unit="reward",
        source=ZIEGLER,
        le=0,
    )
    probes: Probes | None = setting(None, "Prompts answered before and after training.")

    @model_validator(mode="after")
    def check_room(self) -> Self:
        if self.max_new_tokens >= self.max_length:
            raise ValueError("max_new_tokens: must be less than max_length, which holds the prompt too")
        return self


class OnlineSpec(RewardedSpec):
    """What the recipes share that learn from their responses as they write them, and are watched."""

    kl_budget: float | None = setting(
        None, "Raise an alarm when a step's KL per response exceeds this.", unit="nats", gt=0
    )
    alarm_window: int = setting(
        10,
        "Steps that are averaged, at the start and now, to see a reward that rises only because responses "
        "get longer, or responses that become all alike.",
        unit="steps",
        ge=1,
        le=10_000,
    )
    diversity_floor: float = setting(
        0.5,
        "Raise an alarm when the share of distinct pairs of tokens falls below this share of the start's.",
        unit="share",
        source="distinct-n: arXiv 1510.03055",
        ge=0,
        le=1,
    )
    stop_on: list[AlarmName] = setting(
        ["kl_budget"],
        "Alarms that stop the run, with its model kept: kl_budget, reward_gaming, low_diversity.",
        max_length=len(ALARM_NAMES),
    )

    @model_validator(mode="after")
    def check_kind(self) -> Self:
        """Refuse virtual tokens, beside which padded prompts stand apart, and what cannot be switched off."""
        plain = self.train.kind != "lora" or self.train.variant != "adalora"
        if self.train.kind not in ("all", "last_layers", "head", "lora") or not plain:
            name = self.train.kind if plain else "adalora"
            where = "train.kind" if plain else "train.variant"
            recipe = getattr(self, "recipe", "this recipe")
            raise ValueError(f"{where}: {recipe} cannot train {name}; use all, last_layers, head or lora")
        return self
