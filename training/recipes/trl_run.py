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

from training.recipes.best import Best
from training.recipes.errors import RecipeError
from training.recipes.generation import emit_probes
from training.recipes.models import choose_device, count_parameters, save_output, uses_bfloat16
from training.recipes.processes import any_of_all, check_world, wait_for_all
from training.recipes.rundir import KEPT_CHECKPOINTS, Outcome, Run, finite_numbers
from training.recipes.spec import (
    REWARD_RECIPES,
    DpoSpec,
    KtoSpec,
    OrpoSpec,
    RankingRewardSpec,
    RatingRewardSpec,
    RejectionSpec,
    RewardSpec,
    SftSpec,
    SimpoSpec,
)
from training.recipes.trainable import (
    RankBudget,
    budget_of,
    check_trained,
    orthogonality,
    reload_virtual_tokens,
)

SupervisedRecipe = (
    SftSpec
    | RewardSpec
    | RankingRewardSpec
    | RatingRewardSpec
    | DpoSpec
    | KtoSpec
    | OrpoSpec
    | SimpoSpec
    | RejectionSpec
)
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
    device = choose_device(spec)
    on_cpu = device.type == "cpu"
    run.facts["precision"] = "bfloat16 over float32" if uses_bfloat16(device) else "float32"
    return {
        "output_dir": str(run.checkpoints),
        "seed": spec.seed,
        "data_seed": spec.seed,
        "use_cpu": on_cpu,
        "bf16": uses_bfloat16(device),
        "ddp_backend": ("gloo" if on_cpu else "nccl") if spec.processes > 1 else None,
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
        **schedule_arguments(spec),
        "save_strategy": "steps",
        "save_steps": spec.save_every,
        "save_total_limit": KEPT_CHECKPOINTS,
        "logging_steps": spec.log_every,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if spec.data.eval and spec.recipe not in REWARD_RECIPES else "no",
        "eval_steps": spec.eval_every or NEVER,
        "dataloader_pin_memory": not on_cpu,
        "disable_tqdm": True,
        "report_to": "none",
    }


def schedule_arguments(spec: SupervisedRecipe) -> dict[str, Any]:
    """The step size after the warm-up: constant, along a line to 0, or a cosine to a share of the peak."""
    if spec.schedule == "cosine" and spec.min_learning_rate_ratio > 0:
        floor = {"min_lr_rate": spec.min_learning_rate_ratio}
        return {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": floor}
    return {"lr_scheduler_type": "constant_with_warmup" if spec.schedule == "constant" else spec.schedule}


class RunCallback(TrainerCallback):
    """Tells the run directory what the trainer does, and the trainer what the run directory asks."""

    def __init__(
        self, run: Run, tokenizer: Any, room: int, evaluate: Callable[[Any], dict[str, Any]] | None = None
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
        self.budget: RankBudget | None = None
        self.best: Best | None = None
        self.resumed_from: int | None = None
        self.last_log = (time.monotonic(), 0.0)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        check_world(getattr(self.spec, "processes", 1), args.world_size)
        check_trained(kwargs["model"], self.spec)
        if getattr(self.spec, "patience", None) is not None:
            self.best = Best(self.run, self.spec, self.resumed_from)
        self.budget = budget_of(kwargs["model"], state.max_steps)
        if self.budget and self.resumed_from is not None:
            self.budget.load(self.run.checkpoints / f"checkpoint-{self.resumed_from}")
        self.run.started(state.max_steps, self.resumed_from, args.device, count_parameters(kwargs["model"]))
        self.last_log = (time.monotonic(), 0.0)
        if self.resumed_from is None:
            self.probe(kwargs["model"], state.global_step, "before")

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.budget:
            self.budget.after_step(state.global_step + 1)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.run.emit("progress", step=state.global_step, total_steps=state.max_steps)
        at_end = state.global_step >= state.max_steps
        if at_end:
            control.should_save = (
                False  # the output follows at once; TRL would train on from such a checkpoint
            )
        elif any_of_all(self.run.cancel_requested(), args.device):
            self.cancelled = True
            control.should_save = control.should_training_stop = True
        elif self.spec.eval_every and state.global_step % self.spec.eval_every == 0:
            self.measure(kwargs["model"], state.global_step)
            self.probe(kwargs["model"], state.global_step, "during")
            self.stop_early(state, control)

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
            self.record_evaluation(state.global_step, rename(values), kwargs["model"])
            self.stop_early(state, control)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        path = self.run.checkpoints / f"checkpoint-{state.global_step}"
        if self.budget and self.run.is_main:
            self.budget.save(path)
        wait_for_all()  # each process has put its random state there
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
        compares = self.spec.recipe in ("reward", "reward_ranking") or (
            self.spec.recipe in ("dpo", "online_dpo") and self.spec.loss_type in ("sigmoid", "robust", "cdpo")
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
            self.record_evaluation(step, self.evaluate(model), model)

    def record_evaluation(self, step: int, values: dict[str, Any], model: Any) -> None:
        """Emit held-out measures: numbers as values, and each table (a list of rows) under its own name."""
        tables = {name: value for name, value in values.items() if isinstance(value, list)}
        numbers = {name: value for name, value in values.items() if name not in tables}
        self.run.emit("evaluation", step=step, values=finite_numbers(numbers), **tables)
        if self.best:
            self.best.record(step, numbers, model)
        if self.best is None or self.best.step == step:
            self.evaluation = {f"eval/{name}": float(value) for name, value in numbers.items()}

    def stop_early(self, state: TrainerState, control: TrainerControl) -> None:
        """End the training once the patience is at an end; the last step ends by itself."""
        if self.best and self.best.exhausted and state.global_step < state.max_steps:
            control.should_training_stop = True

    def keep_best(self, model: Any, step: int) -> None:
        """Bring the best evaluation's weights back, where those of the end are not the best."""
        if self.best is None or not self.best.history or self.best.step == step:
            return
        if self.run.is_main:
            self.best.restore(model)
        message = (
            f"the model of step {self.best.step} is kept: no evaluation after it was better (of {step} steps)"
        )
        self.run.emit("warning", message=message)
        self.metrics["best_step"] = float(self.best.step)

    def probe(self, model: Any, step: int, phase: str) -> None:
        if self.run.is_main:
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
    if callback.spec.train.kind in ("prompt", "prefix"):
        reload_virtual_tokens(trainer.model)
    if getattr(callback.spec.train, "variant", "plain") == "adalora":
        add_orthogonality(trainer)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint[1]))
    step, total = trainer.state.global_step, trainer.state.max_steps
    model = trainer.accelerator.unwrap_model(trainer.model)
    if not callback.cancelled:
        callback.check_stuck(STUCK_LOGS_AT_END)
        callback.measure(model, step)
        callback.keep_best(model, step)
        callback.probe(model, step, "after")
    kind = "reward" if run.spec.recipe in REWARD_RECIPES else "policy"
    output = None
    if run.is_main:
        with torch.no_grad():
            output = save_output(run, model, callback.tokenizer)
    wait_for_all()
    metrics = callback.metrics | callback.evaluation
    return Outcome(step, total, callback.cancelled, output, kind, metrics)  # type: ignore[arg-type]


def add_orthogonality(trainer: Any) -> None:
    """Add AdaLoRA's orthogonality to the training loss: TRL's losses do not carry PEFT's own."""
    plain = trainer.compute_loss

    def compute_loss(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        loss = plain(model, inputs, *args, **kwargs)
        if not model.training:
            return loss
        # TRL's token means are already shares of the whole step; other losses are divided by the trainer.
        whole = kwargs.get("num_items_in_batch") is not None
        parts = trainer.current_gradient_accumulation_steps if whole else 1
        return loss + orthogonality(trainer.accelerator.unwrap_model(model)) / parts

    trainer.compute_loss = compute_loss
