"""Watching a run that learns from its own responses: is it still learning what was meant? Imports no torch.

An alarm is a `warning` event with a field `alarm` that names it, once per run. The specification's `stop_on`
lists those that also stop the run. All that is remembered goes into the checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

from training.recipes.errors import RecipeError
from training.recipes.rundir import Run
from training.recipes.spec import AlarmName, OnlineSpec

STANDARD_ERRORS = 2.0


class Watch:
    """The measures of the first steps and of the last ones, and the alarms that were raised."""

    def __init__(self, spec: OnlineSpec, state: dict[str, Any] | None = None) -> None:
        self.spec = spec
        self.state: dict[str, Any] = state or {"start_length": None, "raised": [], "early": [], "recent": []}

    def look(
        self, run: Run, step: int, kl: float, scores: Sequence[float], tokens: Sequence[Sequence[int]]
    ) -> tuple[dict[str, float], bool]:
        """Measure a step's responses (scores, token ids): the measures, and whether to stop."""
        lengths = [float(len(ids)) for ids in tokens]
        if self.state["start_length"] is None:
            self.state["start_length"] = mean(lengths)
        measures = {
            "reward/length_controlled": length_controlled_mean(scores, lengths, self.state["start_length"]),
            "distinct_2": distinct_share(tokens, 2),
        }
        self.remember([mean(scores), *measures.values()])
        stop = False
        for name, message in self.alarms(kl):
            if name not in self.state["raised"]:
                self.state["raised"].append(name)
                run.emit("warning", step=step, alarm=name, message=f"step {step}: {message}")
            stop = stop or name in self.spec.stop_on
        return measures, stop

    def remember(self, row: list[float]) -> None:
        window = self.spec.alarm_window
        if len(self.state["early"]) < window:
            self.state["early"].append(row)
        else:
            self.state["recent"] = [*self.state["recent"], row][-window:]

    def alarms(self, kl: float) -> list[tuple[AlarmName, str]]:
        """The alarms of this moment, each with its words."""
        found: list[tuple[AlarmName, str]] = []
        budget = self.spec.kl_budget
        if budget is not None and kl > budget:
            found.append(("kl_budget", f"KL {kl:.2f} nats is above kl_budget {budget:g}"))
        if len(self.state["recent"]) < self.spec.alarm_window:
            return found
        early, recent = (list(zip(*self.state[name], strict=True)) for name in ("early", "recent"))
        if clearly_above(recent[0], early[0]) and clearly_above(early[1], recent[1]):
            rise, fall = mean(recent[0]) - mean(early[0]), mean(early[1]) - mean(recent[1])
            words = f"the reward rose by {rise:.2f}, but at the length of the start it fell by {fall:.2f}"
            found.append(("reward_gaming", words))
        before, now = mean(early[2]), mean(recent[2])
        if now < self.spec.diversity_floor * before:
            words = (
                f"responses become alike: {now:.0%} of their token pairs are distinct, {before:.0%} at first"
            )
            found.append(("low_diversity", words))
        return found


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def clearly_above(values: Sequence[float], others: Sequence[float]) -> bool:
    """Whether the mean is higher by more than two standard errors of the difference."""
    error = math.sqrt(squared_error(values) + squared_error(others))
    return mean(values) - mean(others) > STANDARD_ERRORS * error


def squared_error(values: Sequence[float]) -> float:
    """The squared standard error of the mean; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    centre = mean(values)
    return sum((value - centre) ** 2 for value in values) / (len(values) - 1) / len(values)


def length_controlled_mean(scores: Sequence[float], lengths: Sequence[float], length: float) -> float:
    """The mean score that responses of the given mean length would have, by the batch's least-squares line.

    mean(score) - slope (mean(length) - length), slope = cov(score, length) / var(length); the idea of the
    length-controlled win rate (arXiv 2404.04475), for scores. Without spread in length it is the mean.
    """
    centre, middle = mean(scores), mean(lengths)
    spread = sum((item - middle) ** 2 for item in lengths)
    if spread == 0:
        return centre
    slope = sum((a - centre) * (b - middle) for a, b in zip(scores, lengths, strict=True)) / spread
    return centre - slope * (middle - length)


def distinct_share(tokens: Sequence[Sequence[int]], n: int) -> float:
    """Distinct n-grams as a share of all n-grams of the responses (arXiv 1510.03055); 1 if none."""
    grams = [tuple(ids[start : start + n]) for ids in tokens for start in range(len(ids) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def fail_not_finite(run: Run, step: int, what: str) -> NoReturn:
    """End the run: a number is none any more. The last whole checkpoint is from before."""
    message = f"{what} is not finite at step {step}: try a lower learning_rate."
    run.emit("warning", step=step, alarm="nan", message=message)
    raise RecipeError("nan_loss", message)
