"""The reward model: a score per response, fitted with the Bradley-Terry loss (TRL's RewardTrainer)."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from trl import RewardConfig, RewardTrainer

from training.recipes.data import Preference, fit_rows, read_preferences
from training.recipes.generation import score_conversations
from training.recipes.metrics import preference_report
from training.recipes.models import context_length, load_scorer, load_tokenizer
from training.recipes.rundir import Outcome, Run
from training.recipes.spec import RewardSpec
from training.recipes.trainable import prepare_trainable
from training.recipes.trl_run import RunCallback, run_trainer, trainer_arguments


def train(spec: RewardSpec, run: Run) -> Outcome:
    tokenizer = load_tokenizer(run, spec.model)
    model = load_scorer(run, spec.model, tokenizer, fresh=True, train=spec.train)
    room = context_length(model, spec.max_length)

    rows = fit_rows(read_preferences(run.directory / spec.data.train), tokenizer, room, run, "pairs")
    held_out: list[Preference] = []
    if spec.data.eval:
        held_out = read_preferences(run.directory / spec.data.eval)
        held_out = fit_rows(held_out, tokenizer, room, run, "held-out pairs")

    def evaluate(model: Any) -> dict[str, float]:
        chosen = score_conversations(model, tokenizer, [row.prompt + row.chosen for row in held_out], room)
        rejected = score_conversations(
            model, tokenizer, [row.prompt + row.rejected for row in held_out], room
        )
        return preference_report(held_out, chosen, rejected)

    adapter = prepare_trainable(model, spec, tokenizer, "SEQ_CLS")
    callback = RunCallback(run, tokenizer, room, evaluate if held_out else None)
    arguments = trainer_arguments(spec, run, room)
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(
            **arguments,
            disable_dropout=not (spec.lora and spec.lora.dropout),  # or the adapter's would be off too
            center_rewards_coefficient=spec.center_coefficient,
        ),
        train_dataset=to_dataset(rows, spec.use_margin),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[callback],
    )
    return run_trainer(trainer, callback)


def to_dataset(rows: list[Preference], use_margin: bool) -> Dataset:
    """TRL's explicit-prompt preference rows; a margin column only where a row has one, 0 where another has
    none.
    """
    with_margin = use_margin and any(row.margin is not None for row in rows)
    return Dataset.from_list(
        [
            {"prompt": row.prompt, "chosen": row.chosen, "rejected": row.rejected}
            | ({"margin": row.margin or 0.0} if with_margin else {})
            for row in rows
        ]
    )
