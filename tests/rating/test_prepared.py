import uuid

import pytest
from django.db.models import F
from django.utils import timezone

from rating.models import Assignment, Item, ItemCompletion, Judgment
from rating.prepared import Prepared, PreparedUpdate, Slot, insert_row, moment, whole
from rating.services.leases import lease_next_item
from tests.factories import make_item, make_project, make_rater

pytestmark = pytest.mark.django_db

BY_ID = Prepared(
    lambda: Assignment.objects.select_related("item__prompt", "guidelines").filter(
        public_id=Slot("lease", Assignment._meta.get_field("public_id"))
    )
)
ORDER = Prepared(
    lambda: (
        ItemCompletion.objects.filter(item=whole("item")).order_by("position").values_list("completion_id")
    )
)
UNTIL = Prepared(lambda: Assignment.objects.filter(expires_at__gt=moment("now")).order_by("pk"))
TAKE = PreparedUpdate(
    lambda: Item.objects.filter(pk=whole("item"), open_slots__gt=0),
    lambda: {"open_slots": F("open_slots") - 1},
)


@pytest.fixture
def lease():
    project = make_project(guidelines="Be kind.")
    make_item(project)
    return lease_next_item(project, make_rater(project))


def test_rows_are_those_of_the_query_with_what_comes_along(lease, django_assert_num_queries):
    for _ in range(8):  # psycopg prepares what it has seen a few times
        with django_assert_num_queries(1):
            found = BY_ID.first(lease=lease.public_id)
            assert found == lease
            assert found.order_shown == lease.order_shown
            assert found.leased_at == lease.leased_at
            assert found.item.prompt.messages == lease.item.prompt.messages
            assert found.guidelines.text == "Be kind."


def test_no_row_is_none(lease):
    assert BY_ID.first(lease=uuid.uuid4()) is None
    assert BY_ID(lease=uuid.uuid4()) == []


def test_a_join_without_a_row_is_none():
    project = make_project()
    make_item(project)
    lease = lease_next_item(project, make_rater(project))
    assert BY_ID.first(lease=lease.public_id).guidelines is None


def test_values_are_those_of_each_call():
    project = make_project()
    items = [make_item(project) for _ in range(3)]
    for item in items:
        places = item.places.order_by("position").values_list("completion_id")
        assert ORDER(item=item.pk) == list(places)


def test_moments_are_compared_as_moments(lease):
    assert UNTIL(now=timezone.now()) == [lease]
    assert UNTIL(now=lease.expires_at) == []


def test_update_says_how_many_rows_it_changed():
    item = make_item(make_project(overlap=2))
    assert [TAKE(item=item.pk) for _ in range(3)] == [1, 1, 0]
    item.refresh_from_db()
    assert item.open_slots == 0


def test_a_row_is_inserted_as_save_would_insert_it(lease):
    judgment = Judgment(
        item=lease.item,
        rater=lease.rater,
        assignment=lease,
        idempotency_key=uuid.uuid4(),
        ranking=[[1], [2, 3]],
        flags=["unsure"],
        rationale="Zoë said “no” to 100% of it; ☃",
        seconds=1.5,
        judged_at=timezone.now(),
    )
    insert_row(judgment)
    stored = Judgment.objects.get(pk=judgment.pk)
    for field in Judgment._meta.concrete_fields:
        assert getattr(stored, field.attname) == getattr(judgment, field.attname), field.name
    assert stored.created_at is not None
    with pytest.raises(Exception, match="never changed"):
        judgment.save()


def test_a_slot_without_its_value_is_an_error():
    with pytest.raises(KeyError, match="item"):
        ORDER(thing=1)
