"""Learning from the policy's own responses, scored by a reward model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from training.recipes.spec.online import OnlineSpec
from training.recipes.spec.parts import Part, RunPath, setting
from training.recipes.spec.sources import (
    GAE_PAPER,
    GRPO_PAPER,
    HUANG,
    INSTRUCTGPT,
    LLAMA2,
    ONLINE_DPO_PAPER,
    PPO_PAPER,
    RLOO_PAPER,
    ZIEGLER,
)


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
        "shared keeps the weights once: policy, value and reward are adapters over them. It needs train.kind "
        "lora, and a reward model that was trained with an adapter from this same model.",
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
            raise ValueError(
                "backbone: shared needs train.kind lora: without adapters there is nothing to tell apart"
            )
        return self


class OnlineTrlSpec(OnlineSpec):
    """What the recipes on TRL's online trainers share: a step is fresh responses and one update."""

    steps: int = setting(
        100,
        "Steps in all: each writes responses and learns from them once.",
        unit="steps",
        ge=1,
        le=1_000_000,
    )
    prompts_per_step: int = setting(16, "Prompts answered per step.", unit="prompts", ge=1, le=8192)
    warmup_ratio: float = setting(
        0.03, "Share of the steps in which the step size grows.", unit="share", source=LLAMA2, ge=0, le=1
    )
    schedule: Literal["linear", "cosine", "constant"] = setting(
        "constant", "How the step size falls after the warm-up."
    )


class GroupSpec(OnlineTrlSpec):
    """What RLOO and GRPO share: several responses to a prompt are compared with one another."""

    learning_rate: float = setting(
        1e-6, "Peak step size of AdamW.", source=f"{RLOO_PAPER}; {GRPO_PAPER}", gt=0, le=1
    )
    samples_per_prompt: int = setting(
        4, "Responses per prompt.", unit="responses", source=f"2 or 4 in {RLOO_PAPER}", ge=2, le=256
    )
    batch_size: int = setting(16, "Responses in one forward pass.", unit="responses", ge=1, le=8192)
    clip_range: float = setting(
        0.2,
        "Clip of the probability ratio; it is 1 where a batch is learned from once.",
        source=PPO_PAPER,
        gt=0,
        lt=1,
    )

    @property
    def responses_per_step(self) -> int:
        return self.prompts_per_step * self.samples_per_prompt

    @model_validator(mode="after")
    def check_batch(self) -> Self:
        if self.responses_per_step % self.batch_size:
            raise ValueError(
                "batch_size: must divide prompts_per_step times samples_per_prompt "
                f"({self.responses_per_step}) without a rest"
            )
        return self


class RlooSpec(GroupSpec):
    """REINFORCE with a leave-one-out baseline: each response is measured against the others to its prompt."""

    recipe: Literal["rloo"]
    beta: float = setting(
        0.05,
        "Weight of the KL per response in the reward.",
        unit="reward per nat",
        source=f"0.03 and 0.1 in {RLOO_PAPER}",
        gt=0,
        le=10,
    )
    normalize_advantages: bool = setting(False, "Scale the advantages of a batch to mean 0 and deviation 1.")


class GrpoSpec(GroupSpec):
    """Group relative policy optimisation: a response is measured against its group's mean and deviation."""

    recipe: Literal["grpo"]
    samples_per_prompt: int = setting(
        8, "Responses per prompt.", unit="responses", source=f"64 in {GRPO_PAPER}", ge=2, le=256
    )
    beta: float = setting(
        0.04, "Weight of the KL per token in the loss.", source=f"{GRPO_PAPER}, sec. 4.2", gt=0, le=10
    )
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = setting(
        "grpo",
        "grpo averages over each response first, dapo and bnpo over all tokens, dr_grpo divides by the "
        "longest length.",
        source=f"{GRPO_PAPER}, eq. 3",
    )
    scale_rewards: Literal["group", "batch", "none"] = setting(
        "group",
        "Divide the advantages by the deviation of the group's rewards, the batch's, or not.",
        source=f"{GRPO_PAPER}, sec. 4.1.2",
    )


class OnlineDpoSpec(OnlineTrlSpec):
    """Online DPO: two responses to each prompt, ordered by the reward model, are a fresh preference."""

    recipe: Literal["online_dpo"]
    learning_rate: float = setting(5e-7, "Peak step size of AdamW.", source=ONLINE_DPO_PAPER, gt=0, le=1)
    batch_size: int = setting(
        8, "Prompts in one forward pass; each has two responses.", unit="prompts", ge=1, le=8192
    )
    beta: float = setting(
        0.1,
        "How strongly the model is held to its start.",
        source=f"{ONLINE_DPO_PAPER}, sec. 4",
        gt=0,
        le=100,
    )
    loss_type: Literal["sigmoid", "ipo"] = setting(
        "sigmoid", "sigmoid is DPO's loss; ipo does not saturate.", source=f"{ONLINE_DPO_PAPER}, sec. 3"
    )

    @model_validator(mode="after")
    def check_batch(self) -> Self:
        if self.prompts_per_step % self.batch_size:
            raise ValueError("batch_size: must divide prompts_per_step without a rest")
        return self
