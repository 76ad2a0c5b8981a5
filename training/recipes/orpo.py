"""Odds ratio preference optimisation: imitation and preference in one loss, without a reference (arXiv
2403.07691).

TRL's experimental ORPOTrainer: the mean negative log-likelihood of the prompt and the better response,
minus beta times log sigmoid of the log odds ratio of the two responses' mean log-probabilities per token.
"""

from __future__ import annotations

from typing import Any

from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from training.recipes.models import context_length, load_policy, load_tokenizer
from training.recipes.pair_tokens import read_pairs
from training.recipes.rundir import Outcome, Run
from training.recipes.spec import OrpoSpec
from training.recipes.trainable import keep_real_tokens, prepare_trainable
from training.recipes.trl_run import RunCallback, run_trainer, trainer_arguments


def train(spec: OrpoSpec, run: Run) -> Outcome:
    tokenizer = load_tokenizer(run, spec.model)
    model = load_policy(run, spec.model, tokenizer, train=spec.train)
    room = context_length(model, spec.max_length)

    rows = read_pairs(run, spec.data.train, tokenizer, room, "pairs")
    held_out = read_pairs(run, spec.data.eval, tokenizer, room, "held-out pairs") if spec.data.eval else None

    adapter = prepare_trainable(model, spec, tokenizer, "CAUSAL_LM")
    callback = RunCallback(run, tokenizer, room)
    trainer = OddsTrainer(
        model=model,
        args=ORPOConfig(
            **trainer_arguments(spec, run, room),
            disable_dropout=not (spec.lora and spec.lora.dropout),  # or the adapter's would be off too
            remove_unused_columns=False,
            beta=spec.beta,
        ),
        train_dataset=rows,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[callback],
    )
    keep_real_tokens(trainer.model)
    return run_trainer(trainer, callback)


class OddsTrainer(ORPOTrainer):
    """TRL's ORPOTrainer over rows that are tokens already."""

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        return feature
