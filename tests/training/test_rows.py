"""How judgments become rows."""

import json
import uuid
from collections import defaultdict

import pytest
from django.utils import timezone

from rating.models import Completion, Item, Judgment, Rating
from rating.services.items import create_item
from tests.factories import (
    completions_of,
    make_completion,
    make_dimension,
    make_item,
    make_judgment,
    make_model_version,
    make_prompt,
    make_rater,
)
from training.services.making import count_set_aside, iter_rows
from training.services.queries import SnapshotQuery

pytestmark = pytest.mark.django_db


def rows_of(project) -> dict[str, list[dict]]:
    """The rows by kind."""
    found = defaultdict(list)
    for result in iter_rows(project):
        for row in result.rows:
            if row.kind != "prompts":
                found[row.kind].append(row.data)
    return found


def texts(row: dict) -> tuple[str, str]:
    return row["chosen"][0]["content"], row["rejected"][0]["content"]


def left_out(project) -> list[str]:
    return [reason for result in iter_rows(project) for reason in result.left_out]


def revise(judgment: Judgment, choice: str, preferred: Completion | None) -> Judgment:
    return Judgment.objects.create(
        item=judgment.item,
        rater=judgment.rater,
        supersedes=judgment,
        idempotency_key=uuid.uuid4(),
        choice=choice,
        preferred=preferred,
        judged_at=timezone.now(),
    )


def rate(project, rater, prompt, text: str, value: int) -> Judgment:
    item = create_item(project, prompt, [make_completion(prompt, text)])
    return make_judgment(item, rater, value=value)


def test_a_comparison_gives_a_preference_and_an_example(project):
    judgment = make_judgment(make_item(project, texts=["good", "bad"]), choice="a")
    rows = rows_of(project)
    assert rows["preference"] == [
        {
            "prompt": judgment.item.prompt.messages,
            "chosen": [{"role": "assistant", "content": "good"}],
            "rejected": [{"role": "assistant", "content": "bad"}],
            "margin": None,
            "label": 1.0,
            "weight": 1.0,
            "strength": None,
            "source": "comparison",
            "judgments": [str(judgment.public_id)],
        }
    ]
    assert rows["sft"] == [
        {"prompt": judgment.item.prompt.messages, "completion": [{"role": "assistant", "content": "good"}]}
    ]
    assert set(rows) == {"preference", "sft"}


def test_what_prefers_nothing_is_left_out_with_its_reason(project):
    make_judgment(make_item(project, texts=["x", "y"]), choice="tie")
    make_judgment(make_item(project, texts=["x", "y"]), choice="both_bad")
    prompt = make_prompt(project)
    twins = [make_completion(prompt, "x", model_version=make_model_version(project)) for _ in range(2)]
    make_judgment(create_item(project, prompt, twins), choice="b")
    assert left_out(project) == ["tie", "both_bad", "same_text"]
    assert not rows_of(project)


def test_evaluations_and_superseded_judgments_stay_out(project):
    make_judgment(make_item(project, texts=["x", "y"], purpose=Item.Purpose.EVALUATE), choice="a")
    first = make_judgment(make_item(project, texts=["x", "y"]), choice="a")
    revise(first, "b", completions_of(first.item)[1])
    assert [texts(row) for row in rows_of(project)["preference"]] == [("y", "x")]
    assert count_set_aside(project, SnapshotQuery(), 1) == {"query": 0, "evaluation": 1, "superseded": 1}


def test_ratings_are_shares_of_the_scale_and_the_top_is_an_example(project):
    rater = make_rater(project)
    for text, value in (("low", 1), ("middle", 3), ("top", 5)):
        rate(project, rater, make_prompt(project), text, value)
    rows = rows_of(project)
    assert [(r["completion"][0]["content"], r["rating"]) for r in rows["rating"]] == [
        ("low", 0.0),
        ("middle", 0.5),
        ("top", 1.0),
    ]
    assert [r["completion"][0]["content"] for r in rows["sft"]] == ["top"]
    assert "preference" not in rows


def test_ratings_of_one_prompt_by_one_rater_make_pairs(project):
    prompt, rater = make_prompt(project), make_rater(project)
    judgments = [
        rate(project, rater, prompt, text, value)
        for text, value in (("b", 3), ("a", 5), ("c", 1), ("also b", 3))
    ]
    rate(project, make_rater(project), prompt, "another rater's", 1)
    rate(project, rater, make_prompt(project), "another prompt's", 1)
    rows = rows_of(project)["preference"]
    assert [texts(row) for row in rows] == [
        ("a", "b"),
        ("b", "c"),
        ("a", "c"),
        ("a", "also b"),
        ("also b", "c"),
    ]
    assert {row["source"] for row in rows} == {"ratings"}
    assert rows[0]["judgments"] == [str(judgments[0].public_id), str(judgments[1].public_id)]


def test_the_rows_do_not_depend_on_the_chunks(project, monkeypatch):
    rater = make_rater(project)
    for n in range(5):
        prompt = make_prompt(project)
        for value in (1, 2, 3):
            rate(project, rater, prompt, f"rated {n}, {value}", value)
    whole = rows_of(project)
    assert len(whole["preference"]) == 15
    monkeypatch.setattr("training.services.reading.CHUNK", 2)
    assert rows_of(project) == whole


def test_the_overall_rating_counts_alone_else_the_mean_of_the_dimensions(project):
    help_, tone = make_dimension(project, "help"), make_dimension(project, "tone")
    for overall in (None, 5):
        item = make_item(project, 1)
        judgment = make_judgment(item, value=overall or 1)
        completion = completions_of(item)[0]
        if overall is None:
            Rating.objects.filter(judgment=judgment)._raw_delete("default")
        for dimension, value in ((help_, 5), (tone, 2)):
            Rating.objects.create(judgment=judgment, completion=completion, dimension=dimension, value=value)
    assert [row["rating"] for row in rows_of(project)["rating"]] == [0.625, 1.0]


def test_a_rating_outside_the_present_scale_is_left_out(project):
    rate(project, make_rater(project), make_prompt(project), "x", 5)
    project.scale_max = 4
    project.save()
    assert left_out(project) == ["out_of_scale"]


def test_a_ranking_gives_every_pair_across_its_groups(project):
    item = make_item(project, texts=["first", "second", "also second", "last"])
    a, b, c, d = (completion.pk for completion in completions_of(item))
    make_judgment(item, ranking=[[a], [b, c], [d]])
    tied = make_item(project, 3)
    make_judgment(tied, ranking=[[completion.pk for completion in completions_of(tied)]])
    rows = rows_of(project)
    assert [texts(row) for row in rows["preference"]] == [
        ("first", "second"),
        ("first", "also second"),
        ("first", "last"),
        ("second", "last"),
        ("also second", "last"),
    ]
    assert [row["completion"][0]["content"] for row in rows["sft"]] == ["first"]
    (whole,) = rows["ranking"]
    assert [response[0]["content"] for response in whole["completions"]] == [
        "first",
        "second",
        "also second",
        "last",
    ]
    assert whole["ranks"] == [1, 2, 2, 3]
    assert left_out(project) == ["tie"]


def test_a_response_is_an_example_once_and_an_empty_one_never(project):
    item = make_item(project, texts=["good", "bad"], overlap=3)
    for choice in ("a", "a", "b"):
        make_judgment(item, choice=choice)
    empty = make_item(project, 1)
    Completion.objects.filter(places__item=empty).update(text=" ")
    make_judgment(empty, value=5)
    rows = rows_of(project)
    assert [row["completion"][0]["content"] for row in rows["sft"]] == ["good", "bad"]
    assert len(rows["preference"]) == 3


def test_a_judgment_without_an_answer_is_left_out(project):
    make_judgment(make_item(project, 3))
    assert left_out(project) == ["no_answer"]


def test_prompts_come_with_their_hash_and_split(project):
    prompts = [make_prompt(project, f"Prompt {n}") for n in range(5)]
    rows = [row for result in iter_rows(project) for row in result.rows]
    assert [row.data for row in rows] == [{"id": p.text_hash, "prompt": p.messages} for p in prompts]
    assert [row.split for row in rows] == [p.split for p in prompts]


def test_lines_are_plain_json_with_any_character(project):
    text = "Zürich \u2028 \U0001f600 \x07 \"'"
    make_judgment(make_item(project, texts=[text, "y"]), choice="a")
    (line,) = [r.line() for x in iter_rows(project) for r in x.rows if r.kind == "sft"]
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)["completion"][0]["content"] == text


def test_queries_do_not_grow_with_the_judgments(project, django_assert_num_queries):
    for n in (2, 1, 2):
        make_judgment(make_item(project, n))
    with django_assert_num_queries(6):
        list(iter_rows(project))
    rater = make_rater(project)
    for n in (2, 1, 2, 1, 3, 2):
        make_judgment(make_item(project, n), rater)
    with django_assert_num_queries(6):
        list(iter_rows(project))
