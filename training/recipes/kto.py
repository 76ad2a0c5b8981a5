"""Kahneman-Tversky optimisation: from single responses that were good or not (TRL's KTOTrainer; arXiv
2402.01306).

TRL takes the rows in their order, for it pairs neighbours to estimate the KL: they are shuffled here first.
"""

from __future__ import annotations

import random
from typing import Any

from datasets import Dataset
from trl import KTOConfig, KTOTrainer

from training.recipes.data import Thumb, bad_data, fit_rows, read_thumbs
from training.recipes.generation import derive_seed
from training.recipes.models import context_length, load_policy, load_tokenizer
from training.recipes.reference_cache import ReferenceCache, open_cache, with_reference
from training.recipes.rundir import Outcome, Run
from training.recipes.spec import KtoSpec
from training.recipes.trainable import copy_reference, prepare_trainable
from training.recipes.trl_run import RunCallback, run_trainer, trainer_arguments


def train(spec: KtoSpec, run: Run) -> Outcome:
    tokenizer = load_tokenizer(run, spec.model)
    model = load_policy(run, spec.model, tokenizer, train=spec.train)
    room = context_length(model, spec.max_length)

    rows = fit_rows(read_thumbs(run.directory / spec.data.train), tokenizer, room, run, "rows")
    random.Random(derive_seed(spec.seed, "kto")).shuffle(rows)  # noqa: S311  # no secret
    held_out = None
    if spec.data.eval:
        held_out = read_thumbs(run.directory / spec.data.eval)
        held_out = fit_rows(held_out, tokenizer, room, run, "held-out rows")

    cache = open_cache(run, model, room) if spec.precompute_reference else None
    reference = None if spec.precompute_reference else copy_reference(model, spec)
    adapter = prepare_trainable(model, spec, tokenizer, "CAUSAL_LM")
    callback = RunCallback(run, tokenizer, room)
    trainer = VerdictTrainer(
        cache=cache,
        model=model,
        ref_model=reference,
        args=KTOConfig(
            **trainer_arguments(spec, run, room),
            disable_dropout=not (spec.lora and spec.lora.dropout),  # or the adapter's would be off too
            beta=spec.beta,
            desirable_weight=weigh_good(spec, rows),
            undesirable_weight=spec.undesirable_weight,
            precompute_ref_log_probs=spec.precompute_reference,
        ),
        train_dataset=to_dataset(rows),
        eval_dataset=to_dataset(held_out) if held_out else None,
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[callback],
    )
    return run_trainer(trainer, callback)


def weigh_good(spec: KtoSpec, rows: list[Thumb]) -> float:
    """The weight of the good responses; unless it was set, both kinds weigh the same in all (the paper's
    eq. 8).

    Raises RecipeError bad_data where there are none of a kind: nothing tells then what to move away from.
    """
    good = sum(row.label for row in rows)
    if good in (0, len(rows)):
        raise bad_data(f"all {len(rows)} rows have the label {str(bool(good)).lower()}: kto needs both kinds")
    if spec.desirable_weight is not None:
        return spec.desirable_weight
    return spec.undesirable_weight * (len(rows) - good) / good


def to_dataset(rows: list[Thumb]) -> Dataset:
    return Dataset.from_list(
        [{"prompt": row.prompt, "completion": row.completion, "label": row.label} for row in rows]
    )


class VerdictTrainer(KTOTrainer):
    """TRL's KTOTrainer with a cache of the reference."""

    def __init__(self, *, cache: ReferenceCache | None, **arguments: Any) -> None:
        self.cache = cache
        super().__init__(**arguments)

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        compute = super()._precompute_ref_logps
        return with_reference(self.cache, dataset, batch_size, lambda: compute(dataset, name, batch_size))
