"""What the recipes on TRL's trainers share: arguments, the events of a run, resuming, cancelling, stuck
losses.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from training.recipes.errors import RecipeError
from training.recipes.generation import emit_probes
from training.recipes.models import choose_device, count_parameters, save_output
from training.recipes.rundir import KEPT_CHECKPOINTS, Outcome, Run
from training.recipes.spec import DpoSpec, RejectionSpec, RewardSpec, SftSpec

SupervisedRecipe = SftSpec | RewardSpec | DpoSpec | RejectionSpec
RENAMED = {
    "rewards/accuracies": "accuracy",
    "margin": "rewards/margins",
    "mean_reward": "reward",
    "mean_token_accuracy": "token_accuracy",
}
NEVER = 10**9
LN2 = math.log(2)
STUCK_TOLERANCE = (
    1e-6  # nats; float32 resolves 6e-8 here, and a loss that learns leaves it within a few steps
)
STUCK_LOGS = 50
STUCK_LOGS_AT_END = 5


def trainer_arguments(spec: SupervisedRecipe, run: Run, max_length: int) -> dict[str, Any]:
    """Keyword arguments for SFTConfig, RewardConfig and DPOConfig."""
    on_cpu = choose_device(spec).type == "cpu"
    return {
        "output_dir": str(run.checkpoints),
        "seed": spec.seed,
        "data_seed": spec.seed,
        "use_cpu": on_cpu,
        "bf16": False,
        "gradient_checkpointing": not on_cpu,
        "max_length": max_length,
        "learning_rate": spec.learning_rate,
        "weight_decay": spec.weight_decay,
        "max_grad_norm": spec.max_grad_norm,
        "num_train_epochs": spec.epochs,
        "max_steps": spec.max_steps or -1,
        "per_device_train_batch_size": spec.batch_size,
        "per_device_eval_batch_size": spec.batch_size,
        "gradient_accumulation_steps": spec.gradient_accumulation,
        "warmup_steps": spec.warmup_ratio,
        "lr_scheduler_type": "constant_with_warmup" if spec.schedule == "constant" else spec.schedule,
        "save_strategy": "steps",
        "save_steps": spec.save_every,
        "save_total_limit": KEPT_CHECKPOINTS,
        "logging_steps": spec.log_every,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if spec.data.eval and spec.recipe != "reward" else "no",
        "eval_steps": spec.eval_every or NEVER,
        "dataloader_pin_memory": not on_cpu,
        "disable_tqdm": True,
        "report_to": "none",
    }


class RunCallback(TrainerCallback):
    """Tells the run directory what the trainer does, and the trainer what the run directory asks."""

    def __init__(
        self, run: Run, tokenizer: Any, room: int, evaluate: Callable[[Any], dict[str, float]] | None = None
    ) -> None:
        self.run = run
        self.spec: SupervisedRecipe = run.spec  # type: ignore[assignment]  # the caller matched on the recipe
        self.tokenizer = tokenizer
        self.room = room
        self.evaluate = evaluate
        self.evaluation: dict[str, float] = {}
        self.metrics: dict[str, float] = {}
        self.losses: list[float] = []
        self.cancelled = False
        self.resumed_from: int | None = None
        self.last_log = (time.monotonic(), 0.0)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.run.started(state.max_steps, self.resumed_from, args.device, count_parameters(kwargs["model"]))
        self.last_log = (time.monotonic(), 0.0)
        if self.resumed_from is None:
            self.probe(kwargs["model"], state.global_step, "before")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.run.emit("progress", step=state.global_step, total_steps=state.max_steps)
        at_end = state.global_step >= state.max_steps
        if at_end:
            control.should_save = (
                False  # the output follows at once; TRL would train on from such a checkpoint
            )
        elif self.run.cancel_requested():
            self.cancelled = True
            control.should_save = control.should_training_stop = True
        elif self.spec.eval_every and state.global_step % self.spec.eval_every == 0:
            self.measure(kwargs["model"], state.global_step)
            self.probe(kwargs["model"], state.global_step, "during")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        logs = logs or {}
        if "loss" in logs:
            self.report(state.global_step, logs)
        elif "eval_loss" in logs:
            values = {name.removeprefix("eval_"): value for name, value in logs.items()}
            self.record_evaluation(state.global_step, rename(values))

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        path = self.run.checkpoints / f"checkpoint-{state.global_step}"
        self.run.finish_checkpoint(path, state.global_step)

    def report(self, step: int, logs: Mapping[str, Any]) -> None:
        """Emit one log of the training loop; a loss that is no number, or does not move, ends the run."""
        values = rename(logs)
        now, tokens = time.monotonic(), float(logs.get("num_tokens", 0.0))
        before, tokens_before = self.last_log
        if tokens > tokens_before:
            values["tokens_per_second"] = (tokens - tokens_before) / max(now - before, 1e-9)
        self.last_log = (now, tokens)
        self.run.emit_values("metrics", step, values)
        self.metrics = {name: float(value) for name, value in values.items()}
        if not math.isfinite(logs["loss"]) or not math.isfinite(logs.get("grad_norm", 0.0)):
            message = f"The loss or its gradient is not finite at step {step}: try a lower learning_rate."
            self.run.emit("warning", alarm="nan", message=message)
            raise RecipeError("nan_loss", message)
        self.losses.append(logs["loss"])
        self.check_stuck(STUCK_LOGS)

    def check_stuck(self, count: int) -> None:
        """A preference loss that stays at ln 2 gives both responses the same score: nothing is learned."""
        recent = self.losses[-count:]
        compares = self.spec.recipe == "reward" or (
            self.spec.recipe in ("dpo", "online_dpo") and self.spec.loss_type in ("sigmoid", "robust")
        )
        if compares and len(recent) == count and all(abs(loss - LN2) < STUCK_TOLERANCE for loss in recent):
            message = (
                "The loss stays at ln 2 (0.6931): chosen and rejected score the same, so nothing is learned. "
                "Look at the pairs (are both responses the same?) or raise the learning_rate."
            )
            self.run.emit("warning", alarm="stuck_loss", message=message)
            raise RecipeError("stuck_loss", message)

    def measure(self, model: Any, step: int) -> None:
        if self.evaluate is not None:
            self.record_evaluation(step, self.evaluate(model))

    def record_evaluation(self, step: int, values: dict[str, Any]) -> None:
        self.evaluation = {f"eval/{name}": float(value) for name, value in values.items()}
        self.run.emit_values("evaluation", step, values)

    def probe(self, model: Any, step: int, phase: str) -> None:
        emit_probes(self.run, model, self.tokenizer, self.room, step, phase)


def rename(logs: Mapping[str, Any]) -> dict[str, Any]:
    """TRL's names of the metrics as ours; counters of the trainer itself are left out."""
    dropped = ("epoch", "num_tokens", "runtime", "samples_per_second", "steps_per_second")
    return {RENAMED.get(name, name): value for name, value in logs.items() if name not in dropped}


def run_trainer(trainer: Any, callback: RunCallback) -> Outcome:
    """Train, from the last whole checkpoint where there is one, and save the model."""
    run = callback.run
    trainer.remove_callback(PrinterCallback)
    checkpoint = run.last_checkpoint()
    if checkpoint is not None:
        callback.resumed_from = checkpoint[0]
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint[1]))
    step, total = trainer.state.global_step, trainer.state.max_steps
    model = trainer.accelerator.unwrap_model(trainer.model)
    if not callback.cancelled:
        callback.check_stuck(STUCK_LOGS_AT_END)
        callback.measure(model, step)
        callback.probe(model, step, "after")
    kind = "reward" if run.spec.recipe == "reward" else "policy"
    with torch.no_grad():
        output = save_output(run, model, callback.tokenizer)
    metrics = callback.metrics | callback.evaluation
    return Outcome(step, total, callback.cancelled, output, kind, metrics)  # type: ignore[arg-type]
