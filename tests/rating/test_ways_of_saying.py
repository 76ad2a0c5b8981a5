"""What raters may say besides a comparison: rewrites, marks, questions of every kind, none good enough."""

import json
import uuid

import pytest
from django.core.exceptions import ObjectDoesNotExist
from django.urls import reverse

from rating.models import Completion, Judgment, Project, Rating, SpanMark
from rating.services.asking import update_asking
from rating.services.judgments import AlreadyJudgedError, AnswerError, JudgmentAnswer, record_judgment
from rating.services.leases import lease_next_item
from rating.services.spans import Mark, find_passage
from tests.factories import make_item, make_rater
from training.services.exports import Export, iter_export
from training.services.making import iter_rows

pytestmark = pytest.mark.django_db
TEXTS = ["Boil the **rice** in water, then boil it more.", "No idea.", "Fry it."]


def say(project: Project, n: int = 2, **answer) -> Judgment:
    """Record an answer to a new item of these texts."""
    make_item(project, texts=TEXTS[:n])
    lease = lease_next_item(project, make_rater(project))
    return record_judgment(lease, JudgmentAnswer(**answer), idempotency_key=uuid.uuid4())


def refused(project: Project, field: str, n: int = 2, **answer) -> None:
    """The answer is refused at the field, and nothing is stored."""
    with pytest.raises(AnswerError) as raised:
        say(project, n, **answer)
    assert raised.value.field == field
    assert not Judgment.objects.exists()


def rows(project: Project) -> dict[str, list]:
    found: dict[str, list] = {}
    for result in iter_rows(project, kinds=("preference", "sft", "rating")):
        assert bool(result.rows) != bool(result.left_out)
        for row in result.rows:
            found.setdefault(row.kind, []).append(row.data)
        if result.left_out:
            found.setdefault("left_out", []).extend(result.left_out)
    return found


@pytest.mark.parametrize(
    ("n", "said"),
    [(1, {"rating": 5}), (2, {"choice": "tie"}), (2, {"choice": "1"}), (3, {"none_good": True})],
)
def test_a_rewrite_is_a_human_completion_preferred_over_all(project, n, said):
    update_asking(project, {"allow_rewrite": True, "allow_none": True}, [], [])
    project.refresh_from_db()
    judgment = say(project, n, rewrite=" Steam\r\nit. ", **said)
    written = Completion.objects.get(author=judgment.rater)
    assert (judgment.rewrite, written.text, written.prompt) == (written, "Steam\nit.", judgment.item.prompt)
    assert not written.items.exists()
    found = rows(project)
    rewritten = [row for row in found["preference"] if row["source"] == "rewrite"]
    assert {row["rejected"][0]["content"] for row in rewritten} == set(TEXTS[:n])
    assert {row["chosen"][0]["content"] for row in rewritten} == {"Steam\nit."}
    assert "Steam\nit." in {row["completion"][0]["content"] for row in found["sft"]}


def test_the_same_rewrite_is_stored_once(project):
    project = update_asking(project, {"allow_rewrite": True}, [], [])
    make_item(project, texts=TEXTS[:2])
    lease = lease_next_item(project, make_rater(project))
    answer = JudgmentAnswer(choice="1", rewrite="Better.")
    for _ in range(2):
        record_judgment(lease, answer, idempotency_key=uuid.uuid4())
    with pytest.raises(AlreadyJudgedError):
        record_judgment(lease, JudgmentAnswer(choice="1"), idempotency_key=uuid.uuid4())
    assert Completion.objects.filter(author__isnull=False).count() == 1


@pytest.mark.parametrize("text", [TEXTS[0], f" {TEXTS[1]} ", "a\x00b", "a\ud800b", "x" * 100_001])
def test_unfit_rewrites(project, text):
    refused(update_asking(project, {"allow_rewrite": True}, [], []), "rewrite", choice="1", rewrite=text)


@pytest.mark.parametrize("n", [2, 3, 9])
def test_none_good_is_no_tie(project, n):
    project = update_asking(project, {"allow_none": True}, [], [])
    make_item(project, n=n)
    lease = lease_next_item(project, make_rater(project))
    judgment = record_judgment(lease, JudgmentAnswer(none_good=True), idempotency_key=uuid.uuid4())
    assert (judgment.none_good, judgment.choice) == (True, "both_bad" if n == 2 else "")
    assert (judgment.preferred, judgment.ranking) == (None, None)
    assert rows(project) == {"left_out": ["none_good"]}


@pytest.mark.parametrize(
    ("asked", "n", "answer", "field"),
    [
        ({}, 2, {"none_good": True}, "choice"),
        ({}, 3, {"none_good": True}, "none_good"),
        ({"allow_none": True}, 1, {"none_good": True, "rating": 3}, "none_good"),
        ({"allow_none": True}, 2, {"none_good": True, "choice": "1"}, "choice"),
        ({"allow_none": True}, 3, {"none_good": True, "ranks": [1, 2, 3]}, "none_good"),
        ({"pick_best": True}, 3, {"ranks": [1, 2, 3]}, "best"),
        ({"pick_best": True}, 3, {"best": 4}, "best"),
        ({"pick_best": True}, 3, {}, "best"),
        ({}, 3, {"best": 1}, "ranks"),
        ({"comparison": "eight"}, 2, {"choice": "tie"}, "choice"),
        ({"comparison": "eight"}, 2, {"choice": "1"}, "strength"),
        ({"comparison": "seven"}, 2, {"choice": "1", "strength": "negligibly"}, "strength"),
        ({"comparison": "strengths"}, 2, {"choice": "1"}, "strength"),
        ({"pair_safety": True}, 2, {"choice": "1"}, "safety"),
        ({"pair_safety": True}, 2, {"choice": "1", "safety": "neither"}, "safety"),
        ({"pair_safety": True}, 2, {"choice": "tie", "safety": "chosen_safe"}, "safety"),
        ({}, 2, {"choice": "1", "safety": "both_safe"}, "safety"),
        ({}, 2, {"choice": "1", "intent": "x"}, "intent"),
        ({"ask_intent": True}, 2, {"choice": "1", "intent": " "}, "intent"),
        ({"ask_intent": True}, 2, {"choice": "1", "intent": "a\x00"}, "intent"),
        ({"ask_intent": True}, 2, {"choice": "1", "intent": "a\ud800"}, "intent"),
        ({}, 2, {"choice": "1", "rewrite": "x"}, "rewrite"),
        ({"rationale": "off"}, 2, {"choice": "1", "rationale": "x"}, "rationale"),
        ({"rationale": "required"}, 2, {"choice": "1"}, "rationale"),
        ({}, 2, {"choice": "1", "response_ratings": [{"kind": 1}, {}]}, "rating"),
        ({}, 2, {"choice": "1", "response_answers": [{"kind": True}]}, "answers"),
        ({}, 2, {"choice": "1", "marks": [Mark(1, "x", "good")]}, "marks.1"),
    ],
)
def test_what_is_not_asked_or_missing_is_refused_at_its_field(project, asked, n, answer, field):
    refused(update_asking(project, asked, [], []), field, n, **answer)


@pytest.mark.parametrize(
    ("text", "passage", "nth", "found"),
    [
        ("one two one", "one", 0, "one"),
        ("a **bold** word", "a bold word", 0, "a **bold** word"),
        ("a\n\nb", "a b", 0, "a\n\nb"),
        ("naïve 👩‍🚀 text", "👩‍🚀", 0, "👩‍🚀"),
        ("one", "two", 0, None),
        ("one", " * ", 0, None),
        ("aaaa", "aa", 2, "aa"),
    ],
)
def test_passages_are_found_by_their_words(text, passage, nth, found):
    place = find_passage(text, passage, nth)
    assert (text[slice(*place)] if place else None) == found


def test_marks_are_ranges_of_characters(project):
    project = update_asking(project, {"mark_spans": True, "span_reasons": ["Vague", "Clear"]}, [], [])
    make_item(project, texts=TEXTS[:1])
    lease = lease_next_item(project, make_rater(project))
    marks = [Mark(1, "the rice", "good", "Clear"), Mark(1, "oil", "bad", "Vague", nth=1)]
    record_judgment(lease, JudgmentAnswer(rating=3, marks=marks), idempotency_key=uuid.uuid4())
    stored = {(TEXTS[0][m.start : m.end], m.verdict, m.reason) for m in SpanMark.objects.all()}
    assert stored == {("the **rice", "good", "Clear"), ("oil", "bad", "Vague")}
    assert SpanMark.objects.get(verdict="bad").start == TEXTS[0].rindex("oil")
    (line,) = iter_export(Export(project, "judgments"))
    assert {mark["verdict"] for mark in json.loads(line)["marks"]} == {"good", "bad"}


@pytest.mark.parametrize(
    "mark",
    [
        Mark(3, "No", "good", "Clear"),
        Mark(0, "No", "good", "Clear"),
        Mark(1, "not there at all", "good", "Clear"),
        Mark(1, "No", "fine", "Clear"),
        Mark(1, "No", "good", "Other"),
        Mark(1, "a\x00b", "good", "Clear"),
        Mark(1, "a\ud800", "good", "Clear"),
    ],
)
def test_unfit_marks(project, mark):
    project = update_asking(project, {"mark_spans": True, "span_reasons": ["Clear"]}, [], [])
    refused(project, f"marks.{mark.response}", choice="1", marks=[mark])


QUESTIONS = [
    {"key": "which", "text": "Which?", "kind": "choice", "options": ["Red", "Blue"]},
    {"key": "much", "text": "How much?", "kind": "scale", "scope": "response"},
    {"key": "words", "text": "Words?", "kind": "text"},
    {"key": "tags", "text": "Tags?", "kind": "tags", "options": ["One", "Two", "Three"]},
]


def test_questions_of_every_kind(project):
    project = update_asking(project, {}, [], QUESTIONS)
    item = {"which": "Blue", "words": " Some. ", "tags": ("Three", "One")}
    judgment = say(project, choice="1", answers=item, response_answers=[{"much": 4}, {"much": 0}])
    shown = judgment.assignment.order_shown
    assert {(a.question.key, a.completion_id, json.dumps(a.value)) for a in judgment.answers.all()} == {
        ("which", None, '"Blue"'),
        ("words", None, '"Some."'),
        ("tags", None, '["One", "Three"]'),
        ("much", shown[0], "4"),
        ("much", shown[1], "0"),
    }


@pytest.mark.parametrize(
    ("item", "response", "field"),
    [
        ({"which": "Green"}, {}, "answer_which"),
        ({"tags": ("Four",)}, {}, "answer_tags"),
        ({"tags": "One"}, {}, "answer_tags"),
        ({"words": True}, {}, "answer_words"),
        ({"words": "a\x00"}, {}, "answer_words"),
        ({"words": "x" * 5_001}, {}, "answer_words"),
        ({"much": 3}, {}, "answers"),
        ({}, {"much": 5}, "answer_much.1"),
        ({}, {"much": True}, "answer_much.1"),
        ({}, {"which": "Red"}, "answers"),
    ],
)
def test_unfit_answers_to_questions(project, item, response, field):
    project = update_asking(project, {}, [], QUESTIONS)
    refused(project, field, choice="1", answers=item, response_answers=[response])


def test_each_dimension_has_its_own_scale_in_the_rows(project):
    project = update_asking(
        project,
        {},
        [{"key": "a", "name": "A", "low": 0, "high": 4}, {"key": "b", "name": "B", "style": "thumbs"}],
        [],
    )
    say(project, 1, ratings={"a": 2, "b": 1})
    assert [row["rating"] for row in rows(project)["rating"]] == [0.75]


def test_ratings_beside_a_ranking_are_kept_and_make_no_rating_rows(project):
    project = update_asking(project, {"rate_each": True}, [{"key": "a", "name": "A"}], [])
    judgment = say(project, 3, ranks=[1, 2, 2], response_ratings=[{"a": 1}, {"a": 2}, {"a": 5}])
    assert Rating.objects.filter(judgment=judgment).count() == 3
    assert set(rows(project)) == {"preference", "sft"}


@pytest.mark.parametrize("picked", ["1", "2"])
def test_picking_the_more_harmful_prefers_the_other(project, picked):
    project = update_asking(
        project, {"asked": "harmful", "allow_tie": False, "allow_both_bad": False}, [], []
    )
    judgment = say(project, choice=picked, strength="better")
    shown = judgment.assignment.order_shown
    assert (judgment.preferred_id, judgment.asked) == (shown[2 - int(picked)], "harmful")
    (row,) = rows(project)["preference"]
    assert row["chosen"][0]["content"] == judgment.preferred.text
    assert row["strength"] == "better"


HOSTILE = [
    "a\x00b",
    "<script>alert(1)</script>",
    '"><svg onload=alert(1)>',
    "{{ x }}",
    "\u202e\u2066x",
    "x" * 200_000,
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "field",
    ["intent", "rewrite", "rationale", "answer_words", "answer_which", "answer_tags", "choice", "safety",
     "strength", "answer_much.1", "rating_kind.1", "mark_1_0_passage", "mark_1_0_reason", "mark_1_0_verdict",
     "mark_1_0_nth", "seconds", "flags", "idempotency_key"],
)  # fmt: skip
def test_hostile_texts_in_every_field_of_the_desk(project, rater_client, field, text):
    settings = {
        "ask_intent": True,
        "allow_rewrite": True,
        "mark_spans": True,
        "pair_safety": True,
        "rate_each": True,
    }
    update_asking(project, settings, [{"key": "kind", "name": "Kind", "required": False}], QUESTIONS)
    make_item(project, texts=TEXTS[:2])
    address = reverse("rating:judge", kwargs={"slug": "demo"})
    lease = rater_client.get(address).context["lease"]
    data = {"idempotency_key": uuid.uuid4(), "choice": "1", "safety": "both_safe", "intent": "x", field: text}
    answer = rater_client.post(f"{address}{lease.public_id}/", data)
    assert answer.status_code in (302, 422)
    page = answer.content.decode()
    assert "<script>alert" not in page
    assert "<svg onload" not in page
    if answer.status_code == 302:
        assert "<script>alert" not in rater_client.get(f"{address}{lease.public_id}/revise/").content.decode()


def test_marks_are_append_only(project):
    project = update_asking(project, {"mark_spans": True}, [], [])
    judgment = say(project, 1, rating=3, marks=[Mark(1, "water", "good", "why <b>")])
    mark = judgment.span_marks.get()
    for change in (mark.save, mark.delete, judgment.span_marks.all().delete):
        with pytest.raises(Exception, match="never"):
            change()
    with pytest.raises(ObjectDoesNotExist):
        SpanMark.objects.get(pk=mark.pk + 1)
