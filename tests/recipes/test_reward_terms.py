"""The rules beside the reward model, and two models' scores combined, against values worked out by hand."""

import pytest

torch = pytest.importorskip("torch")

from training.recipes import ppo_math, reward_terms  # noqa: E402  # after importorskip
from training.recipes.data import PromptRow  # noqa: E402
from training.recipes.reward_terms import Response, term_value  # noqa: E402
from training.recipes.scoring import Judge, Scorer  # noqa: E402
from training.recipes.spec import RULE_NAMES, PpoSpec, RewardTerm, parse_spec  # noqa: E402

pytestmark = pytest.mark.recipes


@pytest.mark.parametrize(
    ("term", "response", "value"),
    [
        ({"rule": "length_penalty", "limit": 10, "weight": 2}, Response("x", 15, True), -1.0),
        ({"rule": "length_penalty", "limit": 10}, Response("x", 10, True), 0.0),
        ({"rule": "ends_properly"}, Response("Yes, gladly.", 3, True), 1.0),
        ({"rule": "ends_properly"}, Response('He said "no."', 3, True), 1.0),
        ({"rule": "ends_properly"}, Response("はい。", 3, True), 1.0),
        ({"rule": "ends_properly"}, Response("Yes, gladly.", 3, False), 0.0),
        ({"rule": "ends_properly"}, Response("Yes, and", 3, True), 0.0),
        ({"rule": "ends_properly"}, Response("", 0, True), 0.0),
        # a b a b a b: bigrams ab ba ab ba ab, two of five are new
        ({"rule": "repetition_penalty", "limit": 2}, Response("a b A b a b", 6, True), -0.6),
        ({"rule": "repetition_penalty"}, Response("a b c d e", 5, True), 0.0),
        ({"rule": "repetition_penalty"}, Response("a b", 2, True), 0.0),
        ({"rule": "contains", "pattern": "(?i)yes", "weight": 0.5}, Response("Oh YES", 2, True), 0.5),
        ({"rule": "contains", "pattern": "yes"}, Response("no", 1, True), 0.0),
        ({"rule": "forbids", "pattern": r"\bno\b", "weight": 3}, Response("well, no", 2, True), -3.0),
        ({"rule": "forbids", "pattern": r"\bno\b"}, Response("nothing", 1, True), 0.0),
    ],
)
def test_rules_by_hand(term: dict, response: Response, value: float) -> None:
    assert term_value(RewardTerm(**term), response) == pytest.approx(value)


def test_every_rule_has_a_value() -> None:
    arguments = {"length_penalty": {"limit": 5}, "contains": {"pattern": "a"}, "forbids": {"pattern": "a"}}
    for rule in RULE_NAMES:
        term = RewardTerm(rule=rule, **arguments.get(rule, {}))
        assert isinstance(term_value(term, Response("a b", 2, True)), float)


def test_an_excess_of_ten_times_the_limit_counts_ten_times() -> None:
    assert reward_terms.length_penalty(110, 10) == -10.0


def test_llama_2_takes_the_safety_score_where_it_is_tagged_or_low() -> None:
    helpful = torch.tensor([3.0, 3.0, 3.0, 3.0])
    safe = torch.tensor([-2.0, -1.7, 2.0, 2.0])  # sigmoid: .119, .154, .88, .88
    tagged = torch.tensor([False, False, True, False])
    combined = ppo_math.combine_scores(helpful, safe, tagged, 0.15)
    assert combined.tolist() == [-2.0, 3.0, 2.0, 3.0]


def test_running_moments_are_those_of_all_values() -> None:
    values = torch.tensor([1.0, 5.0, 2.0, 8.0, -3.0])
    moments = ppo_math.update_moments((0.0, 0.0, 0.0), values[:2])
    moments = ppo_math.update_moments(moments, values[2:])
    assert moments[0] == 5
    assert moments[1] == pytest.approx(2.6)
    assert moments[2] / 5 == pytest.approx(((values - 2.6) ** 2).mean().item())
    scaled = ppo_math.scale_by_deviation(values, moments)
    torch.testing.assert_close(scaled, values / values.std(correction=0))


def test_language_loss_by_hand() -> None:
    logits = torch.log(torch.tensor([[[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]]]))
    loss = ppo_math.language_loss(logits, torch.tensor([[0, 1, 0]]), torch.tensor([[0, 1, 1]]))
    assert loss.item() == pytest.approx(-(torch.tensor([0.75, 0.9]).log().mean().item()), abs=1e-6)


class FixedJudge(Judge):
    """A reward model that says what it was told to."""

    def __init__(self, scores: list[float]) -> None:
        self.scores = scores

    def score(self, rows, responses):
        return torch.tensor(self.scores)


def test_scores_of_two_models_with_rules_and_the_penalty() -> None:
    raw = {
        "recipe": "ppo",
        "data": {"train": "p.jsonl"},
        "model": "m",
        "reward_model": "r",
        "safety_model": "s",
        "terms": [{"rule": "contains", "pattern": "yes", "weight": 0.5}, {"rule": "ends_properly"}],
    }
    spec = parse_spec(raw)
    assert isinstance(spec, PpoSpec)
    rows = [PromptRow("a", [], ("safety",)), PromptRow("b", []), PromptRow("c", [])]
    said = [Response("yes.", 2, True), Response("no", 1, True), Response("yes", 5, False)]
    scores = Scorer(spec, FixedJudge([1.0, 2.0, 3.0]), FixedJudge([4.0, -5.0, 0.0])).score(rows, said)
    assert scores.model.tolist() == [4.0, -5.0, 3.0]
    assert scores.terms.tolist() == [1.5, 0.0, 0.5]
    assert scores.total(-1.0).tolist() == [5.5, -5.0, -0.5]
    assert scores.total(None).tolist() == [5.5, -5.0, 3.5]
    expected = {"reward": 4 / 3, "reward/model": 2 / 3, "reward/by_safety": 2 / 3}
    expected |= {"reward/contains": 1 / 3, "reward/ends_properly": 1 / 3}
    assert scores.measures == pytest.approx(expected)
