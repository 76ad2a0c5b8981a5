"""The run specification: what a recipe is asked to do, validated field by field.

This module imports no torch, so that the web process can build its forms from it. Each field carries its
bounds and, in `json_schema_extra`, a `unit` and the `source` of its default. `parse_spec` is the only way in:
what it returns is valid, what it refuses is explained in words that say what would be right.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

SPEC_FILE = "spec.json"
EVENTS_FILE = "events.jsonl"
RESULT_FILE = "result.json"
CANCEL_FILE = "cancel"
CHECKPOINTS_DIR = "checkpoints"
SAMPLES_FILE = "samples.jsonl"

EventKind = Literal[
    "started",
    "progress",
    "metrics",
    "samples",
    "checkpoint",
    "evaluation",
    "warning",
    "finished",
    "cancelled",
    "failed",
]
ErrorCode = Literal[
    "out_of_memory",
    "disk_full",
    "nan_loss",
    "stuck_loss",
    "bad_spec",
    "bad_data",
    "bad_model",
    "crash",
]
RunStatus = Literal["succeeded", "cancelled", "failed"]
EVENT_KINDS: tuple[EventKind, ...] = get_args(EventKind)
ERROR_CODES: tuple[ErrorCode, ...] = get_args(ErrorCode)
RUN_STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)

LLAMA2 = "Llama 2, arXiv 2307.09288"
INSTRUCTGPT = "InstructGPT, arXiv 2203.02155"
DPO_PAPER = "DPO, arXiv 2305.18290"
PPO_PAPER = "PPO, arXiv 1707.06347"
GAE_PAPER = "GAE, arXiv 1506.02438"
ZIEGLER = "Ziegler et al. 2019, arXiv 1909.08593"
HUANG = "Huang et al. 2024, arXiv 2403.17031"
LORA_PAPER = "LoRA, arXiv 2106.09685"


class SpecError(ValueError):
    """A refused specification. `problems` lists (dotted field path, message); "" is the whole."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{path}: {message}" if path else message for path, message in problems))


def setting(
    default: Any, description: str, *, unit: str | None = None, source: str | None = None, **bounds: Any
) -> Any:
    """A field with its explanation for forms; `bounds` are pydantic's (`gt`, `le`, `max_length`, ...)."""
    extra: dict[str, Any] = {"unit": unit, "source": source}
    return Field(default, description=description, json_schema_extra=extra, **bounds)


def check_path(value: str) -> str:
    """Refuse what no file is called, and a way out of the run directory."""
    if not value.strip() or "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("must be a path in plain text")
    if ".." in value.replace("\\", "/").split("/"):
        raise ValueError("must not contain '..': name something in the run directory")
    return value


def check_target(value: str) -> str:
    """Refuse the output layer: TRL multiplies by its weight directly: an adapter there would never learn."""
    if value.rsplit(".", maxsplit=1)[-1] in ("lm_head", "score"):
        raise ValueError(
            "must not name the output layer; name linear layers inside the model, such as q_proj"
        )
    return value


def check_relative(value: str) -> str:
    if value.startswith(("/", "\\", "~")) or value[1:2] == ":":
        raise ValueError("must be relative to the folder of spec.json, for example data/train.jsonl")
    return check_path(value)


RunPath = Annotated[str, Field(max_length=1000), AfterValidator(check_relative)]
ModelPath = Annotated[str, Field(max_length=1000), AfterValidator(check_path)]
LayerName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(check_target)]
ModelKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Part(BaseModel):
    """Base of every part of a specification: unknown fields and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class TrainingData(Part):
    train: RunPath = setting(..., "The rows to learn from, a JSONL file.", unit="file")
    eval: RunPath | None = setting(None, "Held-out rows, measured but never learned from.", unit="file")


class SampleData(Part):
    prompts: RunPath = setting(..., "The prompts to answer, a JSONL file.", unit="file")


class Probes(Part):
    """A few prompts that are answered before and after training, so that a person can see the difference."""

    prompts: RunPath = setting(..., "The prompts to answer, a JSONL file.", unit="file")
    count: int = setting(4, "How many of them to answer.", unit="prompts", ge=1, le=64)
    max_new_tokens: int = setting(64, "Longest answer.", unit="tokens", ge=1, le=4096)
    temperature: float = setting(0.7, "Sampling temperature; 0 is greedy.", ge=0, le=5)


class Lora(Part):
    r: int = setting(16, "Rank of the adapter's matrices.", source=LORA_PAPER, ge=1, le=1024)
    alpha: float = setting(
        32, "Scale: the adapter is multiplied by alpha / r.", source=LORA_PAPER, gt=0, le=4096
    )
    dropout: float = setting(0.0, "Dropout on the adapter's input.", unit="share", ge=0, lt=1)
    targets: Literal["all-linear"] | list[LayerName] = setting(
        "all-linear",
        "Names of the layers that get an adapter, or all-linear.",
        source="QLoRA, arXiv 2305.14314",
        min_length=1,
    )


class BaseSpec(Part):
    """What every recipe's specification has."""

    version: Literal[1] = setting(1, "Version of this format.")
    seed: int = setting(0, "Seed of everything random in the run.", ge=0, le=2**32 - 1)
    threads: int = setting(2, "CPU threads for the arithmetic.", unit="threads", ge=1, le=256)
    device: Literal["auto", "cpu"] = setting("auto", "auto takes an accelerator where there is one.")
    output: RunPath = setting("output", "Folder of the final model or samples.", unit="folder")


class LearningSpec(BaseSpec):
    """What the recipes that change weights share."""

    data: TrainingData
    model: ModelPath = setting(
        ..., "The model to start from: a folder of the run, an absolute folder or a hub id.", unit="model"
    )
    lora: Lora | None = setting(Lora(), "Train a low-rank adapter; null trains every weight.")
    learning_rate: float = setting(1e-5, "Peak step size of AdamW.", gt=0, le=1)
    weight_decay: float = setting(0.0, "Decoupled weight decay.", ge=0, le=1)
    max_grad_norm: float = setting(1.0, "Gradients are clipped to this norm.", source=LLAMA2, gt=0, le=1000)
    max_length: int = setting(
        512,
        "Longest prompt and response together, cut to what the model can hold.",
        unit="tokens",
        ge=8,
        le=131072,
    )
    save_every: int = setting(50, "A checkpoint every so many steps.", unit="steps", ge=1, le=1_000_000)
    log_every: int = setting(1, "Metrics every so many steps.", unit="steps", ge=1, le=100_000)


class SupervisedSpec(LearningSpec):
    """What the recipes with a fixed dataset share."""

    epochs: float = setting(
        1.0, "Passes over the training rows.", unit="epochs", source=LLAMA2, gt=0, le=1000
    )
    max_steps: int | None = setting(
        None, "Stop after so many steps, whatever epochs says.", unit="steps", ge=1, le=10_000_000
    )
    batch_size: int = setting(8, "Rows in one forward pass.", unit="rows", ge=1, le=4096)
    gradient_accumulation: int = setting(1, "Forward passes per step.", ge=1, le=4096)
    warmup_ratio: float = setting(
        0.03, "Share of the steps in which the step size grows.", unit="share", source=LLAMA2, ge=0, le=1
    )
    schedule: Literal["linear", "cosine", "constant"] = setting(
        "cosine", "How the step size falls after the warm-up."
    )
    eval_every: int | None = setting(
        None, "Evaluate every so many steps; null: only at the end.", unit="steps", ge=1, le=1_000_000
    )


class SftSpec(SupervisedSpec):
    """Supervised fine-tuning: imitate given responses."""

    recipe: Literal["sft"]
    learning_rate: float = setting(2e-5, "Peak step size of AdamW.", source=f"{LLAMA2}, sec. 3.1", gt=0, le=1)
    weight_decay: float = setting(0.1, "Decoupled weight decay.", source=f"{LLAMA2}, sec. 3.1", ge=0, le=1)
    epochs: float = setting(
        2.0, "Passes over the rows.", unit="epochs", source=f"{LLAMA2}, sec. 3.1", gt=0, le=1000
    )
    probes: Probes | None = setting(None, "Prompts answered before and after training.")


class RewardSpec(SupervisedSpec):
    """A reward model: a score of a response, fitted to preferences with the Bradley-Terry loss."""

    recipe: Literal["reward"]
    learning_rate: float = setting(
        1e-5, "Peak step size of AdamW.", source=f"{LLAMA2}, sec. 3.2.2", gt=0, le=1
    )
    use_margin: bool = setting(
        True, "Ask for a larger score difference where the row has a margin.", source=f"{LLAMA2}, eq. 2"
    )
    center_coefficient: float | None = setting(
        None, "Weight of a penalty that keeps scores around zero.", source="arXiv 2312.09244", ge=0, le=10
    )


class DpoSpec(SupervisedSpec):
    """Direct preference optimisation: fine-tune on preferences without a reward model."""

    recipe: Literal["dpo"]
    learning_rate: float = setting(
        1e-6, "Peak step size of AdamW.", source=f"{DPO_PAPER}, app. B", gt=0, le=1
    )
    beta: float = setting(
        0.1, "How strongly the model is held to its start.", source=f"{DPO_PAPER}, app. B", gt=0, le=100
    )
    loss_type: Literal["sigmoid", "ipo", "hinge", "robust", "exo_pair", "apo_zero"] = setting(
        "sigmoid", "sigmoid is the paper's loss; robust expects wrong labels; ipo does not saturate."
    )
    label_smoothing: float = setting(
        0.0, "Expected share of wrong labels, for robust and exo_pair.", unit="share", ge=0, lt=0.5
    )
    sft_weight: float = setting(
        0.0,
        "Weight of the mean negative log-likelihood of the better response in the loss: keeps it likely "
        "where a plain preference loss may push both responses down.",
        source="0.2 in Llama 3, arXiv 2407.21783, sec. 4.1.4; 1 in arXiv 2404.19733",
        ge=0,
        le=100,
    )
    precompute_reference: bool = setting(True, "Score the reference once, before training: faster.")
    probes: Probes | None = setting(None, "Prompts answered before and after training.")

    @model_validator(mode="after")
    def check_smoothing(self) -> Self:
        if self.label_smoothing > 0 and self.loss_type not in ("robust", "exo_pair"):
            raise ValueError(
                "label_smoothing: only robust and exo_pair use it; set it to 0 or the loss_type to robust"
            )
        if self.loss_type == "exo_pair" and self.label_smoothing == 0:
            raise ValueError("label_smoothing: exo_pair needs it above 0, for example 0.001")
        return self


class PpoSpec(LearningSpec):
    """Proximal policy optimisation against a reward model, with a KL penalty per token."""

    recipe: Literal["ppo"]
    reward_model: ModelPath = setting(..., "The reward model that scores the responses.", unit="model")
    steps: int = setting(100, "Rollout batches in all.", unit="steps", ge=1, le=1_000_000)
    rollout_batch_size: int = setting(
        64, "Responses written per step.", unit="responses", source=INSTRUCTGPT, ge=1, le=8192
    )
    minibatch_size: int = setting(16, "Responses per gradient step.", unit="responses", ge=1, le=8192)
    ppo_epochs: int = setting(4, "Passes over each rollout batch.", source=ZIEGLER, ge=1, le=64)
    learning_rate: float = setting(
        9.65e-6, "Step size of the policy's Adam.", source=f"{INSTRUCTGPT}, app. C.4", gt=0, le=1
    )
    value_learning_rate: float = setting(
        9e-6, "Step size of the value model's Adam.", source=f"{INSTRUCTGPT}, app. C.4", gt=0, le=1
    )
    max_new_tokens: int = setting(64, "Longest response.", unit="tokens", ge=1, le=8192)
    temperature: float = setting(1.0, "Sampling temperature of the rollouts.", source=INSTRUCTGPT, gt=0, le=5)
    kl_coefficient: float = setting(
        0.02,
        "Weight of the KL penalty per token.",
        unit="reward per nat",
        source=f"{INSTRUCTGPT}, sec. 3.5",
        ge=0,
        le=10,
    )
    kl_target: float | None = setting(
        None,
        "Adapt the KL weight towards this KL per response.",
        unit="nats",
        source=f"{ZIEGLER}, sec. 2.2",
        gt=0,
    )
    kl_horizon: int = setting(
        10_000, "Responses over which the KL weight adapts.", unit="responses", source=ZIEGLER, ge=1
    )
    kl_budget: float | None = setting(
        None, "Stop, and keep the model, when a step's KL per response exceeds this.", unit="nats", gt=0
    )
    clip_range: float = setting(
        0.2, "Clip of the probability ratio.", source=f"{PPO_PAPER}, eq. 7", gt=0, lt=1
    )
    value_clip_range: float = setting(0.2, "Clip of the value's change.", source=HUANG, gt=0, le=100)
    value_coefficient: float = setting(0.5, "Weight of the value loss.", source=PPO_PAPER, gt=0, le=10)
    gamma: float = setting(1.0, "Discount per token.", source=ZIEGLER, gt=0, le=1)
    lam: float = setting(0.95, "GAE's trade of bias for variance.", source=f"{GAE_PAPER}, eq. 16", ge=0, le=1)
    whiten_advantages: bool = setting(True, "Scale the advantages to mean 0 and deviation 1.", source=ZIEGLER)
    reward_scaling: Literal["none", "whiten"] = setting(
        "none", "whiten scales each batch's scores to mean 0 and deviation 1.", source=f"{LLAMA2}, sec. 3.2.3"
    )
    unfinished_penalty: float | None = setting(
        -1.0,
        "Score of a response that does not end by itself; null keeps its own.",
        unit="reward",
        source=ZIEGLER,
        le=0,
    )
    probes: Probes | None = setting(None, "Prompts answered before and after training.")

    @model_validator(mode="after")
    def check_sizes(self) -> Self:
        if self.rollout_batch_size % self.minibatch_size:
            raise ValueError("minibatch_size: must divide rollout_batch_size without a rest")
        if self.max_new_tokens >= self.max_length:
            raise ValueError("max_new_tokens: must be less than max_length, which holds the prompt too")
        return self


class SampleSpec(BaseSpec):
    """Write responses with one or several models, and measure them."""

    recipe: Literal["sample"]
    data: SampleData
    models: dict[ModelKey, ModelPath] = setting(
        ..., "The models that answer, by a name of your choice.", unit="models", min_length=1, max_length=16
    )
    samples_per_prompt: int = setting(1, "Responses per prompt and model.", unit="responses", ge=1, le=256)
    temperature: float = setting(0.7, "Sampling temperature; 0 is greedy.", ge=0, le=5)
    top_p: float = setting(
        1.0, "Nucleus: keep the likeliest tokens up to this mass.", source="arXiv 1904.09751", gt=0, le=1
    )
    max_new_tokens: int = setting(256, "Longest response.", unit="tokens", ge=1, le=8192)
    max_length: int = setting(2048, "Longest prompt and response together.", unit="tokens", ge=8, le=131072)
    batch_size: int = setting(16, "Responses written at once.", unit="responses", ge=1, le=4096)
    limit: int | None = setting(None, "Answer only the first so many prompts.", unit="prompts", ge=1)
    reward_model: ModelPath | None = setting(None, "A reward model that scores each response.", unit="model")
    reference: ModelPath | None = setting(
        None, "A model to measure each response's KL from, summed over its tokens.", unit="model"
    )

    @model_validator(mode="after")
    def check_lengths(self) -> Self:
        if self.max_new_tokens >= self.max_length:
            raise ValueError("max_new_tokens: must be less than max_length, which holds the prompt too")
        return self


Spec = SftSpec | RewardSpec | DpoSpec | PpoSpec | SampleSpec
RECIPES: dict[str, type[Spec]] = {
    "sft": SftSpec,
    "reward": RewardSpec,
    "dpo": DpoSpec,
    "ppo": PpoSpec,
    "sample": SampleSpec,
}


def parse_spec(raw: object) -> Spec:
    """The specification in `raw` (what json.load gave, or a form's values).

    Raises SpecError naming each bad field."""
    if not isinstance(raw, Mapping):
        raise SpecError([("", f"must be an object with named fields, not {type(raw).__name__}")])
    known = ", ".join(RECIPES)
    name = raw.get("recipe")
    if not isinstance(name, str) or name not in RECIPES:
        wrong = "is required" if name is None else f"{str(name)[:80]!r} is unknown"
        raise SpecError([("recipe", f"{wrong}; it must be one of {known}")])
    try:
        return RECIPES[name].model_validate(dict(raw))
    except ValidationError as error:
        raise SpecError([explain(RECIPES[name], detail) for detail in error.errors()]) from error


def explain(model: type[Part], detail: ErrorDetails) -> tuple[str, str]:
    """One of pydantic's error details as (field path, message)."""
    names = [str(part) for part in detail["loc"]]
    path = ".".join(
        name for name in names if name != "[key]" and "literal[" not in name and "list[" not in name
    )
    given = repr(detail["input"])
    given = given if len(given) <= 80 else given[:77] + "..."
    if detail["type"] == "missing":
        return path, "is required"
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(names[-1], model.model_fields, 1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(model.model_fields)}"
        return path, f"is not a setting of this recipe; {hint}"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        field, colon, rest = message.partition(": ")
        return (field, rest) if not path and colon else (path, f"{message} (it is {given})")
    return path, message.replace("Input should", "should").replace("'", "") + f" (it is {given})"
