"""How much raters agree, and what each one's vote weighs. Pure functions of counts; no database."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

LOW, HIGH = 0.1, 4.0
"""Bounds of a weight: everybody counts a little, and nobody alone outvotes a crowd."""


@dataclass
class Agreement:
    """How often raters said the same of the same two responses.

    Attributes:
        agreed, compared: by rater, with how many other votes theirs was the same, and was compared at all.
    """

    agreed: Counter[int] = field(default_factory=Counter)
    compared: Counter[int] = field(default_factory=Counter)
    share_sum: float = 0.0
    pairs: int = 0

    def add(self, votes: Iterable[tuple[int, int]]) -> None:
        """Count the votes on one pair of responses: (rater, verdict), a rater's first vote alone counts."""
        first: dict[int, int] = {}
        for rater, verdict in votes:
            first.setdefault(rater, verdict)
        others = len(first) - 1
        if others < 1:
            return
        same = Counter(first.values())
        for rater, verdict in first.items():
            self.agreed[rater] += same[verdict] - 1
            self.compared[rater] += others
        self.share_sum += sum(n * (n - 1) for n in same.values()) / ((others + 1) * others)
        self.pairs += 1

    @property
    def share(self) -> float | None:
        """Of two raters of a pair, how often they agree: the mean over pairs; None without any overlap."""
        return self.share_sum / self.pairs if self.pairs else None

    def weights(self) -> dict[int, float]:
        """The weight of each rater who was compared; all others have `weight_of(0, 0)`."""
        return {rater: weight_of(self.agreed[rater], n) for rater, n in self.compared.items()}


def weight_of(agreed: int, compared: int) -> float:
    """What a rater's vote weighs: the log odds of agreeing with another rater, between 0.1 and 4.

    ln((agreed + 1) / (compared - agreed + 1)): the share of agreement with Laplace's rule of succession, as
    log odds, which is how independent voters of known accuracy are best combined (Nitzan and Paroush 1982).
    A rater who agrees by chance or whom nobody can be compared with weighs 0.1.
    """
    return min(max(math.log((agreed + 1) / (compared - agreed + 1)), LOW), HIGH)


@dataclass(frozen=True)
class Tally:
    """The votes on two responses put together.

    Attributes:
        verdict: 1 when the first is preferred, -1 the second, 0 a tie.
        label: the preferred one's share of the votes by weight, 0.5 to 1; ties count half to each.
        margin: the mean of the votes' margins, those against counted negative, at least 0; None without any.
    """

    verdict: int
    label: float
    margin: float | None


def tally_votes(votes: Iterable[tuple[int, int, float | None]], weights: dict[int, float] | None) -> Tally:
    """Put the votes on one pair together.

    Args:
        votes: (rater, verdict, margin or None); the verdict is 1 for the first response, -1 for the second, 0
            for a tie.
        weights: by rater, see `Agreement.weights`; None when all votes weigh the same.
    """
    sums: dict[int, float] = defaultdict(float)
    margins = []
    for rater, verdict, margin in votes:
        sums[verdict] += 1.0 if weights is None else weights.get(rater, LOW)
        if margin is not None:
            margins.append(verdict * margin)
    first = (sums[1] + sums[0] / 2) / sum(sums.values())
    verdict = 0 if math.isclose(first, 0.5) else 1 if first > 0.5 else -1
    label = 0.5 if not verdict else max(first, 1 - first)
    mean = max(verdict * sum(margins) / len(margins), 0.0) if margins else None
    return Tally(verdict, label, mean)
