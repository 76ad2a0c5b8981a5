"""Run settings for the demo: a model of a million parameters learns from about forty noisy judgments.

The defaults of the recipes are those of the papers, made for models and datasets a thousand times larger.
These were tuned on the demo model with one judgment in ten wrong; each overrides one default.

An adapter on the down projections alone is too small to learn the pairs' wording by heart, so what it learns
is what they share: the manner. A beta of 0.5 stops pushing once a pair is well apart: the text stays whole.
"""

from __future__ import annotations

from typing import Any

DEMO_ADAPTER: dict[str, Any] = {
    "kind": "lora",
    "r": 8,
    "alpha": 16.0,
    "dropout": 0.0,
    "targets": ["down_proj"],
}

DEMO_REWARD: dict[str, Any] = {
    "train": {"kind": "all"},
    "learning_rate": 1e-3,
    "max_steps": 30,
    "batch_size": 64,
    "warmup_ratio": 0.0,
    "min_learning_rate_ratio": 0.0,
}

DEMO_DPO: dict[str, Any] = {
    "train": DEMO_ADAPTER | {"targets": ["o_proj", "down_proj"]},
    "learning_rate": 5e-3,
    "max_steps": 40,
    "batch_size": 16,
    "beta": 0.3,
    "min_learning_rate_ratio": 0.0,
    "sft_weight": 1.0,
}

DEMO_PPO: dict[str, Any] = {
    "train": DEMO_ADAPTER,
    "learning_rate": 5e-3,
    "value_learning_rate": 2e-3,
    "steps": 20,
    "rollout_batch_size": 64,
    "minibatch_size": 32,
    "ppo_epochs": 2,
    "max_new_tokens": 80,
    "max_length": 256,
    "kl_coefficient": 0.1,
    "reward_scaling": "whiten",
    "save_every": 5,
}
