"""The heads of a reward model: which of its outputs is which score, and what a score's members say together.

A model's outputs are ordered score by score, and within a score member by member. The names and the number of
members are kept in the model's config.json (`score_heads`, `score_members`); a model without them has one
score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from training.recipes.data import Messages
from training.recipes.errors import RecipeError
from training.recipes.generation import derive_seed, score_outputs


@dataclass(frozen=True)
class Heads:
    """The scores' names, in the order of the outputs ("" for the one of a model without names)."""

    names: tuple[str, ...] = ("",)
    members: int = 1

    @property
    def outputs(self) -> int:
        return len(self.names) * self.members


@dataclass
class Scores:
    """What a reward model says of some responses: mean [N, H] over each score's members, deviation [N, H].

    The deviation is that of a sample (n - 1); 0 with a single member.
    """

    heads: Heads
    mean: torch.Tensor
    deviation: torch.Tensor


def read_heads(config: Any) -> Heads:
    """The heads that a model's configuration tells of."""
    names = getattr(config, "score_heads", None) or [""]
    return Heads(tuple(names), getattr(config, "score_members", None) or 1)


def name_heads(model: Any, heads: Heads) -> None:
    """Have the model's configuration tell of its heads; one without names stays as it is."""
    if heads != Heads():
        model.config.score_heads = list(heads.names)
        model.config.score_members = heads.members


@torch.no_grad()
def seed_members(model: Any, heads: Heads, seed: int) -> None:
    """Draw each member's weights anew from a seed of its own, as transformers draws a fresh head's."""
    weight = model.score.weight
    for index in range(heads.outputs):
        generator = torch.Generator().manual_seed(derive_seed(seed, "member", index))
        drawn = torch.randn(weight.shape[1], generator=generator) * model.config.initializer_range
        weight[index] = drawn.to(weight)


@torch.no_grad()
def keep_first_score(model: Any, heads: Heads) -> None:
    """Reduce the model to one output, its first score: the mean of members is linear, so nothing is lost."""
    if heads.outputs > 1:
        first = model.score.weight[: heads.members].mean(0, keepdim=True)
        head = torch.nn.Linear(first.shape[1], 1, bias=False, device=first.device, dtype=first.dtype)
        head.weight.copy_(first)
        model.score, model.num_labels = head, 1
        model.config.num_labels = 1
        model.config.score_heads, model.config.score_members = None, None


def split_scores(outputs: torch.Tensor, heads: Heads) -> torch.Tensor:
    """[N, H * K] -> [N, H, K]: responses, scores, members."""
    return outputs.view(len(outputs), len(heads.names), heads.members)


def score_heads(model: Any, tokenizer: Any, conversations: list[Messages], room: int) -> Scores:
    """Every score of each conversation, which ends with the response."""
    heads = read_heads(model.config)
    split = split_scores(score_outputs(model, tokenizer, conversations, room), heads)
    deviation = split.std(-1) if heads.members > 1 else torch.zeros_like(split[..., 0])
    return Scores(heads, split.mean(-1), deviation)


def head_index(heads: Heads, name: str) -> int:
    """The place of a score. Raises RecipeError bad_model where the model has no such score."""
    if name not in heads.names:
        known = ", ".join(heads.names)
        raise RecipeError("bad_model", f"the reward model has no score {name!r}; it has {known}")
    return heads.names.index(name)
