"""The admin's page of ways of asking: presets, rows, the look at it, and what was said before stays."""

import uuid
from typing import Any

import pytest
from django.urls import reverse

from rating.models import Dimension, Project, Question, Rating
from rating.presets import PRESETS
from rating.services.asking import update_asking
from rating.services.judgments import JudgmentAnswer, record_judgment
from rating.services.leases import lease_next_item
from rating.services.projects import ProjectError
from tests.conftest import signed_in
from tests.factories import make_item, make_judgment, make_rater

pytestmark = pytest.mark.django_db
SCALE = {"name": "Kind", "low": 1, "high": 5}


def url(name: str = "asking") -> str:
    return reverse(f"rating:{name}", kwargs={"slug": "demo"})


def form_data(client, query: str = "") -> dict[str, Any]:
    """The form as the page has it, ready to be sent."""
    ways = client.get(url() + query).context["ways"]
    fields: dict[str, Any] = {}
    for part in (ways.settings, *ways.dimensions.forms, *ways.questions.forms):
        fields |= {part.add_prefix(name): part[name].value() for name in part.fields}
    for formset in (ways.dimensions, ways.questions):
        form = formset.management_form
        fields |= {form.add_prefix(name): form[name].value() for name in form.fields}
    return {name: value for name, value in fields.items() if value not in (None, "") and value is not False}


def asked(project: Project) -> dict[str, list[str]]:
    """The keys that are asked now."""
    return {
        "dimensions": [one.key for one in project.dimensions.in_force()],
        "questions": [one.key for one in project.questions.in_force()],
    }


@pytest.mark.parametrize("name", ["asking", "preview_asking"])
@pytest.mark.parametrize(
    ("who", "status"), [("admin", 200), ("rater", 403), ("operator", 403), ("outsider", 404)]
)
def test_who_may_enter(project, people, name, who, status):
    client = signed_in(people[who])
    data = form_data(client) if who == "admin" else {}
    assert client.get(url(name), follow=True).status_code == status
    sent = client.post(url(name), data)
    assert sent.status_code == (302 if (who, name) == ("admin", "asking") else status)


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_fills_the_form_and_stores_nothing_until_it_is_sent(project, admin_client, preset):
    data = form_data(admin_client, f"?preset={preset}")
    project.refresh_from_db()
    assert (project.preset, asked(project)) == ("", {"dimensions": [], "questions": []})
    assert admin_client.post(url(), data).status_code == 302
    project.refresh_from_db()
    wanted = PRESETS[preset]
    assert project.preset == preset
    assert {name: getattr(project, name) for name in wanted.settings} == dict(wanted.settings)
    assert asked(project) == {
        "dimensions": [one["key"] for one in wanted.dimensions],
        "questions": [one["key"] for one in wanted.questions],
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_sending_the_stored_form_changes_nothing(project, admin_client, preset):
    admin_client.post(url(), form_data(admin_client, f"?preset={preset}"))
    before = [list(model.objects.values()) for model in (Dimension, Question)]
    assert admin_client.post(url(), form_data(admin_client)).status_code == 302
    assert [list(model.objects.values()) for model in (Dimension, Question)] == before


def test_rows_are_added_without_scripts_and_stored_when_sent(project, admin_client):
    data = form_data(admin_client) | {"add": "dimensions"}
    page = admin_client.post(url("preview_asking"), data)
    assert page.status_code == 200
    assert len(page.context["ways"].dimensions.forms) == 1
    data |= {
        "dimensions-TOTAL_FORMS": 1,
        "dimensions-0-name": "Kind",
        "dimensions-0-style": "numbers",
        "dimensions-0-low": 0,
        "dimensions-0-high": 4,
        "questions-TOTAL_FORMS": 1,
        "questions-0-text": "Which tags?",
        "questions-0-kind": "tags",
        "questions-0-scope": "response",
        "questions-0-options": "One\r\nTwo\r\n\r\n",
    }
    del data["add"]
    assert admin_client.post(url(), data).status_code == 302
    dimension, question = project.dimensions.get(), project.questions.get()
    assert (dimension.key, dimension.low, dimension.high, dimension.required) == ("kind", 0, 4, False)
    assert (question.key, question.options, question.scope) == ("which-tags", ["One", "Two"], "response")


def test_an_empty_row_is_left_out(project, admin_client):
    page = admin_client.post(url("preview_asking"), form_data(admin_client) | {"add": "questions"})
    form = page.context["ways"].questions.forms[0]
    data = form_data(admin_client) | {"questions-TOTAL_FORMS": 1}
    data |= {form.add_prefix(name): form[name].value() or "" for name in form.fields}
    assert admin_client.post(url(), data).status_code == 302
    assert not project.questions.exists()


def test_order_and_taking_out(project, admin_client):
    update_asking(project, {}, [{"name": "One"}, {"name": "Two"}, {"name": "Three"}], [])
    data = form_data(admin_client) | {"dimensions-0-ORDER": 3, "dimensions-1-DELETE": "on"}
    data["dimensions-2-ORDER"] = 1
    assert admin_client.post(url(), data).status_code == 302
    assert asked(project)["dimensions"] == ["three", "one"]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("responses", [1, 2, 4, 9])
def test_look_shows_the_desk_and_stores_nothing(project, admin_client, preset, responses):
    data = form_data(admin_client, f"?preset={preset}") | {"responses": responses}
    answer = admin_client.post(url("preview_asking"), data, headers={"HX-Request": "true"})
    page = answer.content.decode()
    assert answer.status_code == 200
    assert page.strip().startswith('<div id="look"')
    assert page.count('<article class="response">') == responses
    assert project.dimensions.count() == project.questions.count() == 0
    assert Project.objects.get(pk=project.pk).preset == ""


def test_look_says_what_does_not_fit(project, admin_client):
    data = form_data(admin_client, "?preset=redteam") | {"allow_none": "on"}
    page = admin_client.post(url("preview_asking"), data, headers={"HX-Request": "true"}).content.decode()
    assert "does not go with picking the more harmful" in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rate_each": "on"}, "Add a dimension"),
        ({"asked": "harmful", "allow_both_bad": "on"}, "does not go with"),
        ({"comparison": "nine"}, "Select a valid choice"),
        ({"undo_seconds": "99999999999999"}, "604800"),
        ({"undo_seconds": "-1"}, "greater than or equal"),
        ({"scale_max": "10"}, "up to 9"),
        ({"scale_max": "99999999999999"}, "up to 9"),
        ({"span_reasons": "x" * 201}, "1 to 200"),
        ({"span_reasons": "a\nb\na"}, "different"),
        ({"span_reasons": "a\x00b"}, "Null characters"),
        ({"preset": "a\x00b"}, "Null characters"),
        ({"questions-TOTAL_FORMS": 1, "questions-0-text": "a\x00b"}, "Null characters"),
        ({"questions-TOTAL_FORMS": 1, "questions-0-text": "x" * 301}, "300"),
        ({"questions-TOTAL_FORMS": 1, "questions-0-text": "Q", "questions-0-kind": "tags"}, "two options"),
        ({"questions-TOTAL_FORMS": 1, "questions-0-text": "Q", "questions-0-kind": "poem"}, "valid choice"),
        ({"questions-TOTAL_FORMS": 1, "questions-0-text": "Q", "questions-0-key": "a b"}, "slug"),
        ({"questions-TOTAL_FORMS": 9999}, "questions"),
        ({"questions-TOTAL_FORMS": "many"}, "ManagementForm"),
        ({"dimensions-TOTAL_FORMS": 1, "dimensions-0-name": "D", "dimensions-0-low": 5}, "goes from 0"),
        ({"dimensions-TOTAL_FORMS": 1, "dimensions-0-name": "D", "dimensions-0-high": 10}, "equal to 9"),
    ],
)
def test_what_does_not_fit_is_422_and_stores_nothing(project, admin_client, change, said):
    rows = {
        "questions-0-kind": "yes_no",
        "questions-0-scope": "item",
        "dimensions-0-style": "numbers",
        "dimensions-0-low": 1,
        "dimensions-0-high": 5,
    }
    answer = admin_client.post(url(), {**form_data(admin_client), **rows, **change})
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert (
        admin_client.post(url("preview_asking"), {**form_data(admin_client), **rows, **change}).status_code
        == 200
    )
    assert not project.dimensions.exists()
    assert not project.questions.exists()


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "\u202eabc", "{{ 7|add:7 }}"]
)
def test_hostile_words_are_shown_as_words(project, admin_client, rater_client, hostile):
    project = update_asking(
        project,
        {"mark_spans": True, "span_reasons": [hostile], "rate_each": True},
        [{"name": hostile, "low_label": hostile, "high_label": hostile}],
        [
            {"text": hostile, "kind": "tags", "options": [hostile, "b"]},
            {"text": hostile, "kind": "choice", "options": [hostile, "b"], "scope": "response"},
            {"text": hostile, "kind": "text"},
        ],
    )
    make_item(project)
    desk = rater_client.get(reverse("rating:judge", kwargs={"slug": "demo"})).content.decode()
    for page in (desk, admin_client.get(url()).content.decode()):
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert hostile.startswith(("<", '"')) or hostile in page


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b", "", " "])
def test_unfit_texts_are_refused_by_the_service(project, text):
    for dimensions, questions, field in [
        ([{"name": text}], [], "dimensions.0.name"),
        ([], [{"text": text}], "questions.0.text"),
        ([], [{"text": "Q", "kind": "choice", "options": ["a", text]}], "questions.0.options"),
    ]:
        with pytest.raises(ProjectError) as raised:
            update_asking(project, {}, dimensions, questions)
        assert raised.value.field == field


CHANGES = [{"name": "Warm"}, {"low": 0}, {"high": 7}, {"low_label": "cold"}, {"style": "thumbs"}]


@pytest.mark.parametrize("change", CHANGES)
def test_a_rated_dimension_is_never_changed(project, change):
    project = update_asking(project, {}, [{"key": "kind", **SCALE}], [])
    make_item(project, n=1)
    lease = lease_next_item(project, make_rater(project))
    record_judgment(lease, JudgmentAnswer(ratings={"kind": 5}), idempotency_key=uuid.uuid4())
    old = Dimension.objects.values().get()
    update_asking(project, {}, [{"key": "kind", **SCALE, **change}], [])
    kept = Dimension.objects.values().get(pk=old["id"])
    assert kept.pop("archived_at") is not None
    assert old.pop("archived_at") is None
    assert kept == old
    assert asked(project)["dimensions"] == ["kind-2"]
    assert Rating.objects.get().dimension_id == old["id"]


def test_place_and_required_change_where_they_stand(project):
    project = update_asking(project, {}, [{"key": "kind", **SCALE}], [{"key": "true", "text": "True?"}])
    judgment = make_judgment(make_item(project, n=1))
    judgment.answers.create(question=project.questions.get(), value=True)
    Rating.objects.create(
        judgment=judgment,
        completion=judgment.item.completions.get(),
        dimension=project.dimensions.get(),
        value=1,
    )
    rows = [{"key": "new", "name": "New"}, {"key": "kind", **SCALE, "required": False}]
    update_asking(project, {}, rows, [{"key": "true", "text": "True?", "required": True}])
    assert [(d.key, d.required) for d in project.dimensions.in_force()] == [("new", True), ("kind", False)]
    assert [(q.key, q.required) for q in project.questions.all()] == [("true", True)]


def test_taken_out_and_back(project):
    project = update_asking(project, {}, [], [{"key": "true", "text": "True?"}, {"key": "b", "text": "B?"}])
    judgment = make_judgment(make_item(project))
    judgment.answers.create(question=project.questions.get(key="true"), value=True)
    update_asking(project, {}, [], [])
    assert [(q.key, q.archived_at is None) for q in project.questions.all()] == [("true", False)]
    update_asking(project, {}, [], [{"key": "true", "text": "True?"}])
    assert [(q.key, q.archived_at is None) for q in project.questions.all()] == [("true", True)]
    update_asking(
        project, {}, [], [{"key": "true", "text": "Is it true?"}, {"key": "true", "text": "Is it true?"}]
    )
    assert asked(project)["questions"] == ["true-2", "true-3"]
