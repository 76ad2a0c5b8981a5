"""Supervised fine-tuning: imitate the given responses (TRL's SFTTrainer).

The loss is over the tokens of the response and its end, the mean over all of them in a step; the prompt, with
the assistant's earlier turns in it, is read and not learned. Packed rows (best fit, decreasing length) keep
positions of their own, from which transformers makes a mask that lets no row attend to another.
"""

from __future__ import annotations

import inspect
from typing import Any

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from training.recipes.data import Demonstration, fit_rows, read_demonstrations
from training.recipes.errors import RecipeError
from training.recipes.models import context_length, load_policy, load_tokenizer
from training.recipes.rundir import Outcome, Run
from training.recipes.spec import SftSpec
from training.recipes.trainable import prepare_trainable
from training.recipes.trl_run import RunCallback, run_trainer, trainer_arguments


def train(spec: SftSpec, run: Run) -> Outcome:
    return run_trainer(*make_trainer(spec, run))


def make_trainer(spec: SftSpec, run: Run) -> tuple[SFTTrainer, RunCallback]:
    tokenizer = load_tokenizer(run, spec.model)
    model = load_policy(run, spec.model, tokenizer, train=spec.train)
    room = context_length(model, spec.max_length)

    rows = fit_rows(read_demonstrations(run.directory / spec.data.train), tokenizer, room, run, "rows")
    held_out = None
    if spec.data.eval:
        held_out = read_demonstrations(run.directory / spec.data.eval)
        held_out = fit_rows(held_out, tokenizer, room, run, "held-out rows")

    if spec.packing:
        check_positions(model, spec.model)
    adapter = prepare_trainable(model, spec, tokenizer, "CAUSAL_LM")
    callback = RunCallback(run, tokenizer, room)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            **trainer_arguments(spec, run, room),
            completion_only_loss=True,
            packing=spec.packing,
            packing_strategy="bfd",
            eval_packing=False,
        ),
        train_dataset=to_dataset(rows),
        eval_dataset=to_dataset(held_out) if held_out else None,
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[callback],
    )
    return trainer, callback


def check_positions(model: Any, name: str) -> None:
    """Packed rows are told apart by their positions: a model that takes none would mix them."""
    if "position_ids" not in inspect.signature(model.forward).parameters:
        message = f"{name}: its architecture takes no position_ids, which packing needs; set packing to false"
        raise RecipeError("bad_model", message)


def to_dataset(rows: list[Demonstration]) -> Dataset:
    return Dataset.from_list([{"prompt": row.prompt, "completion": row.completion} for row in rows])
