"""Supervised fine-tuning: imitate the given responses (TRL's SFTTrainer, loss on the response only)."""

from __future__ import annotations

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from training.recipes.data import Demonstration, fit_rows, read_demonstrations
from training.recipes.models import context_length, load_policy, load_tokenizer
from training.recipes.rundir import Outcome, Run
from training.recipes.spec import SftSpec
from training.recipes.trainable import prepare_trainable
from training.recipes.trl_run import RunCallback, run_trainer, trainer_arguments


def train(spec: SftSpec, run: Run) -> Outcome:
    tokenizer = load_tokenizer(run, spec.model)
    model = load_policy(run, spec.model, tokenizer, train=spec.train)
    room = context_length(model, spec.max_length)

    rows = fit_rows(read_demonstrations(run.directory / spec.data.train), tokenizer, room, run, "rows")
    held_out = None
    if spec.data.eval:
        held_out = read_demonstrations(run.directory / spec.data.eval)
        held_out = fit_rows(held_out, tokenizer, room, run, "held-out rows")

    adapter = prepare_trainable(model, spec, tokenizer, "CAUSAL_LM")
    callback = RunCallback(run, tokenizer, room)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**trainer_arguments(spec, run, room), completion_only_loss=True),
        train_dataset=to_dataset(rows),
        eval_dataset=to_dataset(held_out) if held_out else None,
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[callback],
    )
    return run_trainer(trainer, callback)


def to_dataset(rows: list[Demonstration]) -> Dataset:
    return Dataset.from_list([{"prompt": row.prompt, "completion": row.completion} for row in rows])
