"""What a response is worth: a reward model's score or two models' combined, and the rules that are added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from training.recipes.data import PromptRow
from training.recipes.generation import answer, score_conversations
from training.recipes.models import context_length, load_scorer, load_tokenizer
from training.recipes.ppo_math import combine_scores
from training.recipes.reward_terms import Response, term_value
from training.recipes.rundir import Run
from training.recipes.spec import RewardedSpec

SAFETY_TAG = "safety"


@dataclass
class Judge:
    """A reward model with its tokenizer and the longest conversation it takes."""

    model: Any
    tokenizer: Any
    room: int

    def score(self, rows: Sequence[PromptRow], responses: Sequence[Response]) -> torch.Tensor:
        """[B] linear scores, on the CPU."""
        conversations = [answer(row.prompt, said.text) for row, said in zip(rows, responses, strict=True)]
        return torch.tensor(score_conversations(self.model, self.tokenizer, conversations, self.room))


@dataclass
class Scores:
    """What a batch of responses is worth. All [B].

    model: the reward model's score, or the two models' combined; terms: the sum of the rules; finished: ended
    by itself; measures: means for the event log.
    """

    model: torch.Tensor
    terms: torch.Tensor
    finished: torch.Tensor
    measures: dict[str, float]

    def total(self, unfinished_penalty: float | None, scaled: torch.Tensor | None = None) -> torch.Tensor:
        """What is learned from: the model's score (or `scaled` in its place), the penalty instead of it where
        the end is missing, plus the rules.
        """
        score = self.model if scaled is None else scaled
        if unfinished_penalty is not None:
            score = torch.where(self.finished, score, torch.full_like(score, unfinished_penalty))
        return score + self.terms


class Scorer:
    """Scores responses as the specification says."""

    def __init__(self, spec: RewardedSpec, judge: Judge, safety: Judge | None = None) -> None:
        self.spec = spec
        self.judge = judge
        self.safety = safety

    def score(self, rows: Sequence[PromptRow], responses: Sequence[Response]) -> Scores:
        model = self.judge.score(rows, responses)
        measures: dict[str, float] = {}
        if self.safety is not None:
            safe = self.safety.score(rows, responses)
            tagged = torch.tensor([SAFETY_TAG in row.tags for row in rows])
            combined = combine_scores(model, safe, tagged, self.spec.safety_threshold)
            by_safety = tagged | (torch.sigmoid(safe) < self.spec.safety_threshold)
            measures["reward/by_safety"] = by_safety.float().mean().item()
            model = combined
        values = [[term_value(term, said) for said in responses] for term in self.spec.terms]
        for term, found in zip(self.spec.terms, values, strict=True):
            name = f"reward/{term.rule}"
            measures[name] = measures.get(name, 0.0) + sum(found) / len(found)
        terms = torch.tensor(values).sum(0) if values else torch.zeros_like(model)
        finished = torch.tensor([said.finished for said in responses])
        measures["reward"] = (model + terms).mean().item()
        if values:
            measures["reward/model"] = model.mean().item()
        return Scores(model, terms, finished, measures)


def load_judge(run: Run, name: str, max_length: int) -> Judge:
    """A frozen reward model."""
    tokenizer = load_tokenizer(run, name)
    model = load_scorer(run, name, tokenizer).requires_grad_(False).eval()
    return Judge(model, tokenizer, context_length(model, max_length))


def make_scorer(run: Run, spec: RewardedSpec, judge: Judge | None = None) -> Scorer:
    """The reward models of the specification; `judge` is the first one where it is loaded already."""
    judge = judge or load_judge(run, spec.reward_model, spec.max_length)
    safety = load_judge(run, spec.safety_model, spec.max_length) if spec.safety_model else None
    return Scorer(spec, judge, safety)
