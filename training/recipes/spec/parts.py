"""What specifications are made of: fields with their explanations, checked paths, data, probes, adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

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


class Everything(Part):
    """Every weight."""

    kind: Literal["all"] = setting("all", "Every weight is trained.")


class LastLayers(Part):
    """The last blocks of the transformer; a reward model's score head too."""

    kind: Literal["last_layers"] = setting("last_layers", "The last blocks are trained.")
    layers: int = setting(2, "How many blocks, counted from the output.", unit="blocks", ge=1, le=10_000)


class Head(Part):
    """The output layer alone: a policy's output matrix (parted from the embeddings), a score head."""

    kind: Literal["head"] = setting("head", "The output layer is trained.")


class LowRank(Part):
    """What every adapter of low rank has."""

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


class Lora(LowRank):
    """An adapter of low rank beside frozen weights."""

    kind: Literal["lora"] = setting("lora", "An adapter of low rank is trained.", source=LORA_PAPER)
    variant: Literal["plain", "rslora", "dora", "adalora"] = setting(
        "plain",
        "rslora divides alpha by the root of r; dora learns each row's length apart; adalora begins with "
        "1.5 r and moves the ranks to where they matter.",
        source="arXiv 2312.03732, 2402.09353, 2303.10512",
    )
    save: Literal["merged", "adapter"] = setting(
        "merged", "merged saves a whole model; adapter saves the adapter alone, over the model it began with."
    )


class Qlora(LowRank):
    """An adapter over weights that are held in 4 bits; saved alone. Needs a CUDA device and bitsandbytes."""

    kind: Literal["qlora"] = setting(
        "qlora", "An adapter over a 4-bit model is trained.", source="arXiv 2305.14314"
    )


class PromptTuning(Part):
    """Embeddings of virtual tokens before the prompt; saved alone."""

    kind: Literal["prompt"] = setting("prompt", "Virtual tokens are trained.", source="arXiv 2104.08691")
    tokens: int = setting(
        20, "Virtual tokens.", unit="tokens", source="arXiv 2104.08691, sec. 3.2", ge=1, le=1000
    )
    start: str = setting("", "A text from whose embeddings they start; empty: at random.", max_length=10_000)


class PrefixTuning(Part):
    """Keys and values of virtual tokens in every layer; saved alone."""

    kind: Literal["prefix"] = setting(
        "prefix", "Keys and values of virtual tokens are trained.", source="arXiv 2101.00190"
    )
    tokens: int = setting(20, "Virtual tokens.", unit="tokens", ge=1, le=1000)


Adapter = Lora | Qlora | PromptTuning | PrefixTuning
Trained = Annotated[
    Everything | LastLayers | Head | Lora | Qlora | PromptTuning | PrefixTuning, Field(discriminator="kind")
]
TRAINED: dict[str, type[Part]] = {
    "all": Everything,
    "last_layers": LastLayers,
    "head": Head,
    "lora": Lora,
    "qlora": Qlora,
    "prompt": PromptTuning,
    "prefix": PrefixTuning,
}


def name_trained(raw: Any) -> Any:
    """Settings of the first releases as they are said now: `lora` was the adapter, and null every weight."""
    if not isinstance(raw, Mapping) or "lora" not in raw or "train" in raw:
        return raw
    lora = raw["lora"]
    said = (
        {"kind": "all"} if lora is None else {"kind": "lora", **lora} if isinstance(lora, Mapping) else lora
    )
    return {name: value for name, value in raw.items() if name != "lora"} | {"train": said}


class BaseSpec(Part):
    """What every recipe's specification has."""

    version: Literal[1] = setting(1, "Version of this format.")
    seed: int = setting(0, "Seed of everything random in the run.", ge=0, le=2**32 - 1)
    threads: int = setting(2, "CPU threads for the arithmetic.", unit="threads", ge=1, le=256)
    device: Literal["auto", "cpu"] = setting("auto", "auto takes an accelerator where there is one.")
    estimate: Literal["refuse", "warn"] = setting(
        "refuse",
        "What to do with a run that is thought not to fit into memory or disk: refuse it, or try it.",
    )
    output: RunPath = setting("output", "Folder of the final model or samples.", unit="folder")


class LearningSpec(BaseSpec):
    """What the recipes that change weights share."""

    data: TrainingData
    model: ModelPath = setting(
        ..., "The model to start from: a folder of the run, an absolute folder or a hub id.", unit="model"
    )
    train: Trained = setting(Lora(), "What is trained; the rest of the model stays as it is.")
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

    @model_validator(mode="before")
    @classmethod
    def read_lora(cls, raw: Any) -> Any:
        return name_trained(raw)

    @model_validator(mode="after")
    def check_trained(self) -> Self:
        if self.train.kind == "qlora" and self.device == "cpu":
            raise ValueError(
                "train.kind: qlora needs a CUDA device; set device to auto or train.kind to lora"
            )
        return self

    @property
    def lora(self) -> Lora | Qlora | None:
        """The adapter of low rank, where that is what is trained."""
        return self.train if isinstance(self.train, Lora | Qlora) else None

    @property
    def saves_adapter(self) -> bool:
        """Whether the output is an adapter alone, to be used over the model that it began with."""
        return isinstance(self.train, Adapter) and getattr(self.train, "save", "adapter") == "adapter"
