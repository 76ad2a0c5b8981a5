"""The rating desk, as a plain form and with htmx: who may enter, what is shown, what is said."""

import re
import uuid
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from rating.models import Assignment, Item, Judgment
from tests.factories import (
    make_dimension,
    make_item,
    make_judgment,
    make_model_version,
    make_project,
    make_prompt,
    make_question,
    make_rater,
)

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


def url(name: str, lease: Assignment | None = None) -> str:
    """An address of the demo project's desk."""
    return reverse(
        f"rating:{name}", kwargs={"slug": "demo"} | ({"assignment": lease.public_id} if lease else {})
    )


def open_desk(client) -> Assignment:
    """Load the desk and return the lease that it shows."""
    response = client.get(url("judge"))
    assert response.status_code == 200
    return response.context["lease"]


def fields(client, **answer) -> dict[str, object]:
    """The form as the page has it, filled in."""
    page = client.get(url("judge")).content.decode()
    key = re.search(r'name="idempotency_key" value="([0-9a-f-]{36})"', page)[1]
    return {"idempotency_key": key, "seconds": "3.5"} | answer


def test_plain_form_saves_and_shows_the_next_item(project, rater_client):
    for _ in range(2):
        make_item(project)
    first = open_desk(rater_client)
    response = rater_client.post(url("answer", first), fields(rater_client, choice="2"), follow=True)
    assert response.redirect_chain == [(url("judge"), 302)]
    assert "Saved." in response.content.decode()
    assert response.context["lease"] != first
    judgment = Judgment.objects.get()
    assert judgment.preferred_id == first.order_shown[1]
    assert judgment.rater.user.username == "rater"


def test_htmx_swaps_the_next_item_in(project, rater_client):
    for _ in range(2):
        make_item(project)
    first = open_desk(rater_client)
    response = rater_client.post(url("answer", first), fields(rater_client, choice="1"), headers=HTMX)
    page = response.content.decode()
    assert response.status_code == 200
    assert response["X-Ratchet-Desk"] == "1"
    assert page.strip().startswith('<div id="desk"')
    assert 'data-said="Saved."' in page
    assert str(first.public_id) not in page
    assert Judgment.objects.count() == 1


def test_last_answer_ends_in_words(project, rater_client):
    make_item(project)
    response = rater_client.post(
        url("answer", open_desk(rater_client)), fields(rater_client, choice="tie"), headers=HTMX
    )
    assert "Nothing to rate now" in response.content.decode()
    assert "You have judged 1 item here." in response.content.decode()


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_nothing_chosen_is_said_at_the_field(project, rater_client, headers):
    make_item(project)
    data = fields(rater_client, rationale="kept words")
    response = rater_client.post(url("answer", open_desk(rater_client)), data, headers=headers)
    page = response.content.decode()
    assert response.status_code == 422
    assert "Say which response is better." in page
    assert "kept words" in page
    assert data["idempotency_key"] in page
    assert Judgment.objects.count() == 0


@pytest.mark.parametrize(
    "unfit",
    [
        {"choice": "5"},
        {"choice": "1", "rationale": "a\x00b"},
        {"choice": "\x00"},
        {"choice": "1", "flags": "boring"},
        {"choice": "1", "strength": "hugely"},
        {"choice": "tie", "strength": "better"},
        {"choice": "1", "rationale": "x" * 20_001},
        {"choice": "1", "idempotency_key": "no key"},
        {"choice": "1", "idempotency_key": ""},
    ],
)
def test_unfit_answers_are_422(project, rater_client, unfit):
    make_item(project)
    data = fields(rater_client) | unfit
    assert rater_client.post(url("answer", open_desk(rater_client)), data).status_code == 422
    assert Judgment.objects.count() == 0


def test_lone_surrogate_in_the_bytes_of_a_form_is_no_500(project, rater_client):
    make_item(project)
    lease = open_desk(rater_client)
    body = f"idempotency_key={uuid.uuid4()}&choice=1&rationale=%ED%A0%80".encode()
    response = rater_client.post(url("answer", lease), body, "application/x-www-form-urlencoded")
    assert response.status_code == 302
    assert Judgment.objects.get().rationale == "\ufffd" * 3


@pytest.mark.parametrize("seconds", ["", "nan", "inf", "-3", "1e400", "a while"])
def test_seconds_never_spoil_an_answer(project, rater_client, seconds):
    make_item(project)
    lease = open_desk(rater_client)
    response = rater_client.post(
        url("answer", lease), fields(rater_client, choice="1") | {"seconds": seconds}
    )
    assert response.status_code == 302
    assert Judgment.objects.get().seconds in (None, 0.0)


def test_double_post_is_stored_once_and_says_saved(project, rater_client):
    make_item(project)
    lease, data = open_desk(rater_client), fields(rater_client, choice="1")
    for _ in range(2):
        assert "Saved." in rater_client.post(url("answer", lease), data, follow=True).content.decode()
    assert Judgment.objects.count() == 1


@pytest.mark.parametrize(("headers", "status"), [({}, 200), (HTMX, 409)])
def test_back_button_with_another_answer_changes_nothing(project, rater_client, headers, status):
    make_item(project)
    lease = open_desk(rater_client)
    rater_client.post(url("answer", lease), fields(rater_client, choice="1"))
    other = {"idempotency_key": uuid.uuid4(), "choice": "2"}
    response = rater_client.post(url("answer", lease), other, follow=True, headers=headers)
    assert response.status_code == status
    assert "nothing was changed" in response.content.decode()
    assert Judgment.objects.get().preferred_id == lease.order_shown[0]


@pytest.mark.parametrize(("headers", "status"), [({}, 200), (HTMX, 409)])
def test_lost_lease_is_said_calmly(project, rater_client, headers, status):
    item = make_item(project, overlap=1)
    lease, data = open_desk(rater_client), fields(rater_client, choice="1")
    Assignment.objects.filter(pk=lease.pk).update(
        state="expired", expires_at=timezone.now() - timedelta(minutes=1)
    )
    Item.objects.filter(pk=item.pk).update(open_slots=1)
    make_judgment(Item.objects.get(pk=item.pk), make_rater(project))
    response = rater_client.post(url("answer", lease), data, follow=True, headers=headers)
    assert response.status_code == status
    assert "went to somebody else" in response.content.decode()
    assert Judgment.objects.count() == 1


def test_two_tabs_show_the_same_item(project, rater_client):
    for _ in range(3):
        make_item(project)
    assert open_desk(rater_client) == open_desk(rater_client)


def test_assignment_of_another_rater_is_not_found(project, rater_client):
    make_item(project)
    theirs = make_rater(project)
    rater_client.force_login(theirs.user)
    lease = open_desk(rater_client)
    mine = make_rater(project)
    rater_client.force_login(mine.user)
    for name in ("answer", "skip"):
        assert rater_client.post(url(name, lease), {"choice": "1"}).status_code == 404
    assert Judgment.objects.count() == 0
    lease.refresh_from_db()
    assert lease.state == "leased"


def test_skip_with_a_reason(project, rater_client):
    item = make_item(project, overlap=1)
    lease = open_desk(rater_client)
    response = rater_client.post(url("skip", lease), {"reason": "unclear"}, follow=True)
    assert "Skipped" in response.content.decode()
    lease.refresh_from_db()
    item.refresh_from_db()
    assert (lease.state, lease.skip_reason, item.open_slots) == ("skipped", "unclear", 1)


def test_skip_after_the_answer_changes_nothing(project, rater_client):
    make_item(project)
    lease = open_desk(rater_client)
    rater_client.post(url("answer", lease), fields(rater_client, choice="1"))
    assert rater_client.post(url("skip", lease), headers=HTMX).status_code == 409
    lease.refresh_from_db()
    assert lease.state == "done"


@pytest.mark.parametrize("name", ["answer", "skip"])
def test_address_of_a_form_opened_as_a_page_leads_to_the_desk(project, rater_client, name):
    make_item(project)
    assert rater_client.get(url(name, open_desk(rater_client))).url == url("judge")


def test_single_response_by_dimension_with_questions(project, rater_client):
    make_dimension(project, "kind", low_label="rude", high_label="warm")
    make_question(project, "true", required=True)
    make_item(project, n=1)
    lease = open_desk(rater_client)
    refused = rater_client.post(url("answer", lease), fields(rater_client, rating_kind="4"))
    assert refused.status_code == 422
    assert "Answer yes or no." in refused.content.decode()
    data = fields(rater_client, rating_kind="4", answer_true="no", flags=["unsure"], rationale="Because.")
    assert rater_client.post(url("answer", lease), data).status_code == 302
    judgment = Judgment.objects.get()
    assert (judgment.ratings.get().value, judgment.answers.get().value) == (4, False)
    assert (judgment.flags, judgment.rationale) == (["unsure"], "Because.")


def test_ranking(project, rater_client):
    make_item(project, n=3)
    lease = open_desk(rater_client)
    data = fields(rater_client, rank_1="2", rank_2="1", rank_3="2")
    assert rater_client.post(url("answer", lease), data).status_code == 302
    first, second, third = lease.order_shown
    assert Judgment.objects.get().ranking == [[second], sorted([first, third])]


def test_choices_are_the_projects(project, rater_client):
    make_item(project)
    project.allow_tie = False
    project.save()
    page = rater_client.get(url("judge")).content.decode()
    assert 'value="tie"' not in page
    assert 'value="both_bad"' in page


@pytest.mark.parametrize("n", [1, 2, 3])
def test_desk_is_blind(project, rater_client, n):
    """Neither models nor ids of completions, items, prompts are in the page: only texts and positions."""
    for _ in range(30):
        make_item(make_project(), n=3)  # so that ids are larger than positions and keys
    version = make_model_version(project, "secret-model")
    prompt = make_prompt(project, "What is asked", source="secret-source", metadata={"from": "secret-meta"})
    make_item(project, prompt=prompt, texts=["One", "Two", "Three"][:n], model_version=version)
    response = rater_client.get(url("judge"))
    page = response.content.decode()
    main = page[page.index("<main") : page.index("</main>")]
    main = re.sub(
        r'<input type="hidden" name="csrfmiddlewaretoken"[^>]*>', "", main
    )  # random letters and digits
    lease, form = response.context["lease"], response.context["form"]
    assert "secret" not in page + str(response.headers) + str(response.cookies)
    uuids = set(re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", page))
    assert uuids == {str(lease.public_id), str(form["idempotency_key"].value())}
    named = re.findall(r'(?:value|id|name|for|href|action|(?:aria|data|hx)-[\w-]+)="([^"]*)"', main)
    numbers = re.findall(r"\d+", " ".join(text for text in named if not any(part in text for part in uuids)))
    assert not {lease.item_id, *lease.order_shown} & set(map(int, numbers))


@pytest.mark.parametrize("items", [1, 3, 50])
def test_page_and_answer_take_constantly_many_queries(
    project, rater_client, django_assert_num_queries, items
):
    for _ in range(items + 1):
        make_item(project, overlap=2)
    for item in Item.objects.all()[: items - 1]:
        make_judgment(item)
    lease, data = open_desk(rater_client), fields(rater_client, choice="1")
    with django_assert_num_queries(14):
        rater_client.get(url("judge"))
    with django_assert_num_queries(30):
        rater_client.post(url("answer", lease), data, headers=HTMX)


def test_hostile_texts_are_shown_as_text(project, rater_client):
    make_item(project, texts=["<script>alert(1)</script>", '<img src=x onerror="alert(2)">'])
    page = rater_client.get(url("judge")).content.decode()
    assert "<script>alert" not in page
    assert "<img" not in page
