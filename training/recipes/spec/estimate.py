"""What a run will need, before it starts: memory, disk and time.

Imports no torch: shapes come from the headers of the model's files. The formulas:

- weights, gradients and AdamW's two moments: 4 + 4 + 8 bytes per trained parameter in float32, 4, 2 or about
  0.6 bytes per frozen one (ZeRO, arXiv 1910.02054, sec. 3.1; QLoRA, arXiv 2305.14314, sec. 3);
- activations kept for the backward pass, counted per block as in Korthikanti et al., arXiv 2205.05198, sec.
  4.1, without the attention matrix, which fused kernels do not keep, and from the first block on that is
  trained; with checkpointing the input of each block and one whole block (sec. 5);
- time: 6 floating-point operations per token and trained parameter, 4 per frozen one that gradients pass
  through, 2 more where activations are computed twice (Kaplan et al., arXiv 2001.08361, sec. 2.1).

Memory is meant to be right to a factor of 1.5, time to a factor of 5: it assumes a speed of the machine.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from training.recipes.spec.machine import show_bytes
from training.recipes.spec.parts import LearningSpec, Lora, LowRank, PrefixTuning, PromptTuning
from training.recipes.spec.rewards import REWARD_RECIPES
from training.recipes.spec.shapes import ModelShape

PROCESS_BYTES = {"cpu": 700 * 2**20, "cuda": 900 * 2**20}  # the libraries, and CUDA's context
OPERATIONS_PER_SECOND = {"cpu": 2e10, "cuda": 1e14}  # a thread in float32; a recent accelerator at a third
KEPT_CHECKPOINTS = 3  # two, and one that is being written
ONLINE = ("ppo", "rloo", "grpo", "online_dpo")
QUANTIZED_BYTES = 0.6
ALLOCATOR_SHARE = 1.25  # measured: what the allocator holds beyond what is asked of it
LOW_RANK_SHARE = 1.4  # measured: an adapter's outputs beside those of its layers
# Sequences of one row that are read together; of a ranking a guess, for rankings have many lengths.
RESPONSES = {"reward": 2, "dpo": 2, "orpo": 2, "simpo": 2, "reward_ranking": 4, "online_dpo": 2}
BYTES_PER_TOKEN = 4  # of English text, for the number of tokens in a file


@dataclass(frozen=True)
class Estimate:
    """What a run needs: bytes of memory (the accelerator's where there is one), bytes of disk, seconds."""

    memory: int
    disk: int
    seconds: float | None
    trained: int
    parts: Mapping[str, int] = field(default_factory=dict)


def estimate(
    spec: Any,
    model: ModelShape,
    *,
    scorer: ModelShape | None = None,
    row_bytes: int | None = None,
    longest_row: int | None = None,
    rows: int | None = None,
    kind: str = "cpu",
) -> Estimate:
    """What the run of `spec` on `model` needs.

    `rows` and `row_bytes` are the number of training rows and their mean length in bytes, `longest_row` the
    longest, as far as they are known. Raises nothing: what is not known is taken at its largest.
    """
    longest = longest_row + getattr(spec, "max_new_tokens", 0) if longest_row else spec.max_length
    length = min(spec.max_length, model.context or spec.max_length, longest)
    if not isinstance(spec, LearningSpec):
        return estimate_sampling(spec, model, scorer, length, kind)
    trained = count_trained(spec, model)
    models = held_models(spec, model, scorer or model, trained)
    batch = step_batch(spec)
    parts = {
        "weights": sum(weight_bytes(spec, shape, count, kind) for shape, count in models),
        "gradients and optimiser": sum(12 * count for _, count in models),
        "activations": activation_bytes(spec, model, batch, length, kind),
        "process": PROCESS_BYTES[kind],
    }
    return Estimate(
        memory=sum(parts.values()),
        disk=disk_bytes(spec, models),
        seconds=estimate_seconds(spec, model, trained, rows, row_bytes, length, kind),
        trained=trained,
        parts=parts,
    )


def held_models(
    spec: LearningSpec, model: ModelShape, scorer: ModelShape, trained: int
) -> list[tuple[ModelShape, int]]:
    """Every model that is in memory at once, and how many of its parameters are trained."""
    models = [(model, trained)]
    if hasattr(spec, "reward_model"):
        if recipe_of(spec) == "ppo":
            models.append((scorer, trained))  # the value model
        models += [(scorer, 0)] * (2 if getattr(spec, "safety_model", None) else 1)
    online = recipe_of(spec) in ONLINE
    pairs = recipe_of(spec) in ("dpo", "kto") and not getattr(spec, "precompute_reference", True)
    if is_whole(spec) and (online or pairs):
        models.append((model, 0))  # the reference
    return models


def recipe_of(spec: Any) -> str:
    """The recipe's name; the classes that recipes share do not have one."""
    return str(spec.recipe)


def is_whole(spec: LearningSpec) -> bool:
    """Whether weights of the model itself are trained."""
    return spec.train.kind in ("all", "last_layers", "head")


def outputs_of(spec: Any) -> int:
    """How many scores a reward model gives; 0 for a policy."""
    return max(1, len(spec.heads)) * spec.ensemble if recipe_of(spec) in REWARD_RECIPES else 0


def step_batch(spec: Any) -> int:
    """Sequences in one forward pass that is learned from."""
    batch = int(getattr(spec, "batch_size", getattr(spec, "minibatch_size", 1)))
    return batch * RESPONSES.get(recipe_of(spec), 1)


def count_trained(spec: LearningSpec, model: ModelShape) -> int:
    """How many parameters are trained."""
    train = spec.train
    if isinstance(train, LowRank):
        rank = math.ceil(1.5 * train.r) if isinstance(train, Lora) and train.variant == "adalora" else train.r
        chosen = [
            shape
            for name, shape in model.matrices.items()
            if train.targets == "all-linear" or name.rpartition(".")[2] in train.targets
        ]
        return sum(rank * sum(shape) for shape in chosen)
    if isinstance(train, PromptTuning):
        return train.tokens * model.hidden
    if isinstance(train, PrefixTuning):
        return train.tokens * 2 * model.layers * model.cache_width
    inside = sum(math.prod(shape) for shape in model.matrices.values())
    if train.kind == "last_layers":
        return inside * min(train.layers, model.layers) // model.layers
    if train.kind == "head":
        return model.hidden * (outputs_of(spec) or model.vocabulary)
    return model.parameters


def weight_bytes(spec: LearningSpec, model: ModelShape, trained: int, kind: str) -> int:
    """The weights as they are held, and those of an adapter beside them."""
    adapter = 0 if is_whole(spec) else 4 * trained
    if spec.train.kind == "qlora":
        return int(QUANTIZED_BYTES * model.parameters) + adapter
    frozen_half = kind == "cuda" and not (is_whole(spec) and trained)
    return (2 if frozen_half else 4) * model.parameters + adapter


def activation_bytes(spec: LearningSpec, model: ModelShape, batch: int, length: int, kind: str) -> int:
    """What the backward pass needs of the forward one, and the largest block of logits."""
    if isinstance(spec.train, PromptTuning | PrefixTuning):
        length += spec.train.tokens
    tokens = batch * length
    per_block = ALLOCATOR_SHARE * model.block_activations * (LOW_RANK_SHARE if spec.lora else 1)
    blocks = {"last_layers": getattr(spec.train, "layers", 0), "head": 0}.get(spec.train.kind, model.layers)
    if kind == "cpu":
        kept = 4 * tokens * per_block * max(1, min(blocks, model.layers))
    else:
        kept = 2 * tokens * (model.hidden * blocks + per_block)
    width = min(length, int(getattr(spec, "max_new_tokens", length)))
    # TRL computes its losses from the states, a few sequences' logits at a time; PPO from all logits.
    together = batch if recipe_of(spec) == "ppo" else min(batch, 2)
    return int(kept) + 4 * 4 * together * width * model.vocabulary


def disk_bytes(spec: LearningSpec, models: list[tuple[ModelShape, int]]) -> int:
    """Checkpoints (weights that are saved and the optimiser's moments), the best model, and the output."""
    model, trained = models[0]
    learned = [(shape, count) for shape, count in models if count]
    whole = is_whole(spec) and recipe_of(spec) != "ppo"
    checkpoint = sum((4 * shape.parameters if whole else 4 * count) + 8 * count for shape, count in learned)
    output = (
        4 * trained if spec.saves_adapter else 4 * model.parameters + (0 if is_whole(spec) else 4 * trained)
    )
    best = 4 * trained if getattr(spec, "patience", None) else 0
    return KEPT_CHECKPOINTS * checkpoint + output + best


def estimate_seconds(
    spec: Any,
    model: ModelShape,
    trained: int,
    rows: int | None,
    row_bytes: int | None,
    length: int,
    kind: str,
) -> float | None:
    """Seconds of arithmetic; None where the number of steps is not known."""
    if hasattr(spec, "ppo_epochs"):
        # each response is written, read by three models, and learned from by two in each epoch
        steps: float = spec.steps
        sequences = spec.rollout_batch_size * (3 + 2 * spec.ppo_epochs)
    elif hasattr(spec, "prompts_per_step"):
        # each response is written, read by the policy, the reference and the reward model, and learned from
        steps = spec.steps
        sequences = spec.prompts_per_step * getattr(spec, "samples_per_prompt", 2) * 5
    elif not hasattr(spec, "gradient_accumulation") or (spec.max_steps is None and rows is None):
        return None
    else:
        per_step = spec.batch_size * spec.gradient_accumulation
        steps = spec.max_steps or math.ceil((rows or 1) / per_step) * spec.epochs
        sequences = per_step * step_batch(spec) // spec.batch_size
        if recipe_of(spec) == "rejection" and rows:
            # each response is written and read by the reward model: two thirds of learning from it
            sequences += math.ceil(rows * spec.samples_per_prompt * 2 / max(steps, 1))
    tokens = min(length, (row_bytes or BYTES_PER_TOKEN * length) // BYTES_PER_TOKEN + 1)
    operations = 4 * model.parameters + 2 * trained + (2 * model.parameters if kind == "cuda" else 0)
    threads = min(spec.threads, os.cpu_count() or 1) if kind == "cpu" else 1
    return float(steps * sequences * tokens * operations / (OPERATIONS_PER_SECOND[kind] * threads))


def estimate_sampling(
    spec: Any, model: ModelShape, scorer: ModelShape | None, length: int, kind: str
) -> Estimate:
    """Writing responses: the weights of what is loaded at once, and the keys and values of a batch."""
    loaded = [model, *([scorer] if scorer else []), *([model] if spec.reference else [])]
    width = 2 if kind == "cuda" else 4
    parts = {
        "weights": sum(width * shape.parameters for shape in loaded),
        "keys and values": 2 * width * spec.batch_size * length * model.layers * model.cache_width,
        "logits": 2 * 4 * spec.batch_size * model.vocabulary * (spec.max_new_tokens if spec.reference else 1),
        "process": PROCESS_BYTES[kind],
    }
    return Estimate(sum(parts.values()), disk=0, seconds=None, trained=0, parts=parts)


def what_would_fit(spec: Any, model: ModelShape, free: int, **known: Any) -> list[str]:
    """Changes of one setting, or of two, with which the run would fit into `free` bytes; the least first."""
    found = []
    for words, changes in ways_to_save(spec, str(known.get("kind", "cpu"))):
        smaller = spec.model_copy(update=changes)
        need = estimate(smaller, model, **known).memory
        if need <= free:
            found.append(f"{words} ({show_bytes(need)})")
    return found[:4]


def ways_to_save(spec: Any, kind: str) -> list[tuple[str, dict[str, Any]]]:
    name = "minibatch_size" if recipe_of(spec) == "ppo" else "batch_size"
    batch = int(getattr(spec, name))
    ways: list[tuple[str, dict[str, Any]]] = []
    for smaller in [size for size in (batch // 2, batch // 4, 1) if 0 < size < batch]:
        more = {}
        if hasattr(spec, "gradient_accumulation"):
            more = {"gradient_accumulation": spec.gradient_accumulation * (batch // smaller)}
        words = f"{name} {smaller}" + "".join(f" with {key} {value}" for key, value in more.items())
        ways.append((words, {name: smaller, **more}))
    if spec.max_length > 256:
        ways.append((f"max_length {spec.max_length // 2}", {"max_length": spec.max_length // 2}))
    if isinstance(spec, LearningSpec) and is_whole(spec):
        ways.append(("train.kind lora", {"train": Lora()}))
        ways.append((f"train.kind lora with {name} 1", {"train": Lora(), name: 1}))
    return ways
