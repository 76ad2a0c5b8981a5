"""What the recipes share that run TRL's online trainers: RLOO, GRPO and online DPO against a reward model.

The trainer writes the responses; here they are scored, watched and reported. The prompts of all steps are
laid out beforehand, pass after pass, each pass in its own order, and the sampling of a step is seeded by the
step: a resumed run ends with the same bits.
"""

from __future__ import annotations

import json
import math
import time
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerControl, TrainerState, TrainingArguments

from training.recipes.alarms import Watch, fail_not_finite
from training.recipes.data import Messages, PromptRow, bad_data, fit_prompt
from training.recipes.generation import derive_seed
from training.recipes.models import choose_device, uses_bfloat16
from training.recipes.reward_terms import Response
from training.recipes.rundir import KEPT_CHECKPOINTS, Run
from training.recipes.scoring import Scorer
from training.recipes.spec import OnlineTrlSpec
from training.recipes.trl_run import RunCallback

WATCH_FILE = "watch.json"


def online_arguments(spec: OnlineTrlSpec, run: Run) -> dict[str, Any]:
    """Keyword arguments for RLOOConfig, GRPOConfig and OnlineDPOConfig; a step is a batch of responses."""
    device = choose_device(run.spec)
    on_cpu = device.type == "cpu"
    run.facts["precision"] = "bfloat16 over float32" if uses_bfloat16(device) else "float32"
    return {
        "output_dir": str(run.checkpoints),
        "seed": spec.seed,
        "data_seed": spec.seed,
        "use_cpu": on_cpu,
        "bf16": uses_bfloat16(device),
        "gradient_checkpointing": not on_cpu,
        "learning_rate": spec.learning_rate,
        "weight_decay": spec.weight_decay,
        "max_grad_norm": spec.max_grad_norm,
        "num_train_epochs": 1,
        "max_steps": spec.steps,
        "warmup_steps": spec.warmup_ratio,
        "lr_scheduler_type": "constant_with_warmup" if spec.schedule == "constant" else spec.schedule,
        "save_strategy": "steps",
        "save_steps": spec.save_every,
        "save_total_limit": KEPT_CHECKPOINTS,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "dataloader_pin_memory": not on_cpu,
        "disable_dropout": not (spec.lora and spec.lora.dropout),
        "temperature": spec.temperature,
        "disable_tqdm": True,
        "report_to": "none",
    }


def set_reference(trainer: Any, reference: Any) -> None:
    """Give TRL's reference the start's weights: it was loaded by the model's path, which is the base where an
    adapter was merged into it.
    """
    if trainer.ref_model is not None:
        trainer.accelerator.unwrap_model(trainer.ref_model).load_state_dict(reference.state_dict())


def lay_out_prompts(prompts: list[PromptRow], spec: OnlineTrlSpec, tokenizer: Any, room: int) -> Dataset:
    """The prompts of all steps in order, cut from the left to leave room for a response."""
    fitted: list[Messages] = []
    for row in prompts:
        messages = fit_prompt(tokenizer, row.prompt, [], room - spec.max_new_tokens)
        if messages is None:
            raise bad_data(f"prompt {row.id} does not fit max_length whatever is cut: raise max_length")
        fitted.append(messages)
    wanted = spec.steps * spec.prompts_per_step
    order: list[int] = []
    for turn in range(math.ceil(wanted / len(prompts))):
        generator = torch.Generator().manual_seed(derive_seed(spec.seed, "prompts", turn))
        order += torch.randperm(len(prompts), generator=generator).tolist()
    return Dataset.from_list([{"prompt": fitted[place], "place": place} for place in order[:wanted]])


class Rater:
    """The reward function that the trainer calls; it keeps what it saw for the callback."""

    def __init__(
        self, spec: OnlineTrlSpec, scorer: Scorer, prompts: list[PromptRow], ends: list[int]
    ) -> None:
        self.spec = spec
        self.scorer = scorer
        self.prompts = prompts
        self.ends = set(ends)
        self.scores: list[float] = []
        self.tokens: list[list[int]] = []
        self.measures: dict[str, float] = {}

    def forget(self) -> None:
        """Before a step: what follows is another batch."""
        self.scores, self.tokens, self.measures = [], [], {}

    def rate(
        self, place: list[int], completions: list[Messages], completion_ids: list[list[int]], **_: Any
    ) -> list[float]:
        """What each response is worth; named columns as TRL's trainers pass them."""
        tokens = [self.cut(ids) for ids in completion_ids]
        responses = [
            Response(said[0]["content"].strip(), len(ids), bool(ids) and ids[-1] in self.ends)
            for said, ids in zip(completions, tokens, strict=True)
        ]
        scores = self.scorer.score([self.prompts[index] for index in place], responses)
        before, now = len(self.scores), len(responses)
        finished = scores.finished.float().mean().item()
        for name, value in (scores.measures | {"finished": finished}).items():
            seen = self.measures.get(name, 0.0)
            self.measures[name] = (seen * before + value * now) / (before + now)
        self.scores += (scores.model + scores.terms).tolist()
        self.tokens += tokens
        return scores.total(self.spec.unfinished_penalty).tolist()

    def cut(self, ids: list[int]) -> list[int]:
        """The response's tokens up to its end token, which counts: the trainers pad some of them further."""
        for place, token in enumerate(ids):
            if token in self.ends:
                return ids[: place + 1]
        return ids


class OnlineCallback(RunCallback):
    """A RunCallback that seeds each step, watches its responses and reports what they were worth."""

    spec: OnlineTrlSpec  # type: ignore[assignment]

    def __init__(self, run: Run, tokenizer: Any, room: int, rater: Rater) -> None:
        super().__init__(run, tokenizer, room)
        self.rater = rater
        self.watch = Watch(self.spec)
        self.began = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        if self.resumed_from is not None:
            path = self.run.checkpoints / f"checkpoint-{self.resumed_from}" / WATCH_FILE
            self.watch = Watch(self.spec, json.loads(path.read_text()))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.began = time.monotonic()
        self.rater.forget()
        torch.manual_seed(derive_seed(self.spec.seed, "rollout", state.global_step))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.run.emit("progress", step=state.global_step, total_steps=state.max_steps)
        if state.global_step >= state.max_steps:
            control.should_save = False  # the output follows at once
        elif self.run.cancel_requested():
            self.cancelled = True
            control.should_save = control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        step = state.global_step
        lengths = [len(ids) for ids in self.rater.tokens]
        values = self.read_log(logs, sum(lengths) / len(lengths)) | self.rater.measures
        values["response_length"] = sum(lengths) / len(lengths)
        values["tokens_per_second"] = sum(lengths) / (time.monotonic() - self.began)
        measures, stop = self.watch.look(self.run, step, values["kl"], self.rater.scores, self.rater.tokens)
        self.metrics = values | measures
        if step % self.spec.log_every == 0 or step >= state.max_steps or stop:
            self.run.emit_values("metrics", step, self.metrics)
        if not math.isfinite(values["loss"]) or not math.isfinite(values["grad_norm"]):
            fail_not_finite(self.run, step, "The loss or its gradient")
        self.check_loss(values["loss"])
        if stop and not self.cancelled:
            self.run.emit("warning", message=f"stopped at step {step}: an alarm of stop_on was raised")
            control.should_training_stop = True
            control.should_save = False

    def check_loss(self, loss: float) -> None:
        """Nothing to be said of a loss that is around zero by design (RLOO, GRPO)."""

    def read_log(self, logs: dict[str, Any], length: float) -> dict[str, float]:
        """The trainer's own numbers under our names; TRL gives the KL per token, we per response."""
        return {
            "loss": logs["loss"],
            "grad_norm": float(logs["grad_norm"]),
            "learning_rate": logs["learning_rate"],
            "kl": logs["kl"] * length,
            "entropy": logs["entropy"],
            "reward_std": logs["reward_std"],
        }

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        path = self.run.checkpoints / f"checkpoint-{state.global_step}"
        (path / WATCH_FILE).write_text(json.dumps(self.watch.state))
        super().on_save(args, state, control, **kwargs)
