"""Reinforcement learning against a reward model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from training.recipes.spec.parts import LearningSpec, ModelPath, Probes, setting
from training.recipes.spec.sources import GAE_PAPER, HUANG, INSTRUCTGPT, LLAMA2, PPO_PAPER, ZIEGLER


class PpoSpec(LearningSpec):
    """Proximal policy optimisation against a reward model, with a KL penalty per token."""

    recipe: Literal["ppo"]
    reward_model: ModelPath = setting(..., "The reward model that scores the responses.", unit="model")
    steps: int = setting(100, "Rollout batches in all.", unit="steps", ge=1, le=1_000_000)
    rollout_batch_size: int = setting(
        64, "Responses written per step.", unit="responses", source=INSTRUCTGPT, ge=1, le=8192
    )
    minibatch_size: int = setting(16, "Responses per gradient step.", unit="responses", ge=1, le=8192)
    ppo_epochs: int = setting(4, "Passes over each rollout batch.", source=ZIEGLER, ge=1, le=64)
    learning_rate: float = setting(
        9.65e-6, "Step size of the policy's Adam.", source=f"{INSTRUCTGPT}, app. C.4", gt=0, le=1
    )
    value_learning_rate: float = setting(
        9e-6, "Step size of the value model's Adam.", source=f"{INSTRUCTGPT}, app. C.4", gt=0, le=1
    )
    max_new_tokens: int = setting(64, "Longest response.", unit="tokens", ge=1, le=8192)
    temperature: float = setting(1.0, "Sampling temperature of the rollouts.", source=INSTRUCTGPT, gt=0, le=5)
    kl_coefficient: float = setting(
        0.02,
        "Weight of the KL penalty per token.",
        unit="reward per nat",
        source=f"{INSTRUCTGPT}, sec. 3.5",
        ge=0,
        le=10,
    )
    kl_target: float | None = setting(
        None,
        "Adapt the KL weight towards this KL per response.",
        unit="nats",
        source=f"{ZIEGLER}, sec. 2.2",
        gt=0,
    )
    kl_horizon: int = setting(
        10_000, "Responses over which the KL weight adapts.", unit="responses", source=ZIEGLER, ge=1
    )
    kl_budget: float | None = setting(
        None, "Stop, and keep the model, when a step's KL per response exceeds this.", unit="nats", gt=0
    )
    clip_range: float = setting(
        0.2, "Clip of the probability ratio.", source=f"{PPO_PAPER}, eq. 7", gt=0, lt=1
    )
    value_clip_range: float = setting(0.2, "Clip of the value's change.", source=HUANG, gt=0, le=100)
    value_coefficient: float = setting(0.5, "Weight of the value loss.", source=PPO_PAPER, gt=0, le=10)
    gamma: float = setting(1.0, "Discount per token.", source=ZIEGLER, gt=0, le=1)
    lam: float = setting(0.95, "GAE's trade of bias for variance.", source=f"{GAE_PAPER}, eq. 16", ge=0, le=1)
    whiten_advantages: bool = setting(True, "Scale the advantages to mean 0 and deviation 1.", source=ZIEGLER)
    reward_scaling: Literal["none", "whiten"] = setting(
        "none", "whiten scales each batch's scores to mean 0 and deviation 1.", source=f"{LLAMA2}, sec. 3.2.3"
    )
    unfinished_penalty: float | None = setting(
        -1.0,
        "Score of a response that does not end by itself; null keeps its own.",
        unit="reward",
        source=ZIEGLER,
        le=0,
    )
    probes: Probes | None = setting(None, "Prompts answered before and after training.")

    @model_validator(mode="after")
    def check_kind(self) -> Self:
        plain = self.train.kind != "lora" or self.train.variant != "adalora"
        if self.train.kind not in ("all", "last_layers", "head", "lora") or not plain:
            name = self.train.kind if plain else "adalora"
            where = "train.kind" if plain else "train.variant"
            raise ValueError(f"{where}: ppo cannot train {name}; use all, last_layers, head or lora")
        return self

    @model_validator(mode="after")
    def check_sizes(self) -> Self:
        if self.rollout_batch_size % self.minibatch_size:
            raise ValueError("minibatch_size: must divide rollout_batch_size without a rest")
        if self.max_new_tokens >= self.max_length:
            raise ValueError("max_new_tokens: must be less than max_length, which holds the prompt too")
        return self
