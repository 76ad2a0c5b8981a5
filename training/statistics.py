"""Figures of a blind comparison, in plain Python."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054
PRIOR = 10


def wilson_interval(successes: float, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927), 95% unless told.

    With p = successes / trials the bounds are
    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n). `successes` may be a score with
    halves (a tie is half a win): halves vary less than wins and losses with the same mean, so the interval
    is then wider than it need be, never narrower.

    Raises:
        ValueError: no trials, or successes outside 0 to trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is not a share.")
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def e_value(wins: int, losses: int) -> float:
    """How strongly decisive votes speak against "both win equally often", valid whenever one looks.

    E_n = 2^n B(k + 10, n - k + 10) / B(10, 10) for k wins of n: the likelihood ratio of a share drawn from
    Beta(10, 10) against 1/2. By Ville's inequality it reaches 20 with a probability of at most 5% when there
    is no difference, however often it is looked at. It is two-sided: the larger count says who leads. What
    no float holds is infinity.

    Raises:
        ValueError: a negative count.
    """
    if wins < 0 or losses < 0:
        raise ValueError("Counts of wins and losses cannot be negative.")
    log_e = (wins + losses) * math.log(2) + log_beta(wins + PRIOR, losses + PRIOR) - log_beta(PRIOR, PRIOR)
    return math.exp(log_e) if log_e < 700 else math.inf


def log_beta(a: float, b: float) -> float:
    """log B(a, b)."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
