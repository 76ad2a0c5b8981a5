"""Alarms: the measures by hand, and when one is raised."""

import json
from pathlib import Path

import pytest

from training.recipes.alarms import Watch, distinct_share, fail_not_finite, length_controlled_mean
from training.recipes.errors import RecipeError
from training.recipes.rundir import Run
from training.recipes.spec import OnlineSpec, parse_spec


def make_spec(**changes: object) -> OnlineSpec:
    raw = {
        "recipe": "ppo",
        "data": {"train": "p.jsonl"},
        "model": "m",
        "reward_model": "r",
        "alarm_window": 2,
    }
    spec = parse_spec(raw | changes)
    assert isinstance(spec, OnlineSpec)
    return spec


def test_length_controlled_mean_by_hand() -> None:
    # score = 1 + 0.5 length exactly: at length 2 the mean is 2, at length 4 it is 3
    assert length_controlled_mean([2.0, 3.0, 4.0], [2.0, 4.0, 6.0], 2.0) == pytest.approx(2.0)
    assert length_controlled_mean([1.0, 3.0], [5.0, 5.0], 9.0) == 2.0


def test_distinct_share_by_hand() -> None:
    assert distinct_share([[1, 2, 1, 2], [1, 2]], 2) == pytest.approx(2 / 4)
    assert distinct_share([[1]], 2) == 1.0


def steps(tmp_path: Path, spec: OnlineSpec, rows: list[tuple[list[float], list[list[int]], float]]):
    """(names of alarms by step, steps at which the run should stop)."""
    tmp_path.mkdir(exist_ok=True)
    run = Run(tmp_path, spec)
    watch = Watch(spec)
    stops = []
    for step, (scores, tokens, kl) in enumerate(rows, start=1):
        if step == 3:
            watch = Watch(spec, watch.state)  # as after a checkpoint
        if watch.look(run, step, kl, scores, tokens)[1]:
            stops.append(step)
    path = tmp_path / "events.jsonl"
    lines = map(json.loads, path.read_text().splitlines()) if path.exists() else []
    return [(line["alarm"], line["step"]) for line in lines], stops


VARIED = [[1, 2, 3, 4], [5, 6, 7, 8, 9, 10]]


def test_a_quiet_run_raises_none(tmp_path: Path) -> None:
    rows = [([1.0 + step, 1.0 + step], VARIED, 0.1) for step in range(6)]
    assert steps(tmp_path, make_spec(kl_budget=1.0), rows) == ([], [])


def test_kl_beyond_the_budget_stops_unless_told_otherwise(tmp_path: Path) -> None:
    rows = [([1.0, 1.0], VARIED, kl) for kl in (0.5, 1.5, 1.6)]
    assert steps(tmp_path / "a", make_spec(kl_budget=1.0), rows) == ([("kl_budget", 2)], [2, 3])
    assert steps(tmp_path / "b", make_spec(kl_budget=1.0, stop_on=[]), rows) == ([("kl_budget", 2)], [])


def test_a_reward_that_rises_only_with_length_is_gaming(tmp_path: Path) -> None:
    """Two tokens a point: the mean rises as responses grow, and falls once length is taken out."""
    rows = []
    for step in range(4):
        lengths = [4 + 4 * step, 6 + 4 * step]
        scores = [length / 2 - step for length in lengths]
        rows.append((scores, [list(range(length)) for length in lengths], 0.0))
    raised, stops = steps(tmp_path, make_spec(stop_on=["reward_gaming"]), rows)
    assert (raised, stops) == ([("reward_gaming", 4)], [4])


def test_responses_that_become_alike_lack_diversity(tmp_path: Path) -> None:
    alike = [[1, 2, 1, 2, 1], [1, 2, 1, 2, 1]]
    rows = [([1.0, 1.0], tokens, 0.0) for tokens in (VARIED, VARIED, alike, alike, alike)]
    raised, stops = steps(tmp_path, make_spec(), rows)
    assert (raised, stops) == ([("low_diversity", 4)], [])


def test_a_number_that_is_none_ends_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path, make_spec())
    with pytest.raises(RecipeError, match="lower learning_rate"):
        fail_not_finite(run, 3, "The loss")
    assert '"alarm": "nan"' in (tmp_path / "events.jsonl").read_text()
