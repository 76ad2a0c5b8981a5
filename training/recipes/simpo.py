"""Simple preference optimisation: the mean log-probability per token is the reward, without a reference.

TRL's experimental CPOTrainer with SimPO's loss (arXiv 2405.14734, eq. 6): -log sigmoid(beta (mean log p of
the better response - that of the other) - gamma).
"""

from __future__ import annotations

from typing import Any

from trl.experimental.cpo import CPOConfig, CPOTrainer

from training.recipes.models import context_length, load_policy, load_tokenizer
from training.recipes.pair_tokens import read_pairs
from training.recipes.rundir import Outcome, Run
from training.recipes.spec import SimpoSpec
from training.recipes.trainable import keep_real_tokens, prepare_trainable
from training.recipes.trl_run import RunCallback, run_trainer, trainer_arguments


def train(spec: SimpoSpec, run: Run) -> Outcome:
    tokenizer = load_tokenizer(run, spec.model)
    model = load_policy(run, spec.model, tokenizer, train=spec.train)
    room = context_length(model, spec.max_length)

    rows = read_pairs(run, spec.data.train, tokenizer, room, "pairs")
    held_out = read_pairs(run, spec.data.eval, tokenizer, room, "held-out pairs") if spec.data.eval else None

    adapter = prepare_trainable(model, spec, tokenizer, "CAUSAL_LM")
    callback = RunCallback(run, tokenizer, room)
    trainer = MeanLogTrainer(
        model=model,
        args=CPOConfig(
            **trainer_arguments(spec, run, room),
            disable_dropout=not (spec.lora and spec.lora.dropout),  # or the adapter's would be off too
            remove_unused_columns=False,
            loss_type="simpo",
            cpo_alpha=0.0,  # SimPO alone, without an imitation term
            beta=spec.beta,
            simpo_gamma=spec.gamma_ratio * spec.beta,
        ),
        train_dataset=rows,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[callback],
    )
    keep_real_tokens(trainer.model)
    return run_trainer(trainer, callback)


class MeanLogTrainer(CPOTrainer):
    """TRL's CPOTrainer over rows that are tokens already."""

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        return feature
