"""Online DPO: pairs of the policy's own responses, ordered by a reward model (TRL's experimental
OnlineDPOTrainer; arXiv 2402.04792).

The trainer is used with two corrections: its KL counts what it pads a response with, and its log rounds the
loss. A pair of equal scores is learned from as if the first were better, as TRL has it.
"""

from __future__ import annotations

import os
from typing import Any

import torch

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

from training.recipes.data import read_prompts
from training.recipes.generation import end_tokens
from training.recipes.models import context_length, load_policy, load_tokenizer
from training.recipes.online import OnlineCallback, Rater, lay_out_prompts, online_arguments
from training.recipes.rundir import Outcome, Run
from training.recipes.scoring import make_scorer
from training.recipes.spec import OnlineDpoSpec
from training.recipes.trainable import copy_reference, prepare_trainable
from training.recipes.trl_run import run_trainer


def train(spec: OnlineDpoSpec, run: Run) -> Outcome:
    tokenizer = load_tokenizer(run, spec.model)
    model = load_policy(run, spec.model, tokenizer, train=spec.train)
    room = context_length(model, spec.max_length)
    prompts = read_prompts(run.directory / spec.data.train)
    ends = end_tokens(model, tokenizer)

    reference = copy_reference(model, spec)
    adapter = prepare_trainable(model, spec, tokenizer, "CAUSAL_LM")
    rater = Rater(spec, make_scorer(run, spec), prompts, ends)
    callback = PairCallback(run, tokenizer, room, rater)
    trainer = PairTrainer(
        model=model,
        ref_model=reference,
        reward_funcs=rater.rate,
        args=OnlineDPOConfig(
            **online_arguments(spec, run),
            per_device_train_batch_size=spec.batch_size,
            gradient_accumulation_steps=spec.prompts_per_step // spec.batch_size,
            train_sampling_strategy="sequential",
            max_new_tokens=spec.max_new_tokens,
            max_length=room,
            beta=spec.beta,
            loss_type=spec.loss_type,
        ),
        train_dataset=lay_out_prompts(prompts, spec, tokenizer, room),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[callback],
    )
    callback.trainer = trainer
    return run_trainer(trainer, callback)


class PairTrainer(OnlineDPOTrainer):
    """TRL's trainer, with the loss of a step as it was and a KL of the response's tokens alone."""

    step_loss = 0.0

    def _forward(
        self,
        model: Any,
        prompt_ids: Any,
        prompt_mask: Any,
        completion_ids: Any,
        completion_mask: Any,
        *rest: Any,
    ) -> torch.Tensor:
        logp = super()._forward(model, prompt_ids, prompt_mask, completion_ids, completion_mask, *rest)
        return logp * completion_mask

    def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*arguments, **named)
        self.step_loss += loss.item()
        return loss


class PairCallback(OnlineCallback):
    trainer: PairTrainer

    def read_log(self, logs: dict[str, Any], length: float) -> dict[str, float]:
        loss, self.trainer.step_loss = self.trainer.step_loss, 0.0
        return {
            "loss": loss,
            "grad_norm": float(logs["grad_norm"]),
            "learning_rate": logs["learning_rate"],
            "kl": logs["objective/kl"],
            "entropy": logs["objective/entropy"] / length,
            "accuracy": logs["rewards/accuracies"],
            "rewards/margins": logs["rewards/margins"],
            "rewards/chosen": logs["rewards/chosen"],
            "rewards/rejected": logs["rewards/rejected"],
            "score_margin": logs["objective/scores_margin"],
        }

    def check_loss(self, loss: float) -> None:
        self.losses.append(loss)
        self.check_stuck(50)
