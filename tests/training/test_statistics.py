"""Figures against values worked out by hand."""

import math
import random

import pytest

from training.statistics import Z_95, e_value, wilson_interval


def test_wilson_by_hand():
    # 8 of 10: centre (0.8 + 3.841459/20) = 0.9920729, spread 1.959964 sqrt(0.16/10 + 3.841459/400)
    # = 1.959964 * 0.160012 = 0.3136176; both over 1.3841459.
    low, high = wilson_interval(8, 10)
    assert low == pytest.approx(0.4901625, abs=1e-6)
    assert high == pytest.approx(0.9433178, abs=1e-6)


def test_wilson_at_the_ends():
    # 0 of n: from 0 to z^2 / (n + z^2).
    low, high = wilson_interval(0, 20)
    assert low == 0.0
    assert high == pytest.approx(Z_95**2 / (20 + Z_95**2))
    assert wilson_interval(20, 20) == pytest.approx((1 - high, 1.0))


def test_wilson_takes_halves():
    low, high = wilson_interval(0.5, 1)
    assert low + high == pytest.approx(1.0)
    assert low == pytest.approx(0.5 - Z_95 * math.sqrt(0.25 + Z_95**2 / 4) / (1 + Z_95**2))


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 4)])
def test_wilson_refuses_what_is_no_share(successes, trials):
    with pytest.raises(ValueError, match="is not a share"):
        wilson_interval(successes, trials)


def test_e_value_by_hand():
    assert e_value(0, 0) == 1.0
    # One vote: 2 B(11, 10) / B(10, 10) = 2 * 10/20 = 1.
    assert e_value(1, 0) == pytest.approx(1.0)
    # Two alike: 4 * (10 * 11) / (20 * 21) = 22/21. One each: 4 * (10 * 10) / (20 * 21) = 20/21.
    assert e_value(2, 0) == pytest.approx(22 / 21)
    assert e_value(1, 1) == pytest.approx(20 / 21)


def test_e_value_is_symmetric_and_decides():
    assert e_value(20, 5) == e_value(5, 20)
    assert e_value(12, 12) < 1
    assert e_value(25, 5) > 20 > e_value(20, 10)
    assert e_value(100_000, 0) == math.inf


def test_e_value_refuses_negative_counts():
    with pytest.raises(ValueError, match="negative"):
        e_value(-1, 3)


def test_e_value_rarely_errs_however_often_it_is_looked_at():
    """Ville: with no difference it reaches 20 at any of 400 looks in at most 5% of the comparisons."""
    draw = random.Random(7)
    wrong = 0
    for _ in range(400):
        wins = losses = 0
        for _ in range(400):
            if draw.random() < 0.5:
                wins += 1
            else:
                losses += 1
            if e_value(wins, losses) >= 20:
                wrong += 1
                break
    assert wrong / 400 <= 0.05
