"""The losses of reward models against figures worked out by hand, and the reports of their choices."""

import math

import pytest

torch = pytest.importorskip("torch")

from tests.recipes.conftest import assistant, user  # noqa: E402  # after importorskip
from training.recipes import reward_losses as losses  # noqa: E402
from training.recipes.data import Preference  # noqa: E402
from training.recipes.metrics import (  # noqa: E402
    accuracy_ceiling,
    noise_rate,
    preference_report,
    rating_report,
)

ZERO, ONE = torch.zeros(()), torch.ones(())


def tensor(*values: float):
    return torch.tensor(values, dtype=torch.float64)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_bradley_terry_with_margin_and_soft_label() -> None:
    # -log sigmoid(2 - 1) = log(1 + e^-1) = 0.313262; with p = 0.75: .75 * .313262 + .25 * log(1 + e^3)
    got = losses.bradley_terry(tensor(2, 2), tensor(1, 1), tensor(1, 0.75))
    assert got.tolist() == pytest.approx([0.3132617, 0.75 * 0.3132617 + 0.25 * 3.0485874], abs=1e-7)


def test_an_undecided_pair_asks_for_equal_scores_whatever_its_margin() -> None:
    difference = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    losses.bradley_terry(difference, tensor(3), tensor(0.5)).sum().backward()
    assert difference.grad.item() == pytest.approx(0, abs=1e-12)


def test_scaled_bradley_terry_counts_a_pair_as_often_as_it_is_strong() -> None:
    got = losses.scaled_bradley_terry(tensor(1, 1, 1), tensor(3, 1, 0), tensor(1, 1, 1))
    assert got.tolist() == pytest.approx([3 * 0.3132617, 0.3132617, 0], abs=1e-7)


def test_davidson_by_hand() -> None:
    # d = 2 log 2, nu = 1/2: Z = 2 + 1/2 + 1 = 3.5; first 2 / 3.5, second .5 / 3.5, tie 1 / 3.5
    difference, log_nu = tensor(2 * math.log(2)), tensor(math.log(0.5))[0]
    said = [
        losses.davidson(difference, log_nu, tensor(label), tensor(tie))
        for label, tie in [(1, 0), (0, 0), (1, 1)]
    ]
    assert [math.exp(-value.item()) for value in said] == pytest.approx([2 / 3.5, 0.5 / 3.5, 1 / 3.5])


def test_rao_kupper_by_hand() -> None:
    # t = log 2, d = 0: sigmoid(-log 2) = 1/3 for each side, and what is left, 1/3, for a tie
    said = [
        losses.rao_kupper(tensor(0), tensor(math.log(2))[0], tensor(label), tensor(tie))
        for label, tie in [(1, 0), (0, 0), (1, 1)]
    ]
    assert [math.exp(-value.item()) for value in said] == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("difference", [-30.0, -1.0, 0.0, 0.4, 30.0])
def test_the_three_outcomes_are_everything_there_is(difference: float) -> None:
    for loss, parameter in ((losses.davidson, 0.3), (losses.rao_kupper, 0.7)):
        outcomes = [
            loss(tensor(difference), tensor(parameter)[0], tensor(label), tensor(tie)).item()
            for label, tie in [(1, 0), (0, 0), (1, 1)]
        ]
        assert sum(math.exp(-value) for value in outcomes) == pytest.approx(1)


def test_the_starting_tie_parameters_make_half_of_the_equal_pairs_ties() -> None:
    nu, threshold = tensor(losses.DAVIDSON_NU).log()[0], tensor(losses.RAO_KUPPER_THRESHOLD)[0]
    assert math.exp(-losses.davidson(tensor(0), nu, tensor(1), tensor(1)).item()) == pytest.approx(0.5)
    assert math.exp(-losses.rao_kupper(tensor(0), threshold, tensor(1), tensor(1)).item()) == pytest.approx(
        0.5
    )


def test_ordinal_by_hand() -> None:
    # thresholds -1 and 2, score 1: P(0) = s(-2), P(1) = s(1) - s(-2), P(2) = s(-1)
    got = losses.ordinal(tensor(1, 1, 1), torch.tensor([0, 1, 2]), tensor(-1, 2))
    expected = [sigmoid(-2), sigmoid(1) - sigmoid(-2), sigmoid(-1)]
    assert got.neg().exp().tolist() == pytest.approx(expected)


def test_even_thresholds_make_the_levels_equally_likely_and_rise() -> None:
    thresholds = losses.rising(losses.even_thresholds(5).double())
    levels = torch.arange(5)
    assert losses.ordinal(torch.zeros(5).double(), levels, thresholds).neg().exp().tolist() == pytest.approx(
        [0.2] * 5, abs=1e-6
    )
    assert (losses.rising(tensor(0, -50, 3)).diff() > 0).all()


def test_ordinal_has_finite_gradients_at_the_ends() -> None:
    score = torch.tensor([60.0, -60.0, 0.0], requires_grad=True)
    raw = losses.even_thresholds(3).clone().requires_grad_()
    losses.ordinal(score, torch.tensor([0, 2, 1]), losses.rising(raw)).sum().backward()
    assert torch.isfinite(score.grad).all()
    assert torch.isfinite(raw.grad).all()


def test_squared_error_and_centering() -> None:
    assert losses.squared_error(tensor(0.5), tensor(1)).item() == 0.25
    assert losses.centering(tensor(1), tensor(2)).item() == 9


def test_pairs_of_a_ranking() -> None:
    assert losses.pairs_of([2, 1, 2], with_ties=False) == [(1, 0, False), (1, 2, False)]
    assert losses.pairs_of([2, 1, 2], with_ties=True) == [(1, 0, False), (0, 2, True), (1, 2, False)]
    assert len(losses.pairs_of(list(range(1, 10)), with_ties=False)) == 36


def test_what_agreement_allows() -> None:
    # two raters who each err with e = 0.1 agree on .9^2 + .1^2 = .82
    assert accuracy_ceiling(0.82) == pytest.approx((0.82, 0.9))
    assert noise_rate(0.82) == pytest.approx(0.1)
    assert accuracy_ceiling(0.5)[1] == 0.5


def pair(chosen: str, rejected: str, **more: object) -> Preference:
    return Preference(user("q"), assistant(chosen), assistant(rejected), None, **more)


def test_the_report_goes_by_strength_and_leaves_ties_out() -> None:
    rows = [
        pair("a", "b", strength="significantly"),
        pair("a", "b", strength="significantly"),
        pair("a", "b", strength="slightly"),
        pair("a", "b", tie=True),
        pair("a", "b", label=0.2),  # the second is the better one
        pair("a", "b", label=0.5),
    ]
    report = preference_report(rows, [1, 0, 1, 1, 0, 1], [0, 1, 1, 0, 1, 0], 0.82)
    assert (report["pairs"], report["ties"]) == (4, 2)
    assert report["accuracy"] == (1 + 0 + 0.5 + 1) / 4
    assert (report["significantly/accuracy"], report["significantly/pairs"]) == (0.5, 2)
    assert report["slightly/accuracy"] == 0.5
    assert (report["ceiling_low"], report["ceiling_high"]) == pytest.approx((0.82, 0.9))


def test_calibration_by_hand() -> None:
    # two pairs at confidence sigmoid(log 4) = .8, one right: gap .3; one at .9, right: gap .1
    scores = [math.log(4), 0.0, math.log(9)]
    report = preference_report([pair("a", "b")] * 3, scores, [0.0, math.log(4), 0.0])
    assert report["calibration_error"] == pytest.approx((2 * 0.3 + 0.1) / 3)
    assert [(row["confidence"], row["accuracy"], row["pairs"]) for row in report["calibration"]] == [
        (pytest.approx(0.8), 0.5, 2),
        (pytest.approx(0.9), 1.0, 1),
    ]


def test_lengths_are_matched_to_a_tenth() -> None:
    rows = [pair("x" * 100, "y" * 91), pair("x" * 100, "y" * 89)]
    report = preference_report(rows, [1, 0], [0, 1])
    assert (report["matched_pairs"], report["matched_accuracy"]) == (1, 1.0)
    assert report["length_accuracy"] == 1.0


def test_the_report_of_ratings_by_hand() -> None:
    report = rating_report([0.0, 1.0], [0.25, 0.75])
    assert report == pytest.approx({"rmse": 0.25, "mean_rmse": 0.5, "correlation": 1.0, "ratings": 2})
    assert "correlation" not in rating_report([0.0, 1.0], [0.5, 0.5])
