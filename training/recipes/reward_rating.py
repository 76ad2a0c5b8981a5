"""The reward model from ratings of single responses: regression, or ordinal with learned thresholds.

TRL's RewardTrainer has no pointwise loss: this is that trainer with one of reward_losses.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from trl import RewardConfig

from training.recipes import reward_losses as losses
from training.recipes.comparisons import ScoreTrainer, find_parameter, pad_responses, resample, score_layer
from training.recipes.data import RatedResponse, bad_data, encode_chat, fit_rows, read_ratings
from training.recipes.heads import Heads
from training.recipes.models import context_length, load_heads, load_tokenizer
from training.recipes.reward_report import report_ratings
from training.recipes.rundir import Outcome, Run
from training.recipes.spec import RatingRewardSpec
from training.recipes.trainable import prepare_trainable
from training.recipes.trl_run import RunCallback, run_trainer, trainer_arguments


def train(spec: RatingRewardSpec, run: Run) -> Outcome:
    tokenizer = load_tokenizer(run, spec.model)
    heads = Heads(tuple(spec.heads) or ("",), spec.ensemble)
    model = load_heads(run, spec.model, tokenizer, fresh=heads, train=spec.train)
    room = context_length(model, spec.max_length)

    rows = keep_rated(read_ratings(run.directory / spec.data.train), heads, run, "rows")
    rows = fit_rows(rows, tokenizer, room, run, "rows")
    held_out: list[RatedResponse] = []
    if spec.data.eval:
        held_out = keep_rated(read_ratings(run.directory / spec.data.eval), heads, run, "held-out rows")
        held_out = fit_rows(held_out, tokenizer, room, run, "held-out rows")

    def evaluate(model: Any) -> dict[str, Any]:
        return report_ratings(model, tokenizer, held_out, room, spec.agreement)

    adapter = prepare_trainable(model, spec, tokenizer, "SEQ_CLS")
    callback = RunCallback(run, tokenizer, room, evaluate if held_out else None)
    if spec.loss == "ordinal":
        raw = losses.even_thresholds(spec.levels).repeat(len(heads.names), 1)
        score = score_layer(model)
        score.register_parameter("thresholds", torch.nn.Parameter(raw.to(score.weight.device)))
    trainer = RatingTrainer(
        spec=spec,
        heads=heads,
        model=model,
        args=RewardConfig(
            **trainer_arguments(spec, run, room),
            disable_dropout=not (spec.lora and spec.lora.dropout),  # or the adapter's would be off too
            remove_unused_columns=False,
        ),
        train_dataset=rating_rows(spec, rows, tokenizer, heads),
        data_collator=Collator(tokenizer.pad_token_id),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[callback],
    )
    return run_trainer(trainer, callback)


def keep_rated(rows: list[RatedResponse], heads: Heads, run: Run, name: str) -> list[RatedResponse]:
    """The rows with a rating for one of the scores."""
    kept = [row for row in rows if any(head in row.ratings for head in heads.names)]
    wanted = ", ".join(filter(None, heads.names)) or "rating"
    if not kept:
        raise bad_data(f"none of the {name} is rated for {wanted}")
    if len(kept) < len(rows):
        message = f"{len(rows) - len(kept)} of {len(rows)} {name} have no rating for {wanted}"
        run.emit("warning", message=f"{message} and were left out")
    return kept


def rating_rows(spec: RatingRewardSpec, rows: list[RatedResponse], tokenizer: Any, heads: Heads) -> Dataset:
    """A response's tokens, its ratings by score, 1 where there is one, and its count for each member."""
    return Dataset.from_list(
        [
            {
                "response": encode_chat(tokenizer, row.prompt + row.completion),
                "rating": [row.ratings.get(name, 0.0) for name in heads.names],
                "rated": [float(name in row.ratings) for name in heads.names],
                "times": times,
            }
            for row, times in zip(rows, resample(len(rows), heads, spec.seed), strict=True)
        ]
    )


@dataclass
class Collator:
    """Rows as one batch: tokens [N, T] padded right; rating and rated [N, H]; times [N, K]."""

    pad_token_id: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return pad_responses([row["response"] for row in rows], self.pad_token_id) | {
            name: torch.tensor([row[name] for row in rows]) for name in ("rating", "rated", "times")
        }


class RatingTrainer(ScoreTrainer):
    """The losses of ratings: the mean over the responses of the sum over their rated scores."""

    def __init__(self, *, spec: RatingRewardSpec, **arguments: Any) -> None:
        self.spec = spec
        super().__init__(**arguments)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        scores = self.scores(model, inputs)  # [N, H, K]
        rating = inputs["rating"].unsqueeze(-1).expand_as(scores)
        if self.spec.loss == "regression":
            each = losses.squared_error(scores, rating)
        else:
            raw = find_parameter(model, "thresholds")
            assert raw is not None
            level = (rating * (self.spec.levels - 1)).round().long()
            each = losses.ordinal(scores, level, losses.rising(raw.float()).unsqueeze(1))
        if self.spec.center_coefficient:
            each = each + self.spec.center_coefficient * scores**2
        self.note(mean_reward=scores.detach().mean())
        counted = each * inputs["rated"].unsqueeze(-1) * inputs["times"].unsqueeze(1)
        return counted.mean(-1).sum(1).mean()
