"""The reward model from rankings: all pairs of a ranking in one batch element, divided by their number.

InstructGPT (arXiv 2203.02155, sec. 3.5): shuffled into single pairs a ranking of K responses is seen K - 1
times in an epoch and overfits; together, each response is scored once. TRL's RewardTrainer without its loss
(comparisons.py).
"""

from __future__ import annotations

from typing import Any

from trl import RewardConfig

from training.recipes.comparisons import (
    Collator,
    ComparisonTrainer,
    add_tie_parameter,
    keep_heads,
    ranking_rows,
)
from training.recipes.data import Preference, Ranking, bad_data, fit_rows, read_rankings
from training.recipes.heads import Heads
from training.recipes.models import context_length, load_heads, load_tokenizer
from training.recipes.reward_losses import pairs_of
from training.recipes.reward_report import pairs_of_rankings, report_comparisons
from training.recipes.rundir import Outcome, Run
from training.recipes.spec import RankingRewardSpec
from training.recipes.trainable import prepare_trainable
from training.recipes.trl_run import RunCallback, run_trainer, trainer_arguments


def train(spec: RankingRewardSpec, run: Run) -> Outcome:
    tokenizer = load_tokenizer(run, spec.model)
    heads = Heads(tuple(spec.heads) or ("",), spec.ensemble)
    model = load_heads(run, spec.model, tokenizer, fresh=heads, train=spec.train)
    room = context_length(model, spec.max_length)

    rows = keep_heads(read_rankings(run.directory / spec.data.train), heads, run, "rankings")
    rows = fit_rows(keep_learnable(spec, rows, run), tokenizer, room, run, "rankings")
    held_out: list[Preference] = []
    if spec.data.eval:
        ranked = keep_heads(read_rankings(run.directory / spec.data.eval), heads, run, "held-out rankings")
        held_out = pairs_of_rankings(fit_rows(ranked, tokenizer, room, run, "held-out rankings"))

    def evaluate(model: Any) -> dict[str, Any]:
        return report_comparisons(model, tokenizer, held_out, room, spec.agreement)

    adapter = prepare_trainable(model, spec, tokenizer, "SEQ_CLS")
    callback = RunCallback(run, tokenizer, room, evaluate if held_out else None)
    add_tie_parameter(spec, model)
    trainer = ComparisonTrainer(
        spec=spec,
        heads=heads,
        model=model,
        args=RewardConfig(
            **trainer_arguments(spec, run, room),
            disable_dropout=not (spec.lora and spec.lora.dropout),  # or the adapter's would be off too
            remove_unused_columns=False,
        ),
        train_dataset=ranking_rows(spec, rows, tokenizer, heads),
        data_collator=Collator(tokenizer.pad_token_id),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[callback],
    )
    return run_trainer(trainer, callback)


def keep_learnable(spec: RankingRewardSpec, rows: list[Ranking], run: Run) -> list[Ranking]:
    """The rankings with a pair that the loss can learn from."""
    kept = [row for row in rows if pairs_of(row.ranks, with_ties=spec.models_ties)]
    if len(kept) < len(rows):
        message = f"{len(rows) - len(kept)} of {len(rows)} rankings are one tie and were left out"
        run.emit("warning", message=f"{message}: the losses davidson and rao_kupper learn from them")
    if not kept:
        raise bad_data(f"none of the rankings can be learned from with the loss {spec.loss}")
    return kept
