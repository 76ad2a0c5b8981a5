"""Taking an answer back: a revision supersedes, nothing is overwritten, and no slot moves."""

import uuid
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from rating.models import Assignment, Judgment
from rating.services.judgments import AlreadyJudgedError, AnswerError, JudgmentAnswer, record_judgment
from rating.services.leases import lease_next_item
from rating.services.revisions import RevisionClosedError, last_revisable, revise_judgment
from tests.factories import make_item, make_judgment, make_project, make_rater
from tests.rating.test_concurrency import at_once

pytestmark = pytest.mark.django_db


@pytest.fixture
def said(project):
    """A judgment that the first response is better, fresh from the desk."""
    make_item(project, overlap=2)
    lease = lease_next_item(project, make_rater(project))
    return record_judgment(lease, JudgmentAnswer(choice="1", seconds=0.0), idempotency_key=uuid.uuid4())


def revise(judgment: Judgment, choice: str = "2", key: uuid.UUID | None = None, **more: object) -> Judgment:
    return revise_judgment(
        judgment, JudgmentAnswer(choice=choice, **more), idempotency_key=key or uuid.uuid4()
    )


def make_older(judgment: Judgment, seconds: float) -> Judgment:
    """The same judgment as if given that long ago; its rows are append-only, so by the back door."""
    when = timezone.now() - timedelta(seconds=seconds)
    Judgment._base_manager.filter(pk=judgment.pk).update(judged_at=when)
    judgment.refresh_from_db()
    return judgment


def test_revision_supersedes_and_keeps_what_was_said(said):
    item = said.item
    before = item.open_slots
    revised = revise(said, "2", seconds=0.0, rationale="I looked again.")
    assert list(Judgment.objects.order_by("pk")) == [said, revised]
    assert list(Judgment.objects.in_force()) == [revised]
    assert revised.supersedes == said
    assert revised.preferred_id == said.assignment.order_shown[1]
    assert (revised.rater, revised.guidelines, revised.item) == (said.rater, said.guidelines, item)
    item.refresh_from_db()
    assert item.open_slots == before
    assert said.assignment.state == Assignment.State.DONE


def test_time_on_the_item_adds_up(said):
    Assignment.objects.filter(pk=said.assignment_id).update(leased_at=timezone.now() - timedelta(minutes=5))
    first = revise(said, "2", seconds=20.0)
    assert first.seconds == pytest.approx(20.0)
    assert revise(first, "tie", seconds=10.0).seconds == pytest.approx(30.0)


def test_same_key_again_is_the_same_revision(said):
    key = uuid.uuid4()
    assert revise(said, "2", key) == revise(said, "2", key) == revise(said, "tie", key)
    assert Judgment.objects.count() == 2


def test_key_of_the_first_answer_returns_the_first_answer(said):
    assert revise(said, "2", said.idempotency_key) == said
    assert Judgment.objects.count() == 1


def test_unchanged_answer_keeps_the_old_one(said):
    assert revise(said, "1") == said
    assert Judgment.objects.count() == 1


def test_revision_of_a_revision(said):
    second = revise(said, "2")
    third = revise(second, "1")
    assert list(Judgment.objects.in_force()) == [third]
    assert third.supersedes.supersedes == said


def test_stale_page_changes_nothing(said):
    second = revise(said, "2")
    with pytest.raises(AlreadyJudgedError) as raised:
        revise(said, "tie")
    assert raised.value.judgment == second
    assert revise(said, "2") == second
    assert Judgment.objects.count() == 2


def test_first_answer_sent_again_after_a_revision_is_still_known(said):
    """The answer got lost on its way back, was revised in another tab, and comes once more."""
    revise(said, "2")
    again = record_judgment(said.assignment, JudgmentAnswer(choice="1"), idempotency_key=said.idempotency_key)
    assert again == said
    assert Judgment.objects.count() == 2


def test_unfit_answer_is_refused(said):
    with pytest.raises(AnswerError):
        revise(said, "5")
    assert Judgment.objects.count() == 1


def test_key_of_another_item_is_refused(project, said):
    other = make_judgment(make_item(project))
    with pytest.raises(AnswerError) as raised:
        revise(said, "2", other.idempotency_key)
    assert raised.value.field == "idempotency_key"


def test_time_to_take_back_ends(project, said):
    assert last_revisable(project, said.rater) == said
    make_older(said, project.undo_seconds + 1)
    assert last_revisable(project, said.rater) is None
    assert revise(said, "2").supersedes == said  # opened in time, and thought over


def test_too_late_is_refused(project, said):
    make_older(said, project.undo_seconds + project.lease_seconds + 1)
    with pytest.raises(RevisionClosedError):
        revise(said, "2")
    assert revise(said, "1") == said
    assert Judgment.objects.count() == 1


def test_project_without_undo(project, said):
    project.undo_seconds = 0
    project.save()
    assert last_revisable(project, said.rater) is None
    with pytest.raises(RevisionClosedError):
        revise(said, "2")


def test_last_is_the_raters_own_last_one_in_the_project(project, said):
    make_item(project)
    make_judgment(make_item(make_project()))
    other = make_judgment(make_item(project))
    assert last_revisable(project, said.rater) == said
    assert last_revisable(project, other.rater) == other
    lease = lease_next_item(project, said.rater)
    latest = record_judgment(lease, JudgmentAnswer(choice="tie"), idempotency_key=uuid.uuid4())
    assert last_revisable(project, said.rater) == latest


def test_database_refuses_a_second_revision(said):
    revise(said, "2")
    with pytest.raises(IntegrityError), transaction.atomic():
        Judgment.objects.create(
            item=said.item,
            rater=said.rater,
            assignment=said.assignment,
            supersedes=said,
            idempotency_key=uuid.uuid4(),
            choice="tie",
            judged_at=timezone.now(),
        )


@pytest.mark.usefixtures("threaded_db")
class TestAtOnce:
    """Many threads, real transactions."""

    @pytest.fixture
    def said(self):
        project = make_project(overlap=3)
        make_item(project)
        lease = lease_next_item(project, make_rater(project))
        return record_judgment(lease, JudgmentAnswer(choice="1"), idempotency_key=uuid.uuid4())

    def test_double_post_is_stored_once(self, said):
        key = uuid.uuid4()
        results = at_once(*[lambda: revise(said, "2", key)] * 8)
        assert len({judgment.pk for judgment in results}) == 1
        assert Judgment.objects.count() == 2

    def test_two_tabs_revise_differently(self, said):
        results = at_once(*(lambda choice=choice: revise(said, choice) for choice in ["2", "tie"] * 4))
        stored = Judgment.objects.in_force().get()
        for result in results:
            assert (result.judgment if isinstance(result, AlreadyJudgedError) else result) == stored
        assert sum(isinstance(result, AlreadyJudgedError) for result in results) == 4
        assert Judgment.objects.count() == 2
        said.item.refresh_from_db()
        assert said.item.open_slots == 2
