"""Rows in the shape that a recipe needs, made of the snapshot's files."""

import json

import pytest

from tests.factories import completions_of, make_item, make_judgment
from training.models import DatasetSnapshot
from training.services.derived import derive_rows
from training.services.model_files import PrepareError
from training.services.rundirs import prepare_run_directory
from training.services.runs import queue_run
from training.services.snapshots import freeze_snapshot


def rows_in(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def texts(messages: list[list[dict]]) -> list[str]:
    return [message[0]["content"] for message in messages]


@pytest.fixture
def mixed(project) -> DatasetSnapshot:
    """A comparison, a ranking of four with a tie, and ratings of single responses, frozen."""
    project.eval_percent = 0
    project.save()
    compared = make_item(project, texts=["c0", "c1"])
    make_judgment(compared)
    ranked = make_item(project, texts=["r0", "r1", "r2", "r3"])
    a, b, c, d = (completion.pk for completion in completions_of(ranked))
    make_judgment(ranked, ranking=[[c], [a, b], [d]])
    for value in (5, 3, 1):
        rated = make_item(project, texts=[f"v{value}"])
        make_judgment(rated, value=value)
    return freeze_snapshot(project)


def test_the_pairs_of_a_ranking_are_together_again(project, present, mixed):
    spec = prepare_run_directory(run := queue_run(project, "reward_ranking", {}, snapshot=mixed))
    assert spec.data.train == "data/reward_ranking.train.jsonl"
    comparison, ranking = rows_in(run.directory / spec.data.train)
    assert (texts(comparison["completions"]), comparison["ranks"]) == (["c0", "c1"], [1, 2])
    ranks = dict(zip(texts(ranking["completions"]), ranking["ranks"], strict=True))
    assert ranks == {"r2": 1, "r0": 2, "r1": 2, "r3": 4}


def test_ratings_are_passed_on(project, present, mixed):
    spec = prepare_run_directory(run := queue_run(project, "reward_rating", {}, snapshot=mixed))
    assert [row["rating"] for row in rows_in(run.directory / spec.data.train)] == [1.0, 0.5, 0.0]


def test_preferences_and_ratings_become_verdicts(mixed, tmp_path):
    sources = {stem: mixed.directory / f"{stem}.train.jsonl" for stem in ("preference", "rating")}
    assert derive_rows("kto", sources, tmp_path / "kto.jsonl") == 2 + 2 * 5 + 2
    rows = rows_in(tmp_path / "kto.jsonl")
    assert [(row["completion"][0]["content"], row["label"]) for row in rows[:2]] == [
        ("c0", True),
        ("c1", False),
    ]
    assert [(row["completion"][0]["content"], row["label"]) for row in rows[-2:]] == [
        ("v5", True),
        ("v1", False),
    ]


def test_verdicts_are_a_runs_rows(project, present, mixed):
    spec = prepare_run_directory(run := queue_run(project, "kto", {}, snapshot=mixed))
    assert (spec.data.train, spec.data.eval) == ("data/kto.train.jsonl", None)
    assert {row["label"] for row in rows_in(run.directory / spec.data.train)} == {True, False}


def test_a_snapshot_without_such_rows_is_refused(project, present, snapshot):
    with pytest.raises(PrepareError, match=r"no rows for reward_rating \(rating.train.jsonl is empty\)"):
        prepare_run_directory(queue_run(project, "reward_rating", {}, snapshot=snapshot))
