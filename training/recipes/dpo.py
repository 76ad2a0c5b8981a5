"""Direct preference optimisation (TRL's DPOTrainer; arXiv 2305.18290).

With a new adapter the reference is the adapter switched off; with one that is trained on it is a copy of the
start; without one it is the starting weights, whose log-probabilities are computed before the first step.
"""

from __future__ import annotations

import copy

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from training.recipes.data import Preference, fit_rows, read_preferences
from training.recipes.models import context_length, load_policy, load_tokenizer
from training.recipes.rundir import Outcome, Run
from training.recipes.spec import DpoSpec
from training.recipes.trainable import prepare_trainable
from training.recipes.trl_run import RunCallback, run_trainer, trainer_arguments


def train(spec: DpoSpec, run: Run) -> Outcome:
    tokenizer = load_tokenizer(run, spec.model)
    model = load_policy(run, spec.model, tokenizer, train=spec.train)
    room = context_length(model, spec.max_length)

    rows = fit_rows(read_preferences(run.directory / spec.data.train), tokenizer, room, run, "pairs")
    held_out = None
    if spec.data.eval:
        held_out = read_preferences(run.directory / spec.data.eval)
        held_out = fit_rows(held_out, tokenizer, room, run, "held-out pairs")

    # TRL would load a reference by the model's path: that is the base, where an adapter was merged into it.
    with_adapter = spec.train.kind not in ("all", "last_layers", "head")
    reference = None if with_adapter or spec.precompute_reference else copy.deepcopy(model)
    adapter = prepare_trainable(model, spec, tokenizer, "CAUSAL_LM")
    callback = RunCallback(run, tokenizer, room)
    trainer = DPOTrainer(
        model=model,
        ref_model=reference,
        args=DPOConfig(
            **trainer_arguments(spec, run, room),
            disable_dropout=not (spec.lora and spec.lora.dropout),  # or the adapter's would be off too
            beta=spec.beta,
            loss_type=[spec.loss_type, "sft"] if spec.sft_weight else [spec.loss_type],
            loss_weights=[1.0, spec.sft_weight] if spec.sft_weight else None,
            label_smoothing=spec.label_smoothing,
            precompute_ref_log_probs=spec.precompute_reference,
        ),
        train_dataset=to_dataset(rows),
        eval_dataset=to_dataset(held_out) if held_out else None,
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[callback],
    )
    return run_trainer(trainer, callback)


def to_dataset(rows: list[Preference]) -> Dataset:
    return Dataset.from_list(
        [{"prompt": row.prompt, "chosen": row.chosen, "rejected": row.rejected} for row in rows]
    )
