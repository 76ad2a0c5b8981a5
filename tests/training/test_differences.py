"""Which rows were added, removed, changed."""

from collections import Counter

import pytest

from tests.factories import make_item, make_judgment, make_rater
from training.services.differences import RowChanges, compare_rows, compare_snapshots
from training.services.queries import SnapshotQuery
from training.services.snapshots import freeze_snapshot

pytestmark = pytest.mark.django_db


@pytest.fixture
def judged(project):
    project.eval_percent = 0
    project.save()
    for _ in range(2):
        make_judgment(make_item(project, overlap=2), choice="a")
    return project


def test_rows_about_the_same_responses_have_changed():
    before = Counter({(b"a", b"1"): 2, (b"b", b"1"): 1, (b"c", b"1"): 1})
    after = Counter({(b"a", b"1"): 1, (b"a", b"2"): 1, (b"c", b"1"): 1, (b"d", b"1"): 3})
    assert compare_rows(before, after) == (3, 1, 1)
    assert compare_rows(before, before) == (0, 0, 0)


def test_margins_change_the_pairs_and_nothing_else(judged):
    make_judgment(make_item(judged), choice="b", strength="better")
    first = freeze_snapshot(judged)
    second = freeze_snapshot(judged, SnapshotQuery(margin="small"))
    difference = compare_snapshots(first, second)
    assert (difference.judgments_added, difference.judgments_removed) == (0, 0)
    assert difference.choices == [("margin", None, "small")]
    rows = {entry.name: (entry.added, entry.removed, entry.changed) for entry in difference.rows}
    assert rows == {
        "preference.train.jsonl": (0, 0, 1),
        "sft.train.jsonl": (0, 0, 0),
        "prompts.train.jsonl": (0, 0, 0),
    }


def test_judgments_raters_and_rows_that_came_and_went(judged):
    rater = make_rater(judged)
    make_judgment(make_item(judged), rater, choice="a")
    first = freeze_snapshot(judged)
    newcomer = make_judgment(make_item(judged), choice="a")
    second = freeze_snapshot(judged, SnapshotQuery(without_raters=(rater.pseudonym,)))
    difference = compare_snapshots(first, second)
    assert (difference.judgments_added, difference.judgments_removed) == (1, 1)
    assert difference.raters_removed == [rater.pseudonym]
    assert difference.raters_added == [newcomer.rater.pseudonym]
    rows = {entry.name: entry for entry in difference.rows}
    assert rows["preference.train.jsonl"] == RowChanges("preference.train.jsonl", 3, 3, 1, 1, 0)


def test_large_files_are_counted_alone(judged, monkeypatch):
    first = freeze_snapshot(judged)
    make_judgment(make_item(judged), choice="a")
    monkeypatch.setattr("training.services.differences.MOST_ROWS", 2)
    difference = compare_snapshots(first, freeze_snapshot(judged))
    assert not difference.compared
    assert difference.rows[0] == RowChanges("preference.train.jsonl", 2, 3)
