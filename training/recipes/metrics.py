"""Small exact measures of a reward model's choices. Pure Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from training.recipes.data import Preference
from training.recipes.spec.rewards import STRENGTHS


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


@dataclass(frozen=True)
class Chosen:
    """One held-out pair in which one response was better: its scores and lengths, the better one's first."""

    scores: tuple[float, float]
    lengths: tuple[int, int]
    strength: str | None = None

    @property
    def difference(self) -> float:
        return self.scores[0] - self.scores[1]


def decided(rows: Sequence[Preference], chosen: Sequence[float], rejected: Sequence[float]) -> list[Chosen]:
    """The pairs that say which response is better, turned so that this one is first; ties are left out."""
    found = []
    for row, first, second in zip(rows, chosen, rejected, strict=True):
        lengths = (len(row.chosen[0]["content"]), len(row.rejected[0]["content"]))
        if row.tie or row.label == 0.5:
            continue
        if row.label is not None and row.label < 0.5:
            found.append(Chosen((second, first), (lengths[1], lengths[0]), row.strength))
        else:
            found.append(Chosen((first, second), lengths, row.strength))
    return found


def accuracy_of(pairs: Sequence[Chosen], prefix: str = "") -> dict[str, float]:
    """Accuracy with its 95% interval over how many pairs; empty without pairs."""
    if not pairs:
        return {}
    accuracy = tie_aware_accuracy([pair.scores[0] for pair in pairs], [pair.scores[1] for pair in pairs])
    low, high = wilson_interval(accuracy, len(pairs))
    return {
        f"{prefix}accuracy": accuracy,
        f"{prefix}accuracy_low": low,
        f"{prefix}accuracy_high": high,
        f"{prefix}pairs": float(len(pairs)),
    }


def calibrate(pairs: Sequence[Chosen], bins: int = 10) -> tuple[float, list[dict[str, float]]]:
    """(expected calibration error, the bins of a reliability diagram).

    A pair's confidence is sigmoid(|difference|), from 1/2 to 1, in bins of equal width; the error is the
    mean gap between confidence and accuracy, weighted by the bins' pairs (Guo et al. 2017, arXiv
    1706.04599, eq. 3).
    """
    groups: list[list[Chosen]] = [[] for _ in range(bins)]
    for pair in pairs:
        confidence = sigmoid(abs(pair.difference))
        groups[min(int((confidence - 0.5) * 2 * bins), bins - 1)].append(pair)
    rows = []
    for group in groups:
        if group:
            confidence = sum(sigmoid(abs(pair.difference)) for pair in group) / len(group)
            measured = accuracy_of(group)
            rows.append({"confidence": confidence} | measured)
    error = sum(row["pairs"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / len(pairs)
    return error, rows


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else 1 - 1 / (1 + math.exp(value))


def accuracy_ceiling(agreement: float) -> tuple[float, float]:
    """What the best model can reach on labels of raters who agree on a share A of the pairs.

    A if every pair is either clear or a coin toss; (1 + sqrt(2A - 1)) / 2 if each label errs alike, with
    the rate e of A = (1 - e)^2 + e^2.
    """
    return agreement, (1 + math.sqrt(max(0.0, 2 * agreement - 1))) / 2


def noise_rate(agreement: float) -> float:
    """The error rate of a label when two raters agree on a share A of the pairs: (1 - sqrt(2A - 1)) / 2."""
    return 1 - accuracy_ceiling(agreement)[1]


Report = dict[str, float | list[dict[str, float]]]
MATCHED_LENGTHS = 0.1


def preference_report(
    rows: Sequence[Preference],
    chosen: Sequence[float],
    rejected: Sequence[float],
    agreement: float | None = None,
) -> Report:
    """Held-out accuracy with its 95% interval, by strength, and beside it what it must be compared with.

    `length_accuracy` is that of the rule that prefers the longer response; `matched_...` is over pairs
    whose lengths (in characters) differ by at most a tenth of the longer; `calibration` has a row per bin.
    """
    pairs = decided(rows, chosen, rejected)
    report: Report = {"ties": float(len(rows) - len(pairs))}
    if not pairs:
        return report
    report |= accuracy_of(pairs)
    longer = [Chosen((float(pair.lengths[0]), float(pair.lengths[1])), pair.lengths) for pair in pairs]
    report |= {f"length_{name}": value for name, value in accuracy_of(longer).items() if name != "pairs"}
    matched = [
        pair
        for pair in pairs
        if abs(pair.lengths[0] - pair.lengths[1]) <= MATCHED_LENGTHS * max(pair.lengths)
    ]
    report |= accuracy_of(matched, "matched_")
    for strength in STRENGTHS:
        report |= accuracy_of([pair for pair in pairs if pair.strength == strength], f"{strength}/")
    report["calibration_error"], report["calibration"] = calibrate(pairs)
    report["loss"] = bradley_terry_loss(
        [pair.scores[0] for pair in pairs], [pair.scores[1] for pair in pairs]
    )
    report["rewards/margins"] = sum(pair.difference for pair in pairs) / len(pairs)
    if agreement is not None:
        report["ceiling_low"], report["ceiling_high"] = accuracy_ceiling(agreement)
    return report


def rating_report(rated: Sequence[float], scores: Sequence[float]) -> dict[str, float]:
    """Held-out error of predicted ratings beside that of always saying the mean, and Pearson's
    correlation.
    """
    count = len(rated)
    mean, mean_score = sum(rated) / count, sum(scores) / count
    spread = sum((value - mean) ** 2 for value in rated)
    spread_of_scores = sum((value - mean_score) ** 2 for value in scores)
    shared = sum((a - mean) * (b - mean_score) for a, b in zip(rated, scores, strict=True))
    squares = sum((a - b) ** 2 for a, b in zip(rated, scores, strict=True))
    report = {
        "rmse": math.sqrt(squares / count),
        "mean_rmse": math.sqrt(spread / count),
        "ratings": float(count),
    }
    if spread > 0 and spread_of_scores > 0:
        report["correlation"] = shared / math.sqrt(spread * spread_of_scores)
    return report
