"""The reward model: a score per response, fitted to pairs of which one was preferred.

The plain Bradley-Terry loss, with or without margins, is TRL's RewardTrainer's; soft labels, strengths as
weights, ties, several heads and ensembles are ours (comparisons.py, reward_losses.py).
"""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from trl import RewardConfig, RewardTrainer

from training.recipes.comparisons import (
    Collator,
    ComparisonTrainer,
    add_tie_parameter,
    keep_heads,
    margin_of,
    pair_rows,
)
from training.recipes.data import Preference, bad_data, fit_rows, read_preferences
from training.recipes.heads import Heads
from training.recipes.models import context_length, load_heads, load_tokenizer
from training.recipes.reward_report import report_comparisons
from training.recipes.rundir import Outcome, Run
from training.recipes.spec import RewardSpec
from training.recipes.trainable import prepare_trainable
from training.recipes.trl_run import RunCallback, run_trainer, trainer_arguments


def train(spec: RewardSpec, run: Run) -> Outcome:
    tokenizer = load_tokenizer(run, spec.model)
    heads = Heads(tuple(spec.heads) or ("",), spec.ensemble)
    model = load_heads(run, spec.model, tokenizer, fresh=heads, train=spec.train)
    room = context_length(model, spec.max_length)

    rows = keep_heads(read_preferences(run.directory / spec.data.train), heads, run, "pairs")
    rows = fit_rows(keep_learnable(spec, rows, run), tokenizer, room, run, "pairs")
    held_out: list[Preference] = []
    if spec.data.eval:
        held_out = keep_heads(read_preferences(run.directory / spec.data.eval), heads, run, "held-out pairs")
        held_out = fit_rows(held_out, tokenizer, room, run, "held-out pairs")

    def evaluate(model: Any) -> dict[str, Any]:
        return report_comparisons(model, tokenizer, held_out, room, spec.agreement)

    adapter = prepare_trainable(model, spec, tokenizer, "SEQ_CLS")
    callback = RunCallback(run, tokenizer, room, evaluate if held_out else None)
    shared: dict[str, Any] = {
        "processing_class": tokenizer,
        "peft_config": adapter,
        "callbacks": [callback],
    }
    arguments = trainer_arguments(spec, run, room)
    # With an adapter's dropout the model's own stays on, for TRL can only switch both off.
    arguments["disable_dropout"] = not (spec.lora and spec.lora.dropout)
    if is_plain(spec, rows):
        plain = RewardConfig(**arguments, center_rewards_coefficient=spec.center_coefficient)
        trainer = RewardTrainer(model=model, args=plain, train_dataset=to_dataset(spec, rows), **shared)
    else:
        add_tie_parameter(spec, model)
        trainer = ComparisonTrainer(
            spec=spec,
            heads=heads,
            model=model,
            args=RewardConfig(**arguments, remove_unused_columns=False),
            train_dataset=pair_rows(spec, rows, tokenizer, heads),
            data_collator=Collator(tokenizer.pad_token_id),
            **shared,
        )
    return run_trainer(trainer, callback)


def keep_learnable(spec: RewardSpec, rows: list[Preference], run: Run) -> list[Preference]:
    """The pairs that the loss can learn from: without ties, unless it models them."""
    kept = [row for row in rows if spec.models_ties or not row.tie]
    if len(kept) < len(rows):
        message = f"{len(rows) - len(kept)} of {len(rows)} pairs are ties and were left out"
        run.emit("warning", message=f"{message}: the losses davidson and rao_kupper learn from them")
    if not kept:
        raise bad_data(f"none of the pairs can be learned from with the loss {spec.loss}")
    if spec.margins in ("small", "large") and all(row.strength is None for row in kept):
        run.emit("warning", message=f"no pair has a strength: margins {spec.margins} changes nothing")
    return kept


def is_plain(spec: RewardSpec, rows: list[Preference]) -> bool:
    """Whether TRL's loss is the one that was asked for."""
    one_score = len(spec.heads) <= 1 and spec.ensemble == 1
    return one_score and spec.loss == "bradley_terry" and all(row.label in (None, 1) for row in rows)


def to_dataset(spec: RewardSpec, rows: list[Preference]) -> Dataset:
    """TRL's explicit-prompt preference rows; a margin column only where a row has one."""
    margins = [margin_of(spec, row) for row in rows]
    return Dataset.from_list(
        [
            {"prompt": row.prompt, "chosen": row.chosen, "rejected": row.rejected}
            | ({"margin": margin} if any(margins) else {})
            for row, margin in zip(rows, margins, strict=True)
        ]
    )
