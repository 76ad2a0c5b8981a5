"""Leases: who gets which item, when a slot comes back, and what two tabs see."""

from collections import Counter
from datetime import timedelta

import pytest
from django.utils import timezone

from rating.models import Assignment, Item
from rating.services.judgments import record_skip
from rating.services.leases import lease_next_item, queue_counts, release_run_out_leases
from tests.factories import (
    make_item,
    make_judgment,
    make_project,
    make_rater,
)

pytestmark = pytest.mark.django_db


def run_out(lease: Assignment) -> None:
    """Let the lease's time be over."""
    Assignment.objects.filter(pk=lease.pk).update(expires_at=timezone.now() - timedelta(seconds=1))


def test_lease_takes_a_slot_and_remembers_what_is_shown(project):
    item = make_item(project, overlap=2)
    lease = lease_next_item(project, make_rater(project))
    item.refresh_from_db()
    assert lease.item == item
    assert item.open_slots == 1
    assert sorted(lease.order_shown) == sorted(item.completions.values_list("pk", flat=True))
    assert lease.guidelines.number == 1
    assert timedelta(minutes=29) < lease.expires_at - timezone.now() <= timedelta(minutes=30)


def test_same_lease_again_for_a_reload_and_a_second_tab(project):
    make_item(project), make_item(project)
    rater = make_rater(project)
    first, again = lease_next_item(project, rater), lease_next_item(project, rater)
    assert again.pk == first.pk
    assert again.order_shown == first.order_shown
    assert Assignment.objects.count() == 1


def test_order_of_the_queue(project):
    later = make_item(project)
    sooner = make_item(project)
    urgent = make_item(project, priority=5)
    Item.objects.filter(pk=later.pk).update(queue_key=0.9)
    Item.objects.filter(pk=sooner.pk).update(queue_key=0.1)
    rater = make_rater(project)
    seen = []
    for _ in range(3):
        lease = lease_next_item(project, rater)
        seen.append(lease.item)
        Assignment.objects.filter(pk=lease.pk).update(state=Assignment.State.DONE)
    assert seen == [urgent, sooner, later]
    assert lease_next_item(project, rater) is None


def test_only_own_project_and_open_slots(project):
    make_item(make_project())
    taken = make_item(project, overlap=1)
    lease_next_item(project, make_rater(project))
    taken.refresh_from_db()
    assert taken.open_slots == 0
    assert lease_next_item(project, make_rater(project)) is None


def test_archived_project_hands_out_nothing(project):
    make_item(project)
    project.archived_at = timezone.now()
    assert lease_next_item(project, make_rater(project)) is None


def test_run_out_lease_goes_to_another_rater(project):
    item = make_item(project, overlap=1)
    forgetful, next_rater = make_rater(project), make_rater(project)
    run_out(lease_next_item(project, forgetful))
    lease = lease_next_item(project, next_rater)
    item.refresh_from_db()
    assert lease.item == item
    assert item.open_slots == 0
    assert Assignment.objects.get(rater=forgetful).state == Assignment.State.EXPIRED


def test_own_run_out_lease_comes_again_in_the_same_order(project):
    item = make_item(project, n=9)
    rater = make_rater(project)
    first = lease_next_item(project, rater)
    run_out(first)
    again = lease_next_item(project, rater)
    item.refresh_from_db()
    assert (again.pk, again.public_id, again.order_shown) == (first.pk, first.public_id, first.order_shown)
    assert again.state == Assignment.State.LEASED
    assert again.expires_at > timezone.now()
    assert item.open_slots == 0


def test_skipped_item_goes_to_somebody_else_and_never_comes_back(project):
    item = make_item(project, overlap=1)
    rater, other = make_rater(project), make_rater(project)
    record_skip(lease_next_item(project, rater), "unclear")
    assert lease_next_item(project, rater) is None
    assert lease_next_item(project, other).item == item


def test_release_is_bounded_and_gives_back_every_slot(project):
    item = make_item(project, overlap=5)
    for _ in range(5):
        lease_next_item(project, make_rater(project))
    Assignment.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert release_run_out_leases(limit=2) == 2
    item.refresh_from_db()
    assert item.open_slots == 2
    assert release_run_out_leases() == 3
    assert release_run_out_leases() == 0
    item.refresh_from_db()
    assert item.open_slots == 5


def test_every_order_is_drawn_equally_often(project):
    for _ in range(300):
        make_item(project)
    rater = make_rater(project)
    first_shown = Counter()
    for _ in range(300):
        lease = lease_next_item(project, rater)
        first_shown[lease.order_shown[0] == min(lease.order_shown)] += 1
        Assignment.objects.filter(pk=lease.pk).update(state=Assignment.State.DONE)
    # 300 fair coins fall outside 110..190 less than once in 200,000 runs.
    assert 110 <= first_shown[True] <= 190


@pytest.mark.parametrize("items", [1, 3, 50])
def test_lease_takes_constantly_many_queries(project, django_assert_num_queries, items):
    for _ in range(items):
        make_item(project, overlap=2)
    rater = make_rater(project)
    for item in Item.objects.all()[: items - 1]:
        make_judgment(item, rater)
    with django_assert_num_queries(11):
        lease = lease_next_item(project, rater)
        assert lease.item.prompt.messages
    with django_assert_num_queries(5):
        lease_next_item(project, rater)
    with django_assert_num_queries(2):
        queue_counts(project, rater)


def test_queue_counts(project):
    rater = make_rater(project)
    judged, skipped, leased = make_item(project), make_item(project), make_item(project)
    make_item(project)
    make_judgment(judged, rater)
    old = make_judgment(make_item(project), rater, judged_at=timezone.now() - timedelta(days=2))
    assert old.item.open_slots == 0
    Item.objects.filter(pk=skipped.pk).update(priority=2)
    Item.objects.filter(pk=leased.pk).update(priority=1)
    record_skip(lease_next_item(project, rater))
    assert lease_next_item(project, rater).item == leased
    counts = queue_counts(project, rater)
    assert (counts.open, counts.open_is_more, counts.today, counts.total) == (1, False, 1, 2)


def test_queue_counts_stop_at_200(project):
    item = make_item(project)
    Item.objects.bulk_create(
        Item(project=project, prompt=item.prompt, content_hash=str(n), queue_key=n, overlap=1, open_slots=1)
        for n in range(250)
    )
    counts = queue_counts(project, make_rater(project))
    assert (counts.open, counts.open_is_more) == (200, True)
