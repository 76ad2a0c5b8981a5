"""Taking the last answer back on the desk: opened filled in, kept or replaced."""

import uuid

import pytest
from django.http import QueryDict
from django.urls import reverse

from rating.desk import AnswerForm
from rating.models import Judgment, Question
from rating.reopening import filled_in
from rating.services.judgments import record_judgment
from rating.services.leases import lease_next_item
from rating.services.revisions import revise_judgment
from tests.factories import make_dimension, make_item, make_project, make_question, make_rater
from tests.rating.test_revisions import make_older

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


def url(name: str, *more: object) -> str:
    return reverse(f"rating:{name}", args=["demo", *more])


def say(client, choice: str = "1", **more: object):
    """Answer the item on the desk; returns its lease."""
    lease = client.get(url("judge")).context["lease"]
    data = {"idempotency_key": uuid.uuid4(), "choice": choice, **more}
    assert client.post(url("answer", lease.public_id), data).status_code == 302
    return lease


def test_last_answer_opens_filled_in_and_is_replaced(project, rater_client):
    for _ in range(2):
        make_item(project)
    lease = say(rater_client, "1", rationale="At first.", flags=["unsure"])
    page = rater_client.post(url("undo"), follow=True)
    assert page.redirect_chain == [(url("revise", lease.public_id), 302)]
    assert page.context["lease"] == lease
    form = page.context["form"]
    assert (form["choice"].value(), form["rationale"].value()) == ("1", "At first.")
    assert form["flags"].value() == ["unsure"]
    first = Judgment.objects.get()
    assert f'name="revises" value="{first.public_id}"' in page.content.decode()
    data = {"idempotency_key": uuid.uuid4(), "choice": "2", "revises": first.public_id}
    after = rater_client.post(url("answer", lease.public_id), data, headers=HTMX)
    assert (after.status_code, after.context["said"]) == (200, "Saved.")
    assert after.context["lease"] not in (None, lease)
    revised = Judgment.objects.in_force().get()
    assert (revised.supersedes, revised.preferred_id) == (first, lease.order_shown[1])


def test_unfit_revision_comes_back_as_one(project, rater_client):
    make_item(project)
    lease = say(rater_client)
    first = Judgment.objects.get()
    data = {"idempotency_key": uuid.uuid4(), "choice": "7", "revises": first.public_id}
    page = rater_client.post(url("answer", lease.public_id), data)
    assert page.status_code == 422
    assert f'name="revises" value="{first.public_id}"' in page.content.decode()
    assert Judgment.objects.count() == 1


def test_nothing_to_take_back(project, rater_client):
    make_item(project)
    assert rater_client.post(url("undo"), headers=HTMX).status_code == 409
    assert "no answer that you could" in rater_client.post(url("undo"), follow=True).content.decode()
    assert rater_client.get(url("undo")).url == url("judge")


def test_too_late(project, rater_client):
    make_item(project)
    lease = say(rater_client)
    make_older(Judgment.objects.get(), project.undo_seconds + 1)
    assert rater_client.post(url("undo"), headers=HTMX).status_code == 409
    assert rater_client.get(url("revise", lease.public_id), headers=HTMX).status_code == 409
    make_older(Judgment.objects.get(), 10 * project.undo_seconds)
    data = {"idempotency_key": uuid.uuid4(), "choice": "2", "revises": Judgment.objects.get().public_id}
    late = rater_client.post(url("answer", lease.public_id), data, headers=HTMX)
    assert (late.status_code, Judgment.objects.count()) == (409, 1)
    assert "too late" in late.context["said"]


def test_only_ones_own_last_answer_opens(project, rater_client, operator_client):
    for _ in range(2):
        make_item(project)
    first = say(rater_client)
    say(rater_client)
    assert rater_client.get(url("revise", first.public_id), headers=HTMX).status_code == 409
    assert operator_client.post(url("undo")).status_code == 403


def test_project_without_undo_shows_no_button(project, rater_client):
    make_item(project)
    assert 'id="desk-undo"' in rater_client.get(url("judge")).content.decode()
    project.undo_seconds = 0
    project.save()
    assert 'id="desk-undo"' not in rater_client.get(url("judge")).content.decode()


WAYS = {
    "choice": (2, {}, {"choice": "2", "strength": "better"}),
    "tie": (2, {}, {"choice": "tie"}),
    "both bad": (2, {}, {"choice": "both_bad"}),
    "none": (2, {"allow_none": True}, {"choice": "none"}),
    "harmful": (2, {"asked": "harmful"}, {"choice": "1"}),
    "strengths and safety": (
        2,
        {"comparison": "strengths", "pair_safety": True},
        {"choice": "1", "strength": "slightly", "safety": "chosen_safe"},
    ),
    "seven": (2, {"comparison": "seven"}, {"choice": "2:better"}),
    "seven, tie": (2, {"comparison": "seven"}, {"choice": "tie"}),
    "eight, harmful": (2, {"comparison": "eight", "asked": "harmful"}, {"choice": "1:negligibly"}),
    "single": (1, {}, {"rating": "4"}),
    "ranking": (3, {}, {"rank_1": "2", "rank_2": "1", "rank_3": "2"}),
    "ranking, harmful": (
        4,
        {"asked": "harmful"},
        {"rank_1": "3", "rank_2": "1", "rank_3": "2", "rank_4": "2"},
    ),
    "ranking, none": (3, {"allow_none": True}, {"none_good": "on"}),
    "best": (4, {"pick_best": True}, {"best": "3"}),
    "best, none": (4, {"pick_best": True, "allow_none": True}, {"best": "none"}),
    "words": (
        2,
        {"allow_rewrite": True, "ask_intent": True, "rationale": "required"},
        {
            "choice": "1",
            "rewrite": "A better one.",
            "intent": "To learn.",
            "rationale": "So.",
            "flags": ["unsure"],
        },
    ),
    "marks": (
        2,
        {"mark_spans": True},
        {
            "choice": "1",
            "mark_1_0_passage": "again",
            "mark_1_0_nth": "1",
            "mark_1_0_verdict": "bad",
            "mark_1_0_reason": "twice",
            "mark_2_0_passage": "word",
            "mark_2_0_verdict": "good",
        },
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_answer_opens_as_it_was_given(way):
    """Sent back as it opened it says the same; changed by a flag it is the same with the flag."""
    count, settings, given = WAYS[way]
    project = make_project(**settings)
    texts = [f"again and again **word** {number}" for number in range(count)]
    make_item(project, texts=texts)
    lease = lease_next_item(project, make_rater(project))
    check_reopening(project, lease, given)


@pytest.mark.parametrize("count", [1, 3])
def test_dimensions_and_questions_open_as_they_were_given(count):
    project = make_project(rate_each=True)
    make_dimension(project, "kind")
    make_question(project, "true", required=True)
    make_question(project, "tags", kind=Question.Kind.TAGS, options=["a", "b", "c"])
    make_question(project, "fine", scope=Question.Scope.RESPONSE)
    make_question(project, "level", kind=Question.Kind.SCALE)
    make_item(project, n=count)
    lease = lease_next_item(project, make_rater(project))
    numbers = range(1, count + 1)
    given = {"answer_true": "no", "answer_tags": ["c", "a"], "answer_level": "0"}
    given |= {f"answer_fine.{number}": "yes" if number % 2 else "no" for number in numbers}
    given |= {"rating_kind": "2"} if count == 1 else {f"rating_kind.{n}": str(n) for n in numbers}
    given |= {} if count == 1 else {f"rank_{number}": str(number) for number in numbers}
    check_reopening(project, lease, given)


def as_sent(form: AnswerForm) -> dict[str, object]:
    """What a browser sends of the form as it opened."""
    values = {name: form[name].value() for name in form.fields}
    return {name: value for name, value in values.items() if value is not None and value is not False}


def bound(project, lease, data) -> AnswerForm:
    sent = QueryDict(mutable=True)
    for name, value in {"idempotency_key": uuid.uuid4(), **data}.items():
        sent.setlist(name, value if isinstance(value, list) else [value])
    form = AnswerForm(project, lease, sent)
    assert form.is_valid(), form.errors
    return form


def check_reopening(project, lease, given) -> None:
    key = uuid.uuid4()
    judgment = record_judgment(lease, bound(project, lease, given).answer(), idempotency_key=key)
    judgment = Judgment.objects.get(pk=judgment.pk)
    form = AnswerForm(project, lease)
    form.initial = {**form.initial, **filled_in(judgment, form)}
    sent = as_sent(form)
    for name, value in given.items():
        expected = sorted(value) if isinstance(value, list) else value
        found = sorted(sent[name]) if isinstance(value, list) else str(sent[name])
        assert found in (expected, {"on": "True"}.get(str(expected))), name
    same = revise_judgment(judgment, bound(project, lease, sent).answer(), idempotency_key=uuid.uuid4())
    assert same == judgment
    flagged = bound(project, lease, sent | {"flags": ["private"]}).answer()
    revised = revise_judgment(judgment, flagged, idempotency_key=uuid.uuid4())
    assert (revised.supersedes, revised.flags) == (judgment, ["private"])
    assert (revised.ranking, revised.preferred_id) == (judgment.ranking, judgment.preferred_id)
