"""The losses of reward models: pure functions of tensors, each for itself, in nats where they are
likelihoods.

Scores are of responses; a difference is the preferred response's score minus the other's. Nothing here is
averaged: the caller weighs and sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

LN2 = math.log(2)
# Both give a tie half the probability where the scores are equal (arXiv 2409.17431).
DAVIDSON_NU = 1.0
RAO_KUPPER_THRESHOLD = math.log(3)
SMALL_MARGINS = {"significantly": 1.0, "better": 2 / 3, "slightly": 1 / 3, "negligibly": 0.0}
LARGE_MARGINS = {"significantly": 3.0, "better": 2.0, "slightly": 1.0, "negligibly": 0.0}


def bradley_terry(difference: Tensor, margin: Tensor, label: Tensor) -> Tensor:
    """-p log sigmoid(d - m) - (1 - p) log sigmoid(-d - m), where p is the probability that the first is
    better.

    With p = 1 this is Llama 2's (arXiv 2307.09288, eq. 2). With p below 1 each side has to exceed the margin,
    so that an undecided pair (p = 1/2) asks for equal scores, whatever its margin.

    Args: difference [...]; margin and label of a shape that broadcasts to it. Returns [...].
    """
    return -label * logsigmoid(difference - margin) - (1 - label) * logsigmoid(-difference - margin)


def scaled_bradley_terry(difference: Tensor, strength: Tensor, label: Tensor) -> Tensor:
    """m (-p log sigmoid(d) - (1 - p) log sigmoid(-d)): a pair counts as many times as it is strong.

    HelpSteer2-Preference, arXiv 2410.01257. Shapes as in bradley_terry.
    """
    return strength * bradley_terry(difference, torch.zeros_like(difference), label)


def davidson(difference: Tensor, log_nu: Tensor, label: Tensor, tie: Tensor) -> Tensor:
    """-log P(what was said) when the first is better, the second is, or the two are tied.

    Davidson 1970 as in arXiv 2409.17431: P(first) = e^(d/2) / Z, P(second) = e^(-d/2) / Z, P(tie) = 2 nu / Z
    with Z = e^(d/2) + e^(-d/2) + 2 nu.

    Args: difference [...]; log_nu scalar; label [...] as in bradley_terry; tie [...] 1 where tied, else 0.
    """
    half = difference / 2
    log_two_nu = (log_nu + LN2).expand_as(half)
    log_z = torch.stack([half, -half, log_two_nu]).logsumexp(0)
    decided = log_z - (2 * label - 1) * half
    return torch.where(tie.bool(), log_z - log_two_nu, decided)


def rao_kupper(difference: Tensor, threshold: Tensor, label: Tensor, tie: Tensor) -> Tensor:
    """-log P(what was said) when a response wins only by more than a threshold t > 0 in nats.

    Rao and Kupper 1967 with theta = e^t: P(first) = sigmoid(d - t), P(second) = sigmoid(-d - t), P(tie) =
    (e^(2t) - 1) sigmoid(d - t) sigmoid(-d - t). Shapes as in davidson.
    """
    first, second = logsigmoid(difference - threshold), logsigmoid(-difference - threshold)
    decided = -label * first - (1 - label) * second
    tied = -torch.log(torch.expm1(2 * threshold)) - first - second
    return torch.where(tie.bool(), tied, decided)


def squared_error(score: Tensor, rating: Tensor) -> Tensor:
    """(s - y)^2, the regression of HelpSteer2 (arXiv 2406.08673). Shapes [...], [...] -> [...]."""
    return (score - rating) ** 2


def ordinal(score: Tensor, level: Tensor, thresholds: Tensor) -> Tensor:
    """-log P(y = level) with P(y <= k) = sigmoid(theta_k - s): proportional odds (McCullagh 1980).

    The difference of two neighbouring sigmoids is taken in logarithms: log(sigmoid(b) - sigmoid(a)) =
    log sigmoid(b) + log sigmoid(-a) + log(1 - e^(a - b)).

    Args: score [...]; level [...] whole numbers 0..L-1; thresholds [..., L-1], rising along the last axis.
    """
    below = (level - 1).clamp(min=0).unsqueeze(-1)
    above = level.clamp(max=thresholds.shape[-1] - 1).unsqueeze(-1)
    lower = thresholds.expand(*score.shape, -1).gather(-1, below).squeeze(-1) - score
    upper = thresholds.expand(*score.shape, -1).gather(-1, above).squeeze(-1) - score
    bottom, top = level == 0, level == thresholds.shape[-1]
    gap = torch.where(bottom | top, torch.ones_like(score), upper - lower)  # never the log of 0 in a gradient
    middle = logsigmoid(upper) + logsigmoid(-lower) + torch.log(-torch.expm1(-gap))
    return -torch.where(bottom, logsigmoid(upper), torch.where(top, logsigmoid(-lower), middle))


def rising(raw: Tensor) -> Tensor:
    """Thresholds that rise: the first as it is, each other one above its neighbour by softplus(raw).

    raw [..., L-1] -> [..., L-1].
    """
    return torch.cat([raw[..., :1], softplus(raw[..., 1:])], -1).cumsum(-1)


def even_thresholds(levels: int) -> Tensor:
    """raw [levels - 1] for `rising`, such that every level is equally likely at score 0."""
    points = torch.tensor([math.log(k / (levels - k)) for k in range(1, levels)])
    return torch.cat([points[:1], torch.log(torch.expm1(points[1:] - points[:-1]))])


def centering(first: Tensor, second: Tensor) -> Tensor:
    """(r1 + r2)^2, which keeps scores around zero (Eisenstein et al. 2023, arXiv 2312.09244)."""
    return (first + second) ** 2


def pairs_of(ranks: Sequence[int], *, with_ties: bool) -> list[tuple[int, int, bool]]:
    """All pairs of a ranking as (index of the better, index of the other, tied); 1 is the best rank.

    InstructGPT takes every pair of a ranking that is not tied (arXiv 2203.02155, eq. 1).
    """
    found = []
    for first in range(len(ranks)):
        for second in range(first + 1, len(ranks)):
            if ranks[first] == ranks[second]:
                if with_ties:
                    found.append((first, second, True))
            elif ranks[first] < ranks[second]:
                found.append((first, second, False))
            else:
                found.append((second, first, False))
    return found
