"""Many raters at once, with real transactions: no surplus, nothing lost, nothing twice."""

import random
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import Count
from django.utils import timezone

from rating.models import Assignment, Item, Judgment, Rater
from rating.services.judgments import (
    AlreadyJudgedError,
    JudgmentAnswer,
    LeaseLostError,
    record_judgment,
    record_skip,
)
from rating.services.leases import lease_next_item, release_run_out_leases
from rating.services.projects import rater_for
from tests.factories import make_item, make_project, make_rater, make_user

pytestmark = pytest.mark.usefixtures("threaded_db")

THREADS = 16


def at_once(*calls: Callable[[], object]) -> list[object]:
    """What each call returns or raises, all started at the same moment, each in its own thread."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> object:
        try:
            start.wait(timeout=20)
            return call()
        except (AlreadyJudgedError, LeaseLostError) as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(run, call) for call in calls]]


def answer(lease: Assignment, choice: str, key: uuid.UUID | None = None) -> Judgment:
    """Record a choice."""
    return record_judgment(lease, JudgmentAnswer(choice=choice), idempotency_key=key or uuid.uuid4())


def rate_until_empty(project, rater: Rater, troubled: bool) -> Callable[[], None]:
    """A rater who works until nothing is open; a troubled one also skips, dawdles and sends twice."""
    dice = random.Random(rater.pk)

    def work() -> None:
        while (lease := lease_next_item(project, rater)) is not None:
            chance = dice.random() if troubled else 1.0
            key = uuid.uuid4()
            if chance < 0.1:
                record_skip(lease)
            elif chance < 0.2:
                Assignment.objects.filter(pk=lease.pk).update(expires_at=timezone.now())
            else:
                answer(lease, "1", key)
                answer(lease, "2", key) if troubled else None
            connection.close()

    return work


@pytest.mark.parametrize("troubled", [False, True])
def test_sixteen_raters_drain_sixty_items_to_their_overlap(troubled):
    project = make_project()
    for number in range(60):
        make_item(project, overlap=1 + number % 3)
    raters = [make_rater(project) for _ in range(THREADS)]
    at_once(*(rate_until_empty(project, rater, troubled) for rater in raters))
    while release_run_out_leases():
        rate_until_empty(project, make_rater(project), False)()

    counted = Item.objects.annotate(said=Count("judgments"), by=Count("judgments__rater", distinct=True))
    assert all(item.said <= item.overlap and item.by == item.said for item in counted)
    assert all(item.open_slots == item.overlap - item.said for item in counted)
    assert not Assignment.objects.filter(state=Assignment.State.LEASED).exists()
    if not troubled:
        assert Judgment.objects.count() == 120


def test_one_free_slot_goes_to_one_of_sixteen():
    project = make_project()
    item = make_item(project, overlap=1)
    raters = [make_rater(project) for _ in range(THREADS)]
    leases = at_once(*(lambda rater=rater: lease_next_item(project, rater) for rater in raters))
    item.refresh_from_db()
    assert sum(lease is not None for lease in leases) == 1
    assert item.open_slots == 0


def test_sixteen_free_slots_of_one_item_go_to_all():
    """Rows that others hold for a moment are waited for: nobody is told that nothing is open."""
    project = make_project()
    make_item(project, overlap=THREADS)
    raters = [make_rater(project) for _ in range(THREADS)]
    leases = at_once(*(lambda rater=rater: lease_next_item(project, rater) for rater in raters))
    assert all(lease is not None for lease in leases)


def test_many_tabs_of_one_rater_get_one_lease():
    project = make_project()
    for _ in range(10):
        make_item(project)
    rater = make_rater(project)
    leases = at_once(*[lambda: lease_next_item(project, rater)] * 8)
    assert len({(lease.pk, tuple(lease.order_shown)) for lease in leases}) == 1
    assert Assignment.objects.count() == 1


def test_many_first_visits_make_one_rater():
    project, user = make_project(), make_user()
    assert len({rater.pk for rater in at_once(*[lambda: rater_for(project, user)] * 8)}) == 1


def test_double_post_is_stored_once():
    project = make_project()
    make_item(project)
    lease, key = lease_next_item(project, make_rater(project)), uuid.uuid4()
    judgments = at_once(*[lambda: answer(lease, "1", key)] * 8)
    assert len({judgment.pk for judgment in judgments}) == 1
    assert Judgment.objects.count() == 1


def test_two_tabs_with_different_answers_store_the_first():
    project = make_project()
    make_item(project)
    lease = lease_next_item(project, make_rater(project))
    results = at_once(*(lambda choice=choice: answer(lease, choice) for choice in ["1", "2"] * 4))
    stored = Judgment.objects.get()
    for result in results:
        assert (result.judgment if isinstance(result, AlreadyJudgedError) else result) == stored
    assert sum(isinstance(result, AlreadyJudgedError) for result in results) == 4


def test_late_answer_and_new_lease_race_for_the_last_slot():
    for _ in range(10):
        project = make_project()
        item = make_item(project, overlap=1)
        late, other = make_rater(project), make_rater(project)
        lease = lease_next_item(project, late)
        Assignment.objects.filter(pk=lease.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
        said, leased = at_once(lambda: answer(lease, "1"), lambda: lease_next_item(project, other))  # noqa: B023
        item.refresh_from_db()
        assert item.open_slots == 0
        assert isinstance(said, Judgment) == (leased is None)
        assert isinstance(said, LeaseLostError) == (leased is not None)


def test_skip_and_answer_race():
    for _ in range(10):
        project = make_project()
        item = make_item(project, overlap=1)
        lease = lease_next_item(project, make_rater(project))
        at_once(lambda: answer(lease, "1"), lambda: record_skip(lease))  # noqa: B023
        item.refresh_from_db()
        assert item.open_slots == 0
        assert item.judgments.count() == 1
