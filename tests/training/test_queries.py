"""Which judgments a query lets in, and how they become rows."""

import uuid
from datetime import UTC, datetime

import pytest
from django.utils import timezone

from rating.models import Completion, Guidelines, Judgment
from tests.factories import completions_of, make_item, make_judgment, make_rater
from training.services.making import iter_rows
from training.services.queries import QueryError, SnapshotQuery, bind_query, read_query
from training.services.snapshots import SnapshotError, freeze_snapshot, query_of, read_manifest

pytestmark = pytest.mark.django_db


def used(project, **choices) -> set[str]:
    """The judgments that give rows."""
    query = read_query(project, choices)
    return {said.name for result in iter_rows(project, query) for said in result.used}


def ids(*judgments) -> set[str]:
    return {str(judgment.public_id) for judgment in judgments}


def pairs(project, **choices) -> list[tuple]:
    """(chosen, rejected, label, margin) of each preference row."""
    return [
        (
            row.data["chosen"][0]["content"],
            row.data["rejected"][0]["content"],
            pytest.approx(row.data["label"]),
            row.data["margin"] if row.data["margin"] is None else pytest.approx(row.data["margin"]),
        )
        for result in iter_rows(project, read_query(project, choices))
        for row in result.rows
        if row.kind == "preference"
    ]


def vote(project, choices: str, *, raters=(), strengths=()) -> list[Judgment]:
    """An item with the texts x and y, and a judgment of another rater for each letter: a, b or t (a tie)."""
    item = make_item(project, texts=["x", "y"], overlap=len(choices))
    words = {"a": "a", "b": "b", "t": "tie"}
    return [
        make_judgment(
            item,
            raters[index] if raters else None,
            choice=words[letter],
            strength=strengths[index] if strengths else "",
        )
        for index, letter in enumerate(choices)
    ]


def test_days_are_whole_and_both_included(project):
    judgments = [
        make_judgment(make_item(project), judged_at=datetime(2026, 3, day, hour, 59, tzinfo=UTC))
        for day, hour in ((1, 0), (2, 23), (3, 0))
    ]
    assert used(project, since="2026-03-02") == ids(*judgments[1:])
    assert used(project, until="2026-03-02") == ids(*judgments[:2])
    assert used(project, since="2026-03-02", until="2026-03-02") == ids(judgments[1])


def test_raters_in_and_out(project):
    raters = [make_rater(project) for _ in range(3)]
    judgments = [make_judgment(make_item(project), rater) for rater in raters]
    names = [rater.pseudonym for rater in raters]
    assert used(project, raters=names[:2]) == ids(*judgments[:2])
    assert used(project, without_raters=[names[0]]) == ids(*judgments[1:])
    assert used(project, raters=names[:2], without_raters=[names[0]]) == ids(judgments[1])


def test_flags(project):
    plain = make_judgment(make_item(project))
    harmful = make_judgment(make_item(project), flags=["harmful"])
    both = make_judgment(make_item(project), flags=["harmful", "unsure"])
    assert used(project, with_flags=["harmful"]) == ids(harmful, both)
    assert used(project, without_flags=["unsure"]) == ids(plain, harmful)
    assert used(project, with_flags=["harmful"], without_flags=["unsure"]) == ids(harmful)


def test_guidelines_and_origin(project):
    second = Guidelines.objects.create(project=project, number=2, text="Anew.")
    old = make_judgment(make_item(project), guidelines=Guidelines.objects.get(number=1))
    new = make_judgment(make_item(project), guidelines=second)
    item = make_item(project)
    imported = Judgment.objects.create(
        item=item,
        rater=make_rater(project),
        idempotency_key=uuid.uuid4(),
        choice="a",
        preferred=completions_of(item)[0],
        judged_at=timezone.now(),
    )
    assert used(project, guidelines=[2]) == ids(new)
    assert used(project, imported="only") == ids(imported)
    assert used(project, imported="without") == ids(old, new)


def test_agreement_and_number_of_raters_are_those_of_the_item(project):
    agreed = vote(project, "aab")
    split = vote(project, "ab")
    alone = vote(project, "a")
    assert used(project, min_agreement=0.6) == ids(*agreed, *alone)
    assert used(project, min_raters=2) == ids(*agreed, *split)
    assert used(project, min_raters=2, min_agreement=0.6) == ids(*agreed)
    without = [agreed[2].rater.pseudonym]
    assert used(project, min_agreement=1, without_raters=without) == ids(*agreed[:2], *alone)


def test_single_ratings_agree_by_their_values(project):
    same, other = make_item(project, 1, overlap=2), make_item(project, 1, overlap=2)
    agreed = [make_judgment(same, value=4) for _ in range(2)]
    for value in (2, 5):
        make_judgment(other, value=value)
    assert used(project, min_agreement=0.8) == ids(*agreed)


def test_a_rater_is_capped_by_the_same_lot_each_time(project):
    busy, calm = make_rater(project), make_rater(project)
    judgments = [make_judgment(make_item(project), busy) for _ in range(6)]
    others = [make_judgment(make_item(project), calm) for _ in range(2)]
    kept = used(project, max_per_rater=3)
    assert kept == used(project, max_per_rater=3)
    assert kept == set(sorted(ids(*judgments))[:3]) | ids(*others)
    more = used(project, max_per_rater=4)
    assert kept < more
    assert len(more) == 6


def test_a_query_with_bounds_sees_what_there_was(project):
    first = vote(project, "ab")
    query = bind_query(project, SnapshotQuery())
    later = vote(project, "a")
    Judgment.objects.create(
        item=first[0].item,
        rater=first[0].rater,
        supersedes=first[0],
        idempotency_key=uuid.uuid4(),
        choice="tie",
        judged_at=timezone.now(),
    )
    assert used(project) == ids(first[1], *later)
    assert used(project, **query.model_dump()) == ids(*first)
    prompts = [row for r in iter_rows(project, query) for row in r.rows if row.kind == "prompts"]
    assert len(prompts) == 1


def test_votes_majority_and_soft_labels(project):
    vote(project, "aab")
    vote(project, "abbt")
    vote(project, "ab")
    assert pairs(project) == [("x", "y", 1, None)] * 2 + [("y", "x", 1, None), ("x", "y", 1, None)] + [
        ("y", "x", 1, None)
    ] * 2 + [("x", "y", 1, None), ("y", "x", 1, None)]
    assert pairs(project, rows="majority") == [("x", "y", 1, None), ("y", "x", 1, None)]
    assert pairs(project, rows="soft") == [("x", "y", 2 / 3, None), ("y", "x", 0.625, None)]


def test_weights_by_reliability_are_measured_on_the_same_judgments(project):
    good, better, bad = (make_rater(project) for _ in range(3))
    for _ in range(4):
        vote(project, "aab", raters=[good, better, bad])
    vote(project, "bba", raters=[bad, make_rater(project), good])
    # good: 4 + 0 of 8 + 2 agree: ln(5/7) < 0, so 0.1; better: 4 of 8: ln(5/5), so 0.1; bad: 0 + 1 of 10: 0.1
    assert pairs(project, rows="soft", weights="reliability")[0] == ("x", "y", 2 / 3, None)
    for _ in range(8):
        vote(project, "aa", raters=[good, better])
    # good: 12 of 18: ln(13/7); better: 12 of 16: ln(13/5); bad: 1 of 10, so 0.1
    good_weight, better_weight = 0.6190392084, 0.9555114450
    share = (good_weight + better_weight) / (good_weight + better_weight + 0.1)
    found = pairs(project, rows="soft", weights="reliability")
    assert found[0] == ("x", "y", share, None)
    assert found[4] == ("x", "y", good_weight / (good_weight + 0.2), None)
    assert pairs(project, rows="majority", weights="reliability")[4] == ("x", "y", 1, None)
    assert pairs(project, rows="majority")[4] == ("y", "x", 1, None)


def test_kept_ties_are_a_row_each_way_of_half_the_weight(project):
    vote(project, "t")
    assert pairs(project) == []
    kept = [
        (row.data["chosen"][0]["content"], row.data["label"], row.data["weight"])
        for result in iter_rows(project, SnapshotQuery(ties="keep"))
        for row in result.rows
        if row.kind == "preference"
    ]
    assert kept == [("x", 0.5, 0.5), ("y", 0.5, 0.5)]
    vote(project, "ab")
    assert len(pairs(project, ties="keep", rows="soft")) == 4
    assert pairs(project, rows="soft") == []


@pytest.mark.parametrize(
    ("comparison", "scheme", "worth"),
    [
        ("choice", "none", [None] * 5),
        ("choice", "small", [1, 2 / 3, 1 / 3, 0, None]),
        ("choice", "large", [3, 2, 1, 0, None]),
        ("eight", "points", [3.5, 2.5, 1.5, 0.5, None]),
        ("seven", "points", [3, 2, 1, None, None]),
    ],
)
def test_margins(project, comparison, scheme, worth):
    project.comparison = comparison
    project.save()
    for strength in ("significantly", "better", "slightly", "negligibly", ""):
        vote(project, "a", strengths=[strength])
    assert [margin for *_, margin in pairs(project, margin=scheme)] == [
        value if value is None else pytest.approx(value) for value in worth
    ]


def test_a_margin_of_several_votes_is_their_mean(project):
    vote(project, "aab", strengths=["significantly", "slightly", "slightly"])
    assert pairs(project, rows="majority", margin="large") == [("x", "y", 1, 1.0)]


def test_rankings_and_ratings_are_put_together(project):
    item = make_item(project, texts=["a", "b", "c"], overlap=2)
    a, b, c = (completion.pk for completion in completions_of(item))
    make_judgment(item, ranking=[[a], [b], [c]])
    make_judgment(item, ranking=[[b], [a, c]])
    single = make_item(project, texts=["single"], overlap=2)
    for value in (2, 5):
        make_judgment(single, value=value)
    found = [
        row
        for result in iter_rows(project, SnapshotQuery(rows="majority"))
        for row in result.rows
        if row.kind != "prompts"
    ]
    by_kind = {row.kind: row.data for row in found}
    # mean ranks: a 1.75, b 1.5, c 2.75
    assert [response[0]["content"] for response in by_kind["ranking"]["completions"]] == ["b", "a", "c"]
    assert by_kind["ranking"]["ranks"] == [1, 2, 3]
    assert by_kind["rating"]["rating"] == pytest.approx(0.625)
    assert "sft" not in {row.kind for row in found if row.data.get("completion") == "single"}


def test_an_example_of_the_majority_was_never_the_worse_one(project):
    vote(project, "aab")
    Completion.objects.filter(text="y").update(text="z")
    rows = [r for result in iter_rows(project, SnapshotQuery(rows="majority")) for r in result.rows]
    assert [row.data["completion"][0]["content"] for row in rows if row.kind == "sft"] == ["x"]


@pytest.mark.parametrize(
    ("choices", "field", "message"),
    [
        ({"raters": ["R-NOBODY"]}, "raters", "is not in this project"),
        ({"without_raters": ["R-NOBODY"]}, "without_raters", "is not in this project"),
        ({"guidelines": [9]}, "guidelines", "is not in this project"),
        ({"with_flags": ["odd"]}, "with_flags", "use some of harmful"),
        ({"since": "2026-02-02", "until": "2026-02-01"}, "until", "give a later day"),
        ({"since": "yesterday"}, "since", "date"),
        ({"min_agreement": 2}, "min_agreement", "less than or equal to 1"),
        ({"max_per_rater": 0}, "max_per_rater", "greater than or equal to 1"),
        ({"rows": "some"}, "rows", "'votes', 'majority' or 'soft'"),
        ({"weights": "reliability"}, "weights", "choose the rows majority or soft"),
        ({"colour": "red"}, "colour", "not permitted"),
    ],
)
def test_what_cannot_be_asked_is_said_by_field(project, choices, field, message):
    with pytest.raises(QueryError) as caught:
        read_query(project, choices)
    ((name, words),) = caught.value.problems
    assert name == field
    assert message in words


def test_a_bound_of_another_project_is_refused(project):
    vote(project, "a")
    with pytest.raises(SnapshotError, match="There is no judgment"):
        freeze_snapshot(project, SnapshotQuery(up_to=uuid.uuid4()))


def test_the_query_is_stored_and_hashed(project):
    project.eval_percent = 0
    project.save()
    judgments = vote(project, "aa")
    plain = freeze_snapshot(project)
    soft = freeze_snapshot(project, SnapshotQuery(margin="small"))
    assert soft.number == 2
    assert soft.content_hash != plain.content_hash
    assert query_of(soft).choices == {"margin": "small"}
    assert query_of(plain).up_to == judgments[1].public_id
    assert read_manifest(soft)["query"]["asked"]["margin"] == "small"
    assert freeze_snapshot(project) == plain, "the same query and rows are the same snapshot"
    without = query_of(plain).model_copy(update={"without_raters": (judgments[0].rater.pseudonym,)})
    vote(project, "b")
    third = freeze_snapshot(project, without)
    assert set(third.judgments.values_list("pk", flat=True)) == {judgments[1].pk}


def test_the_order_of_choices_does_not_matter():
    assert SnapshotQuery(raters=("b", "a", "b")) == SnapshotQuery(raters=("a", "b"))


def test_an_older_snapshot_has_the_plain_query(project):
    project.eval_percent = 0
    project.save()
    vote(project, "a")
    snapshot = freeze_snapshot(project)
    up_to = snapshot.query["asked"]["up_to"]
    snapshot.query = {"judgments": "in force", "up_to": up_to, "scale": [1, 5], "dimensions": {}}
    assert query_of(snapshot).choices == {}
    assert str(query_of(snapshot).up_to) == up_to
