"""Direct preference optimisation (TRL's DPOTrainer; arXiv 2305.18290).

With a new adapter the reference is the adapter switched off; with one that is trained on it is a copy of the
start; without one it is the starting weights, whose log-probabilities are computed before the first step.
cDPO, ODPO and the losses that learn from ties are ours: DPO's reward is beta log(policy / reference), so that
a pair's difference of rewards goes into the same losses as a reward model's difference of scores
(reward_losses.py).
"""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from training.recipes import reward_losses as losses
from training.recipes.data import Preference, bad_data, fit_rows, read_preferences
from training.recipes.metrics import noise_rate
from training.recipes.models import context_length, load_policy, load_tokenizer
from training.recipes.reference_cache import ReferenceCache, open_cache, with_reference
from training.recipes.rundir import Outcome, Run
from training.recipes.spec import DpoSpec
from training.recipes.trainable import copy_reference, prepare_trainable
from training.recipes.trl_run import RunCallback, run_trainer, trainer_arguments

OURS = ("cdpo", "odpo", "davidson", "rao_kupper")
COLUMNS = ("offset", "label", "tie")


def train(spec: DpoSpec, run: Run) -> Outcome:
    tokenizer = load_tokenizer(run, spec.model)
    model = load_policy(run, spec.model, tokenizer, train=spec.train)
    room = context_length(model, spec.max_length)

    rows = keep_learnable(spec, read_preferences(run.directory / spec.data.train), run, "pairs")
    rows = fit_rows(rows, tokenizer, room, run, "pairs")
    held_out = None
    if spec.data.eval:
        held_out = keep_learnable(
            spec, read_preferences(run.directory / spec.data.eval), run, "held-out pairs"
        )
        held_out = fit_rows(held_out, tokenizer, room, run, "held-out pairs")

    cache = open_cache(run, model, room) if spec.precompute_reference else None
    reference = None if spec.precompute_reference else copy_reference(model, spec)
    adapter = prepare_trainable(model, spec, tokenizer, "CAUSAL_LM")
    loss = "sigmoid" if spec.loss_type in OURS else spec.loss_type
    callback = RunCallback(run, tokenizer, room)
    trainer = PairTrainer(
        spec=spec,
        cache=cache,
        model=model,
        ref_model=reference,
        args=DPOConfig(
            **trainer_arguments(spec, run, room),
            disable_dropout=not (spec.lora and spec.lora.dropout),  # or the adapter's would be off too
            beta=spec.beta,
            loss_type=[loss, "sft"] if spec.sft_weight else [loss],
            loss_weights=[1.0, spec.sft_weight] if spec.sft_weight else None,
            label_smoothing=noise_of(spec),
            precompute_ref_log_probs=spec.precompute_reference,
        ),
        train_dataset=to_dataset(spec, rows),
        eval_dataset=to_dataset(spec, held_out) if held_out else None,
        data_collator=Collator(tokenizer.pad_token_id, max_length=room),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[callback],
    )
    return run_trainer(trainer, callback)


def noise_of(spec: DpoSpec) -> float:
    """The expected share of wrong labels: as it was set, or as the raters' agreement implies."""
    return spec.label_smoothing if spec.agreement is None else noise_rate(spec.agreement)


def keep_learnable(spec: DpoSpec, rows: list[Preference], run: Run, name: str) -> list[Preference]:
    """The pairs that the loss can learn from: without ties, unless it models them."""
    kept = [row for row in rows if spec.models_ties or not row.tie]
    if len(kept) < len(rows):
        message = f"{len(rows) - len(kept)} of {len(rows)} {name} are ties and were left out"
        run.emit("warning", message=f"{message}: the losses davidson and rao_kupper learn from them")
    if not kept:
        raise bad_data(f"none of the {name} can be learned from with the loss {spec.loss_type}")
    if spec.loss_type == "odpo" and not any(offset_of(spec, row) for row in kept):
        run.emit("warning", message=f"none of the {name} has an offset: odpo is the sigmoid loss of DPO here")
    return kept


def offset_of(spec: DpoSpec, row: Preference) -> float:
    """ODPO's offset (arXiv 2402.10571, eq. 8): what the preference is worth, scaled; 0 where that is not
    known.
    """
    if spec.loss_type != "odpo":
        return 0.0
    if spec.margins == "row":
        return spec.offset_scale * (row.margin or 0.0)
    worth = losses.SMALL_MARGINS if spec.margins == "small" else losses.LARGE_MARGINS
    return spec.offset_scale * worth.get(row.strength or "", 0.0)


def label_of(spec: DpoSpec, row: Preference) -> float:
    """The probability that chosen is the better one: the row's own in cdpo, else what the noise leaves."""
    if spec.loss_type != "cdpo":
        return 1.0
    return 1 - noise_of(spec) if row.label is None else row.label


def to_dataset(spec: DpoSpec, rows: list[Preference]) -> Dataset:
    return Dataset.from_list(
        [
            {
                "prompt": row.prompt,
                "chosen": row.chosen,
                "rejected": row.rejected,
                "offset": offset_of(spec, row),
                "label": label_of(spec, row),
                "tie": float(row.tie),
            }
            for row in rows
        ]
    )


class Collator(DataCollatorForPreference):
    """TRL's, with what our losses need of a pair."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        return batch | {name: torch.tensor([example[name] for example in examples]) for name in COLUMNS}


class PairTrainer(DPOTrainer):
    """TRL's DPOTrainer with a cache of the reference and the losses that it has not."""

    _signature_columns: list[str] | None

    def __init__(self, *, spec: DpoSpec, cache: ReferenceCache | None, **arguments: Any) -> None:
        self.spec = spec
        self.cache = cache
        super().__init__(**arguments)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns = [*dict.fromkeys([*(self._signature_columns or []), *COLUMNS])]

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        compute = super()._precompute_ref_logps
        return with_reference(self.cache, dataset, batch_size, lambda: compute(dataset, name, batch_size))

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        return super().compute_ref_log_probs(
            model, {key: inputs[key] for key in inputs if key not in COLUMNS}
        )

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        batch = {name: value for name, value in inputs.items() if name not in COLUMNS}
        if self.spec.loss_type not in OURS:
            return super()._compute_loss(model, batch, return_outputs)
        masked = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
        tokens = {name: batch[name] for name in ("input_ids", "attention_mask")}
        outputs = model(**tokens, labels=masked, use_cache=False, fused_lm_head=True)
        mask = batch["completion_mask"][:, 1:]
        logps = outputs.log_probs[:, -mask.shape[1] :]  # [2 B, T], 0 outside the responses; chosen first
        if self.precompute_ref_logps:
            reference = torch.cat([batch["ref_chosen_logps"], batch["ref_rejected_logps"]])
        else:
            reference = torch.cat(self.compute_ref_log_probs(self.ref_model or self.model, batch))
        rewards = self.beta * (logps.sum(1) - reference)
        chosen, rejected = rewards.chunk(2)
        loss = self.pair_losses(chosen - rejected, inputs).mean()
        if self.spec.sft_weight:
            half = len(chosen)
            loss = loss - self.spec.sft_weight * logps[:half].sum() / mask[:half].sum()
        self.note(batch, chosen.detach(), rejected.detach(), inputs["tie"])
        return (loss, outputs) if return_outputs else loss

    def pair_losses(self, difference: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """[B] from the differences of the rewards [B]."""
        label, tie = inputs["label"], inputs["tie"]
        match self.spec.loss_type:
            case "davidson":
                nu = difference.new_tensor(self.spec.tie_parameter or losses.DAVIDSON_NU)
                return losses.davidson(difference, nu.log(), label, tie)
            case "rao_kupper":
                threshold = difference.new_tensor(self.spec.tie_parameter or losses.RAO_KUPPER_THRESHOLD)
                return losses.rao_kupper(difference, threshold, label, tie)
            case _:  # cdpo by its label, odpo by its offset
                return losses.bradley_terry(difference, inputs["offset"], label)

    def note(
        self, batch: dict[str, Any], chosen: torch.Tensor, rejected: torch.Tensor, tie: torch.Tensor
    ) -> None:
        """Metrics by TRL's names; a tie is neither right nor wrong."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        if self.model.training:
            self._total_train_tokens += int(
                self.accelerator.gather(batch["attention_mask"].sum()).sum().item()
            )
        metrics["num_tokens"] = [self._total_train_tokens]
        metrics["rewards/chosen"].append(chosen.mean().item())
        metrics["rewards/rejected"].append(rejected.mean().item())
        metrics["rewards/margins"].append((chosen - rejected).mean().item())
        decided = (chosen - rejected)[tie == 0]
        if len(decided):
            metrics["rewards/accuracies"].append((0.5 + 0.5 * decided.sign()).mean().item())
