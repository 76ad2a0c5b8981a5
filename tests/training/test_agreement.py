"""Agreement and weights, by hand."""

import math

import pytest

from training.agreement import HIGH, LOW, Agreement, Tally, tally_votes, weight_of


def test_agreement_is_counted_with_each_other_rater():
    agreement = Agreement()
    agreement.add([(1, 1), (2, 1), (3, -1)])
    agreement.add([(1, 0), (2, 0)])
    agreement.add([(1, 1)])
    assert dict(agreement.agreed) == {1: 2, 2: 2, 3: 0}
    assert dict(agreement.compared) == {1: 3, 2: 3, 3: 2}
    assert agreement.pairs == 2
    assert agreement.share == pytest.approx((1 / 3 + 1) / 2)


def test_a_rater_counts_once_for_a_pair():
    agreement = Agreement()
    agreement.add([(1, 1), (1, -1), (2, 1)])
    assert dict(agreement.agreed) == {1: 1, 2: 1}


def test_without_overlap_agreement_is_unknown():
    agreement = Agreement()
    agreement.add([(1, 1)])
    assert agreement.share is None
    assert agreement.weights() == {}


def test_weights_are_smoothed_log_odds_within_bounds():
    assert weight_of(8, 10) == pytest.approx(math.log(9 / 3))
    assert weight_of(2, 3) == pytest.approx(math.log(3 / 2))
    assert weight_of(0, 0) == weight_of(5, 10) == weight_of(0, 10) == LOW
    assert weight_of(1000, 1000) == HIGH


def test_equal_votes_are_shares():
    assert tally_votes([(1, 1, None), (2, 1, None), (3, -1, None)], None) == Tally(
        1, pytest.approx(2 / 3), None
    )
    assert tally_votes([(1, -1, None), (2, 0, None)], None) == Tally(-1, 0.75, None)
    assert tally_votes([(1, -1, 3.0), (2, 1, 1.0)], None) == Tally(0, 0.5, 0.0)


def test_a_reliable_rater_outvotes_two_others():
    votes = [(1, 1, None), (2, -1, None), (3, -1, None)]
    assert tally_votes(votes, {1: 2.0, 2: 0.5}) == Tally(1, pytest.approx(2.0 / 2.6), None)


def test_margins_of_the_other_side_count_against():
    votes = [(1, 1, 3.0), (2, 1, 2.0), (3, -1, 1.0), (4, 1, None)]
    assert tally_votes(votes, None).margin == pytest.approx(4 / 3)
    assert tally_votes([(1, 1, 0.0), (2, 1, 0.0), (3, -1, 3.0)], None).margin == 0.0
