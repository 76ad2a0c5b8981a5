"""Reinforcement learning against a reward model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from training.recipes.spec.online import OnlineSpec
from training.recipes.spec.parts import Part, RunPath, setting
from training.recipes.spec.sources import GAE_PAPER, HUANG, INSTRUCTGPT, LLAMA2, PPO_PAPER, ZIEGLER


class Pretraining(Part):
    """Texts that the policy goes on imitating, so that it does not forget what it knew (PPO-ptx)."""

    file: RunPath = setting(..., 'A JSONL file of demonstrations, or of texts: {"text": ...}.', unit="file")
    weight: float = setting(
        1.0,
        "Weight of the mean loss per token beside PPO's.",
        source=f"gamma in {INSTRUCTGPT}, eq. 2; 27.8 there",
        gt=0,
        le=1000,
    )
    batch_size: int = setting(8, "Texts per gradient step.", unit="texts", ge=1, le=4096)


class PpoSpec(OnlineSpec):
    """Proximal policy optimisation against a reward model, with a KL penalty per token."""

    recipe: Literal["ppo"]
    backbone: Literal["separate", "shared"] = setting(
        "separate",
        "shared keeps the weights once: policy, value and reward are adapters over them. It needs lora, and "
        "a reward model that was trained with an adapter from this same model.",
    )
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
    clip_range: float = setting(
        0.2, "Clip of the probability ratio.", source=f"{PPO_PAPER}, eq. 7", gt=0, lt=1
    )
    value_clip_range: float = setting(0.2, "Clip of the value's change.", source=HUANG, gt=0, le=100)
    value_coefficient: float = setting(0.5, "Weight of the value loss.", source=PPO_PAPER, gt=0, le=10)
    gamma: float = setting(1.0, "Discount per token.", source=ZIEGLER, gt=0, le=1)
    lam: float = setting(0.95, "GAE's trade of bias for variance.", source=f"{GAE_PAPER}, eq. 16", ge=0, le=1)
    whiten_advantages: bool = setting(True, "Scale the advantages to mean 0 and deviation 1.", source=ZIEGLER)
    reward_scaling: Literal["none", "whiten", "running"] = setting(
        "none",
        "whiten scales each batch's scores to mean 0 and deviation 1 (Llama 2's logit is the score itself); "
        "running divides by the deviation of all scores so far.",
        source=f"whiten: {LLAMA2}, sec. 3.2.3; running: arXiv 2005.12729, sec. 3",
    )
    pretraining: Pretraining | None = setting(
        None, "Go on imitating demonstrations beside PPO (PPO-ptx).", source=f"{INSTRUCTGPT}, sec. 3.5"
    )

    @model_validator(mode="after")
    def check_sizes(self) -> Self:
        if self.rollout_batch_size % self.minibatch_size:
            raise ValueError("minibatch_size: must divide rollout_batch_size without a rest")
        if self.backbone == "shared" and self.lora is None:
            raise ValueError("backbone: shared needs lora: without adapters there is nothing to tell apart")
        return self
