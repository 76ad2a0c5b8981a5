"""The item that follows is handed out before the present one is answered; no rater holds more than two."""

import uuid
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from rating.models import Assignment, Item, Judgment
from rating.services.judgments import JudgmentAnswer, record_judgment
from rating.services.leases import lease_ahead, lease_next_item, release_ahead
from tests.factories import make_item, make_project, make_rater
from tests.rating.test_concurrency import at_once

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def rater_of(project):
    """A rater of a project with five items."""
    for _ in range(5):
        make_item(project)
    return make_rater(project)


def test_the_next_one_is_another_item_and_a_third_is_not_handed_out(project, rater_of):
    first = lease_next_item(project, rater_of)
    second = lease_ahead(project, rater_of, [first.public_id])
    assert second.item != first.item
    assert lease_ahead(project, rater_of, [first.public_id]) == second
    assert lease_ahead(project, rater_of, [first.public_id, second.public_id]) is None
    assert lease_next_item(project, rater_of) == first
    assert Assignment.objects.count() == 2


def test_after_the_answer_the_one_at_hand_is_the_one_to_be_worked_on(project, rater_of):
    first = lease_next_item(project, rater_of)
    second = lease_ahead(project, rater_of, [first.public_id])
    record_judgment(first, JudgmentAnswer(choice="1"), idempotency_key=uuid.uuid4())
    third = lease_ahead(project, rater_of, [second.public_id])
    assert third.item not in (first.item, second.item)
    assert lease_next_item(project, rater_of) == second


def test_what_is_held_starts_its_time_anew(project, rater_of):
    first = lease_next_item(project, rater_of)
    soon = timezone.now() + timedelta(seconds=5)
    Assignment.objects.filter(pk=first.pk).update(expires_at=soon)
    lease_ahead(project, rater_of, [first.public_id])
    first.refresh_from_db()
    assert first.expires_at > soon + timedelta(minutes=20)


def test_others_leases_are_not_prolonged(project, rater_of):
    theirs = lease_next_item(project, make_rater(project))
    lease_ahead(project, rater_of, [theirs.public_id])
    before = theirs.expires_at
    theirs.refresh_from_db()
    assert theirs.expires_at == before


def test_release_gives_back_all_but_the_first(project, rater_of):
    first = lease_next_item(project, rater_of)
    second = lease_ahead(project, rater_of, [first.public_id])
    assert release_ahead(rater_of) == 1
    assert release_ahead(rater_of) == 0
    second.refresh_from_db()
    assert (second.state, second.item.open_slots) == ("expired", 1)
    assert lease_next_item(project, rater_of) == first
    assert lease_ahead(project, rater_of, [first.public_id]) is not None


def test_archived_project_hands_out_nothing_ahead(project, rater_of):
    first = lease_next_item(project, rater_of)
    project.archived_at = timezone.now()
    assert lease_ahead(project, rater_of, [first.public_id]) is None


def test_desk_hands_out_the_item_after_those_that_the_page_holds(project, rater_client):
    for _ in range(3):
        make_item(project)
    address = reverse("rating:judge", args=["demo"])
    shown = rater_client.get(address).context["lease"]
    ahead = rater_client.get(address, {"held": shown.public_id}, headers=HTMX).context["lease"]
    assert ahead != shown
    data = {"idempotency_key": uuid.uuid4(), "choice": "1", "held": ahead.public_id}
    answered = rater_client.post(reverse("rating:answer", args=["demo", shown.public_id]), data, headers=HTMX)
    assert answered.context["lease"] not in (shown, ahead)
    assert rater_client.get(address).context["lease"] == ahead


def test_junk_is_not_held(project, rater_client):
    make_item(project)
    address = reverse("rating:judge", args=["demo"])
    response = rater_client.get(address, {"held": ["x", "\x00", "1" * 5000]}, headers=HTMX)
    assert response.context["lease"] is not None
    assert rater_client.get(address, {"held": uuid.uuid4()}).context["lease"] == response.context["lease"]


def test_leaving_gives_the_next_one_back(project, rater_client):
    for _ in range(2):
        make_item(project, overlap=1)
    address = reverse("rating:judge", args=["demo"])
    shown = rater_client.get(address).context["lease"]
    rater_client.get(address, {"held": shown.public_id}, headers=HTMX)
    assert rater_client.post(reverse("rating:release", args=["demo"])).status_code == 204
    assert rater_client.get(reverse("rating:release", args=["demo"])).status_code == 204
    assert list(Item.objects.order_by("open_slots").values_list("open_slots", flat=True)) == [0, 1]


def mark_of(page) -> str:
    return page.context["account"]


def test_answers_of_another_account_are_not_taken(project, rater_client):
    make_item(project)
    page = rater_client.get(reverse("rating:judge", args=["demo"]))
    lease = page.context["lease"]
    address = reverse("rating:answer", args=["demo", lease.public_id])
    data = {"idempotency_key": uuid.uuid4(), "choice": "1"}
    for mark, reason in [("somebody-else", "other-account"), (mark_of(page)[::-1], "other-account")]:
        refused = rater_client.post(address, data, headers={**HTMX, "X-Ratchet-Account": mark})
        assert (refused.status_code, refused["X-Ratchet-Desk"]) == (404, reason)
    assert Judgment.objects.count() == 0
    taken = rater_client.post(address, data, headers={**HTMX, "X-Ratchet-Account": mark_of(page)})
    assert (taken.status_code, taken["X-Ratchet-Desk"]) == (200, "1")


def test_item_that_is_gone_is_said_to_be_gone(project, rater_client):
    page = rater_client.get(reverse("rating:judge", args=["demo"]))
    address = reverse("rating:answer", args=["demo", uuid.uuid4()])
    response = rater_client.post(address, headers={**HTMX, "X-Ratchet-Account": mark_of(page)})
    assert (response.status_code, response["X-Ratchet-Desk"]) == (404, "gone")


@pytest.mark.parametrize("items", [3, 30])
def test_answer_and_the_one_after_take_constantly_many_queries(
    project, rater_client, django_assert_num_queries, items
):
    for _ in range(items):
        make_item(project)
    address = reverse("rating:judge", args=["demo"])
    shown = rater_client.get(address).context["lease"]
    with django_assert_num_queries(20):
        ahead = rater_client.get(address, {"held": shown.public_id}, headers=HTMX).context["lease"]
    data = {"idempotency_key": uuid.uuid4(), "choice": "1", "held": ahead.public_id}
    with django_assert_num_queries(31):
        rater_client.post(reverse("rating:answer", args=["demo", shown.public_id]), data, headers=HTMX)


@pytest.mark.usefixtures("threaded_db")
class TestAtOnce:
    """Many threads, real transactions."""

    def test_many_tabs_get_the_same_next_item(self):
        project = make_project()
        for _ in range(10):
            make_item(project)
        rater = make_rater(project)
        first = lease_next_item(project, rater)
        ahead = at_once(*[lambda: lease_ahead(project, rater, [first.public_id])] * 8)
        assert len({lease.pk for lease in ahead}) == 1
        assert Assignment.objects.count() == 2

    def test_answers_and_releases_leave_the_slots_right(self):
        for _ in range(8):
            project = make_project()
            for _ in range(3):
                make_item(project, overlap=1)
            rater = make_rater(project)
            first = lease_next_item(project, rater)
            second = lease_ahead(project, rater, [first.public_id])
            self.everything_at_once(project, rater, first, second)
            for item in project.items.all():
                taken = item.assignments.filter(state__in=["leased", "done"]).count()
                assert item.open_slots == item.overlap - taken
            assert Judgment.objects.filter(item__project=project).count() == 1

    def everything_at_once(self, project, rater, first, second):
        answer = JudgmentAnswer(choice="1")
        at_once(
            lambda: record_judgment(second, answer, idempotency_key=uuid.uuid4()),
            lambda: release_ahead(rater),
            lambda: lease_ahead(project, rater, [first.public_id, second.public_id]),
        )
