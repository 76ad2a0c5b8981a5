"""Small exact measures of a reward model's choices. Pure Python."""

from __future__ import annotations

import math
from collections.abc import Sequence

from training.recipes.data import Preference


def tie_aware_accuracy(chosen: Sequence[float], rejected: Sequence[float]) -> float:
    """Share of pairs where the chosen one scores higher; equal scores are half right (a collapsed model has
    0.5).
    """
    points = [0.5 + 0.5 * ((a > b) - (a < b)) for a, b in zip(chosen, rejected, strict=True)]
    return sum(points) / len(points)


def wilson_interval(share: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share out of `count`; 95% by default (Wilson 1927; Brown et al. 2001, eq.
    4).
    """
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def bradley_terry_loss(
    chosen: Sequence[float], rejected: Sequence[float], margins: Sequence[float] | None = None
) -> float:
    """Mean of -log sigmoid(chosen - rejected - margin) in nats (Llama 2, arXiv 2307.09288, eq. 1 and 2)."""
    margins = margins or [0.0] * len(chosen)
    terms = [softplus(b + m - a) for a, b, m in zip(chosen, rejected, margins, strict=True)]
    return sum(terms) / len(terms)


def softplus(value: float) -> float:
    """log(1 + e^value) without overflow."""
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def preference_report(
    rows: Sequence[Preference], chosen: Sequence[float], rejected: Sequence[float]
) -> dict[str, float]:
    """Held-out accuracy with its 95% interval, beside that of a rule that prefers the longer response."""
    accuracy = tie_aware_accuracy(chosen, rejected)
    low, high = wilson_interval(accuracy, len(rows))
    lengths = [(len(row.chosen[0]["content"]), len(row.rejected[0]["content"])) for row in rows]
    return {
        "accuracy": accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "length_accuracy": tie_aware_accuracy([a for a, _ in lengths], [b for _, b in lengths]),
        "loss": bradley_terry_loss(chosen, rejected),
        "rewards/margins": sum(a - b for a, b in zip(chosen, rejected, strict=True)) / len(rows),
        "pairs": float(len(rows)),
    }
