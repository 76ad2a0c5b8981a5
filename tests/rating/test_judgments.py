"""Answers: stored once, in canonical words, whatever the order shown and however often they are sent."""

import itertools
import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from rating.models import Assignment, Judgment, Rating
from rating.services.judgments import (
    AlreadyJudgedError,
    AnswerError,
    JudgmentAnswer,
    LeaseLostError,
    record_judgment,
    record_skip,
)
from rating.services.leases import lease_next_item
from tests.factories import (
    completions_of,
    make_assignment,
    make_dimension,
    make_item,
    make_project,
    make_question,
    make_rater,
)

pytestmark = pytest.mark.django_db


def record(lease: Assignment, key: uuid.UUID | None = None, **answer) -> Judgment:
    """Record an answer with a new key unless one is given."""
    return record_judgment(lease, JudgmentAnswer(**answer), idempotency_key=key or uuid.uuid4())


def end_lease(lease: Assignment) -> None:
    """Let the lease run out and its slot be given back."""
    Assignment.objects.filter(pk=lease.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    other_project = make_project()
    assert lease_next_item(other_project, make_rater(other_project)) is None
    lease.refresh_from_db()
    assert lease.state == Assignment.State.EXPIRED


@pytest.mark.parametrize("shown", [(0, 1), (1, 0)])
@pytest.mark.parametrize("choice", ["1", "2", "tie", "both_bad"])
def test_every_order_and_choice_means_the_same_completion(project, shown, choice):
    item = make_item(project)
    completions = completions_of(item)
    order = [completions[place].pk for place in shown]
    judgment = record(make_assignment(item, make_rater(project), order_shown=order), choice=choice)
    judgment = Judgment.objects.get(pk=judgment.pk)
    if choice in ("1", "2"):
        place = shown[int(choice) - 1]
        assert judgment.choice == "ab"[place]
        assert judgment.preferred == completions[place]
    else:
        assert judgment.choice == choice
        assert judgment.preferred is None


@pytest.mark.parametrize("ranks", list(itertools.product([1, 2, 3], repeat=3)))
def test_every_ranking_in_every_order_keeps_what_was_said(project, ranks):
    item = make_item(project, n=3)
    by_place = dict(zip(completions_of(item), ranks, strict=True))
    for shown in itertools.permutations(by_place):
        lease = make_assignment(
            make_item(project, n=3), make_rater(project), order_shown=[completion.pk for completion in shown]
        )
        judgment = record(lease, ranks=[by_place[completion] for completion in shown])
        expected = [
            sorted(completion.pk for completion, rank in by_place.items() if rank == place)
            for place in sorted(set(ranks))
        ]
        assert Judgment.objects.get(pk=judgment.pk).ranking == expected


def test_done_keeps_the_slot_and_all_that_was_said(project):
    question = make_question(project, "true")
    item = make_item(project)
    lease = lease_next_item(project, make_rater(project))
    Assignment.objects.filter(pk=lease.pk).update(leased_at=timezone.now() - timedelta(seconds=60))
    judgment = record(
        lease,
        choice="1",
        strength="slightly",
        answers={"true": True},
        flags=["unsure", "harmful"],
        rationale=" Warmer. ",
        seconds=12.5,
    )
    judgment = Judgment.objects.get(pk=judgment.pk)
    item.refresh_from_db()
    lease.refresh_from_db()
    assert item.open_slots == 0
    assert lease.state == Assignment.State.DONE
    assert lease.ended_at is not None
    assert judgment.preferred_id == lease.order_shown[0]
    assert (judgment.strength, judgment.flags, judgment.rationale, judgment.seconds) == (
        "slightly",
        ["harmful", "unsure"],
        "Warmer.",
        12.5,
    )
    assert judgment.guidelines == lease.guidelines
    assert [(answer.question, answer.value) for answer in judgment.answers.all()] == [(question, True)]


def test_single_response_rated_as_a_whole(project):
    make_item(project, n=1)
    judgment = record(lease_next_item(project, make_rater(project)), rating=4)
    assert [(r.value, r.dimension) for r in judgment.ratings.all()] == [(4, None)]
    assert judgment.choice == ""


def test_single_response_rated_by_dimension(project):
    kind, brief = make_dimension(project, "kind"), make_dimension(project, "brief", required=False)
    make_item(project, n=1), make_item(project, n=1)
    rater = make_rater(project)
    both = record(lease_next_item(project, rater), ratings={"kind": 5, "brief": 1})
    assert {(r.dimension, r.value) for r in both.ratings.all()} == {(kind, 5), (brief, 1)}
    one = record(lease_next_item(project, rater), ratings={"kind": 2})
    assert {(r.dimension, r.value) for r in one.ratings.all()} == {(kind, 2)}


@pytest.mark.parametrize(
    ("n", "answer", "field"),
    [
        (2, {}, "choice"),
        (2, {"choice": "3"}, "choice"),
        (2, {"choice": "a"}, "choice"),
        (2, {"choice": "tie"}, "choice"),
        (2, {"choice": "both_bad"}, "choice"),
        (2, {"choice": "1", "rating": 3}, "rating"),
        (2, {"choice": "1", "ranks": [1, 2]}, "ranks"),
        (2, {"choice": "1", "strength": "enormously"}, "strength"),
        (2, {"choice": "1", "flags": ["boring"]}, "flags"),
        (2, {"choice": "1", "rationale": "a\x00b"}, "rationale"),
        (2, {"choice": "1", "rationale": "a\ud800b"}, "rationale"),
        (2, {"choice": "1", "rationale": "x" * 20_001}, "rationale"),
        (2, {"choice": "1", "answers": {"other": True}}, "answers"),
        (1, {}, "rating"),
        (1, {"rating": 0}, "rating"),
        (1, {"rating": 6}, "rating"),
        (1, {"ratings": {"kind": 3}}, "rating"),
        (1, {"rating": 3, "choice": "1"}, "choice"),
        (3, {"ranks": [1, 2]}, "ranks"),
        (3, {"ranks": [1, 2, None]}, "ranks"),
        (3, {"ranks": [0, 1, 2]}, "ranks"),
        (3, {"ranks": [1, 2, 4]}, "ranks"),
        (3, {"choice": "1", "ranks": [1, 2, 3]}, "choice"),
    ],
)
def test_unfit_answer_names_the_field_and_stores_nothing(db, n, answer, field):
    project = make_project(allow_tie=False, allow_both_bad=False)
    make_item(project, n=n)
    lease = lease_next_item(project, make_rater(project))
    with pytest.raises(AnswerError) as raised:
        record(lease, **answer)
    assert raised.value.field == field
    assert Judgment.objects.count() == Rating.objects.count() == 0
    lease.refresh_from_db()
    assert lease.state == Assignment.State.LEASED


@pytest.mark.parametrize("choice", ["tie", "both_bad"])
def test_strength_goes_with_a_better_response_only(project, choice):
    make_item(project)
    with pytest.raises(AnswerError, match="leave it empty") as raised:
        record(lease_next_item(project, make_rater(project)), choice=choice, strength="better")
    assert raised.value.field == "strength"


def test_required_dimensions_and_questions(project):
    make_dimension(project, "kind"), make_question(project, "true", required=True)
    make_item(project, n=1)
    lease = lease_next_item(project, make_rater(project))
    for answer, field in [
        ({"ratings": {"brief": 3}}, "rating"),
        ({"rating": 3}, "rating"),
        ({"ratings": {"kind": 9}}, "rating_kind"),
        ({}, "rating_kind"),
        ({"ratings": {"kind": 3}}, "answer_true"),
    ]:
        with pytest.raises(AnswerError) as raised:
            record(lease, **answer)
        assert raised.value.field == field
    assert record(lease, ratings={"kind": 3}, answers={"true": False}).answers.get().value is False


def test_only_optional_dimensions_still_need_one_rating(project):
    make_dimension(project, "kind", required=False)
    make_item(project, n=1)
    with pytest.raises(AnswerError, match="at least one"):
        record(lease_next_item(project, make_rater(project)))


def test_same_key_again_is_the_stored_judgment(project):
    item = make_item(project)
    lease, key = lease_next_item(project, make_rater(project)), uuid.uuid4()
    first = record(lease, key, choice="1")
    assert record(lease, key, choice="2") == first
    assert Judgment.objects.get().choice == first.choice
    item.refresh_from_db()
    assert item.open_slots == 0


def test_back_button_with_the_same_answer_is_the_stored_judgment(project):
    make_item(project)
    lease = lease_next_item(project, make_rater(project))
    first = record(lease, choice="1", rationale="kind")
    assert record(lease, choice="1", rationale="kind ") == first


@pytest.mark.parametrize("n", [1, 2, 3])
def test_back_button_with_another_answer_changes_nothing(project, n):
    make_item(project, n=n)
    lease = lease_next_item(project, make_rater(project))
    one = {1: {"rating": 2}, 2: {"choice": "1"}, 3: {"ranks": [1, 2, 3]}}[n]
    other = {1: {"rating": 3}, 2: {"choice": "2"}, 3: {"ranks": [1, 2, 2]}}[n]
    first = record(lease, **one)
    with pytest.raises(AlreadyJudgedError) as raised:
        record(lease, **other)
    assert raised.value.judgment == first
    assert Judgment.objects.get() == first


def test_key_of_another_item_is_refused(project):
    make_item(project), make_item(project)
    key, rater, other = uuid.uuid4(), make_rater(project), make_rater(project)
    record(lease_next_item(project, rater), key, choice="1")
    with pytest.raises(AnswerError) as raised:
        record(lease_next_item(project, other), key, choice="2")
    assert raised.value.field == "idempotency_key"
    assert Judgment.objects.count() == 1


def test_late_answer_takes_the_free_slot_again(project):
    item = make_item(project, overlap=1)
    lease = lease_next_item(project, make_rater(project))
    end_lease(lease)
    record(lease, choice="1")
    item.refresh_from_db()
    lease.refresh_from_db()
    assert item.open_slots == 0
    assert lease.state == Assignment.State.DONE


def test_late_answer_that_nobody_noticed_keeps_its_slot(project):
    item = make_item(project, overlap=1)
    lease = lease_next_item(project, make_rater(project))
    Assignment.objects.update(expires_at=timezone.now() - timedelta(hours=1))
    record(lease, choice="1")
    item.refresh_from_db()
    assert item.open_slots == 0


def test_late_answer_is_lost_when_somebody_else_has_the_slot(project):
    item = make_item(project, overlap=1)
    lease = lease_next_item(project, make_rater(project))
    end_lease(lease)
    other = lease_next_item(project, make_rater(project))
    with pytest.raises(LeaseLostError):
        record(lease, choice="1")
    assert Judgment.objects.count() == 0
    record(other, choice="2")
    item.refresh_from_db()
    assert item.open_slots == 0


def test_forgotten_tab_answers_the_renewed_lease_as_it_was_shown(project):
    for _ in range(5):
        make_item(project)
    rater = make_rater(project)
    lease = lease_next_item(project, rater)
    seen = lease.order_shown
    end_lease(lease)
    assert lease_next_item(project, rater) == lease
    assert record(lease, choice="2").preferred_id == seen[1]


def test_answer_after_a_skip_is_taken_while_there_is_room(project):
    item = make_item(project, overlap=1)
    rater = make_rater(project)
    lease = lease_next_item(project, rater)
    record_skip(lease, "unclear")
    record(lease, choice="1")
    item.refresh_from_db()
    assert item.open_slots == 0


def test_skip(project):
    item = make_item(project, overlap=1)
    lease = lease_next_item(project, make_rater(project))
    record_skip(lease, "The prompt is cut off")
    record_skip(lease, "again")
    item.refresh_from_db()
    lease.refresh_from_db()
    assert (item.open_slots, lease.state, lease.skip_reason) == (
        1,
        Assignment.State.SKIPPED,
        "The prompt is cut off",
    )


def test_skip_after_the_lease_ran_out_gives_no_second_slot(project):
    item = make_item(project, overlap=1)
    lease = lease_next_item(project, make_rater(project))
    end_lease(lease)
    record_skip(lease)
    item.refresh_from_db()
    assert item.open_slots == 1


def test_skip_after_the_answer_changes_nothing(project):
    item = make_item(project)
    lease = lease_next_item(project, make_rater(project))
    judgment = record(lease, choice="1")
    with pytest.raises(AlreadyJudgedError) as raised:
        record_skip(lease)
    item.refresh_from_db()
    assert raised.value.judgment == judgment
    assert item.open_slots == 0


@pytest.mark.parametrize("reason", ["a\x00b", "a\udfffb", "x" * 201])
def test_unfit_skip_reason(project, reason):
    make_item(project)
    lease = lease_next_item(project, make_rater(project))
    with pytest.raises(AnswerError):
        record_skip(lease, reason)


@pytest.mark.parametrize(
    ("said", "stored"), [(None, None), (-5.0, 0.0), (30.0, 30.0), (1e9, 60.0), (float("nan"), None)]
)
def test_seconds_are_believed_as_far_as_the_lease_goes(project, said, stored):
    make_item(project)
    lease = lease_next_item(project, make_rater(project))
    Assignment.objects.update(leased_at=timezone.now() - timedelta(seconds=60))
    assert record(lease, choice="1", seconds=said).seconds == pytest.approx(stored, abs=1)


@pytest.mark.parametrize("items", [1, 3, 50])
def test_answer_takes_constantly_many_queries(project, django_assert_num_queries, items):
    for _ in range(items):
        make_item(project)
    rater = make_rater(project)
    for _ in range(items - 1):
        record(lease_next_item(project, rater), choice="1")
    lease = lease_next_item(project, rater)
    with django_assert_num_queries(9):
        record(lease, choice="1")
