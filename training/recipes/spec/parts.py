"""What specifications are made of: fields with their explanations, checked paths, data, probes, adapters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from training.recipes.spec.sources import LLAMA2, LORA_PAPER


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
