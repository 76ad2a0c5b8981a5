"""What goes in: prompts with responses and judged pairs, each once."""

import dataclasses
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rating.models import Completion, Item, Judgment, Prompt, Rater
from rating.services.imports import Position, import_file
from rating.services.imports.rows import canonical, stored_json
from rating.services.items import create_item
from rating.services.texts import CANONICAL
from tests.factories import make_completion, make_item, make_judgment, make_project, make_prompt
from tests.rating.imports.files import HH, counts, hh, jsonl, take, zipped

pytestmark = pytest.mark.django_db

storable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=60)


def judged(project) -> list[tuple[str, str, str]]:
    """The imported judgments as (choice, preferred text, other text)."""
    found = []
    for judgment in Judgment.objects.of_project(project.pk).order_by("pk"):
        texts = {p.completion_id: p.completion.text for p in judgment.item.places.all()}
        preferred = texts.pop(judgment.preferred_id)
        found.append((judgment.choice, preferred, *texts.values()))
    return found


def test_transcripts_become_judged_items(project):
    row = {
        "chosen": "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant: Because.",
        "rejected": "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant: Go away.",
    }
    report = take(project, jsonl(row), source="a.jsonl")
    prompt = Prompt.objects.get()
    assert prompt.messages == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Why?"},
    ]
    assert prompt.source == "a.jsonl"
    item = Item.objects.get()
    assert (item.overlap, item.open_slots) == (1, 0)
    assert [place.position for place in item.places.all()] == [0, 1]
    assert judged(project)[0][1:] == ("Because.", "Go away.")
    judgment = Judgment.objects.get()
    assert judgment.preferred.places.get().position == {"a": 0, "b": 1}[judgment.choice]
    assert judgment.rater.external_id == "hh-rlhf"
    assert judgment.rater.user is None
    assert (report.format, report.rows, report.taken, report.judgments) == ("hh-rlhf", 1, 1, 1)


def test_the_chosen_one_is_a_about_half_the_time_and_always_the_same(project):
    data = jsonl(*[hh(f"Question {n}", f"good {n}", f"bad {n}") for n in range(400)])
    take(project, data)
    choices = [choice for choice, *_ in judged(project)]
    assert 150 < choices.count("a") < 250
    other = make_project()
    take(other, data)
    assert [choice for choice, *_ in judged(other)] == choices


def test_swapping_the_preference_does_not_swap_the_places(project):
    other = make_project()
    take(project, jsonl(hh("Q", "one", "two")))
    take(other, jsonl(hh("Q", "two", "one")))
    places = [[place.completion.text for place in item.places.all()] for item in Item.objects.order_by("pk")]
    assert places[0] == places[1]
    assert judged(project)[0][0] != judged(other)[0][0]


def test_odd_transcripts_are_taken_or_left_out_and_always_reported(project):
    rows = [
        hh("1", "same", "same"),
        hh("2", "good", "bad"),
        hh("2", "good", "bad"),
        hh("2", "bad", "good"),
        hh("3", "", "bad"),
        {"chosen": hh("4", "x", "")["chosen"], "rejected": hh("other", "y", "")["chosen"]},
        {"chosen": hh("5", "x", "")["chosen"], "rejected": hh("5", "y\n\nHuman: more", "")["chosen"]},
        hh("6\n\nAssistant: stray", "good", "bad"),
        hh("7\n\nAssistant:\n\nHuman: again", "good", "bad"),
        {
            "chosen": "\n\nAssistant: Hi\n\nHuman: 8\n\nAssistant: x",
            "rejected": "\n\nAssistant: Hi\n\nHuman: 8\n\nAssistant: y",
        },
    ]
    report = take(project, jsonl(*rows))
    left_out = {reason: (tally.count, tally.lines) for reason, tally in report.left_out.items()}
    assert left_out == {
        "equal": (1, [1]),
        "repeated": (1, [3]),
        "contradiction": (1, [4]),
        "differs_earlier": (1, [6]),
        "no_response": (1, [7]),
    }
    noted = {remark: tally.lines for remark, tally in report.noted.items()}
    assert noted == {
        "empty_response": [5],
        "stray_turn": [8],
        "empty_turn": [9],
        "opens_with_assistant": [10],
    }
    assert report.rows == 10 == report.taken + report.rows_left_out
    assert Judgment.objects.count() == report.taken == 5
    assert ("stray\n\ngood", "stray\n\nbad") in [said[1:] for said in judged(project)]
    assert judged(project)[0][1] == "good"
    assert len(report.remarks()) == 9


def test_repeating_an_import_adds_nothing(project):
    pairs = jsonl(*[hh(f"Q{n}", "good", "bad") for n in range(7)])
    responses = jsonl(
        {"prompt": "A", "responses": ["1", "2"]}, {"prompt": "B"}, {"prompt": "C", "response": "1"}
    )
    take(project, pairs)
    take(project, responses)
    before = counts()
    again = take(project, pairs)
    assert (again.taken, again.left_out["known"].count) == (0, 7)
    again = take(project, zipped(responses))
    assert (again.taken, again.left_out["known"].count) == (0, 3)
    assert counts() == before
    contradicting = take(project, jsonl(hh("Q1", "bad", "good")))
    assert contradicting.left_out["contradiction"].lines == [1]
    assert counts() == before


def test_a_pair_that_was_there_unjudged_is_judged_and_stays_open_for_its_raters(project):
    take(
        project,
        jsonl({"prompt": "Q", "responses": ["good", "bad"]}, {"prompt": "Q", "responses": ["c", "d"]}),
    )
    item = Item.objects.order_by("pk").first()
    report = take(project, jsonl(hh("Q", "bad", "good")))
    assert (report.items, report.completions, report.judgments, report.taken) == (0, 0, 1, 1)
    before = item.open_slots
    item.refresh_from_db()
    assert (item.overlap, item.open_slots) == (2, before)
    assert judged(project) == [("b", "bad", "good")]


def test_a_judgment_of_a_person_is_left_alone(project):
    item = make_item(project, prompt=make_prompt(project, "Q"), texts=["good", "bad"])
    stored = make_judgment(item, choice="b")
    # Completions that a person or a model version wrote are others than those of a file.
    take(project, jsonl(hh("Q", "good", "bad")))
    assert Judgment.objects.filter(pk=stored.pk, choice="b").exists()


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_responses_become_items_by_their_number(project):
    project.overlap = 3
    project.save()
    rows = [
        {"prompt": "0"},
        {"prompt": "1", "response": "x"},
        {"prompt": "2", "responses": ["x", {"text": "y", "model": "base"}]},
        {"prompt": "3", "responses": ["x", "y", "z"]},
        {"prompt": "4", "responses": ["x", "y"], "kind": "single"},
        {
            "prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "5"}],
            "responses": [],
        },
        {"messages": [{"role": "user", "content": "6"}, {"role": "assistant", "content": "x"}]},
        {
            "messages": [{"role": "user", "content": "7"}],
            "response": {"text": "x"},
            "metadata": {"a": [1, "ü"]},
        },
    ]
    report = take(project, jsonl(*rows))
    assert (report.taken, report.prompts, report.completions, report.items) == (8, 8, 10, 7)
    assert sorted(item.places.count() for item in Item.objects.all()) == [1, 1, 1, 1, 1, 2, 3]
    assert set(Item.objects.values_list("overlap", "open_slots")) == {(3, 3)}
    assert Completion.objects.get(source_model="base").text == "y"
    assert Prompt.objects.get(messages=[user("7")]).metadata == {"a": [1, "ü"]}
    assert Judgment.objects.count() == 0
    assert Rater.objects.count() == 0


def test_the_same_response_twice_in_a_row(project):
    twins = [{"text": "x", "model": "m"}, {"text": "x", "model": "n"}]
    rows = [
        {"prompt": "1", "responses": ["x", "x"]},
        {"prompt": "2", "responses": ["x", "y", "x"]},
        {"prompt": "3", "responses": twins},
        {"prompt": "4", "responses": twins, "kind": "single"},
    ]
    report = take(project, jsonl(*rows))
    assert report.left_out["equal"].lines == [1, 3]
    assert report.noted["same_response"].lines == [2]
    assert sorted(item.places.count() for item in Item.objects.all()) == [1, 1, 2]


def test_fields_that_are_not_known_are_named(project):
    report = take(project, jsonl({"prompt": "1", "id": 4}, {"prompt": "2", "id": 5, "lang\ud800": "de"}))
    assert {name: tally.lines for name, tally in report.fields_ignored.items()} == {
        "id": [1, 2],
        "lang\\ud800": [2],
    }


def test_prompts_are_split_by_their_opening_and_keep_their_side(project):
    take(project, jsonl(*[{"prompt": f"Prompt {n}"} for n in range(500)]))
    held_out = Prompt.objects.filter(split="eval").count()
    assert 20 < held_out < 90
    assert (
        make_prompt(project, "Prompt 1").split
        == Prompt.objects.get(messages=[{"role": "user", "content": "Prompt 1"}]).split
    )


def test_dry_run_reports_and_keeps_nothing(project):
    report = take(project, jsonl(hh("Q", "good", "bad")), dry_run=True)
    assert (report.dry_run, report.taken, report.judgments) == (True, 1, 1)
    assert not any(counts().values())


def test_existing_items_are_found_again(project):
    report = take(project, jsonl({"prompt": "Q", "responses": ["x", "y"]}))
    prompt = Prompt.objects.get()
    item = create_item(project, prompt, list(prompt.completions.all()))
    assert report.items == Item.objects.count() == 1
    assert item.places.count() == 2


def test_another_projects_texts_are_not_shared(project):
    other = make_project()
    make_completion(make_prompt(other, "Q"), "x")
    report = take(project, jsonl({"prompt": "Q", "response": "x"}))
    assert (report.prompts, report.completions, report.items) == (1, 1, 1)


def test_batches_join_seamlessly(project, monkeypatch):
    monkeypatch.setattr("rating.services.imports.importing.BATCH_ROWS", 3)
    rows = [{"prompt": f"Q{n % 5}", "responses": [f"{n % 5} x", f"{n} y"]} for n in range(20)]
    rows += [rows[0]]
    report = take(project, jsonl(*rows))
    assert (report.prompts, report.completions, report.items) == (5, 25, 20)
    assert report.left_out["repeated"].lines == [21]


def test_batches_ask_a_constant_number_of_queries(project, django_assert_max_num_queries):
    data = jsonl(*[hh(f"Q{n}", "good", "bad") for n in range(50)])
    with django_assert_max_num_queries(25):
        take(project, data)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=storable.filter(str.strip), responses=st.lists(storable, min_size=1, max_size=9, unique=True))
def test_any_unicode_comes_back_as_it_went_in(project, prompt, responses):
    row = {"prompt": prompt, "responses": responses, "metadata": {prompt: responses}}
    data = (json.dumps(row, ensure_ascii=False) + "\r\n").encode()
    report = take(project, data)
    assert report.taken + report.rows_left_out == 1
    stored = Prompt.objects.get(project=project, messages=[{"role": "user", "content": prompt}])
    texts = set(stored.completions.values_list("text", flat=True))
    assert set(responses) <= texts
    assert take(project, data).taken == 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(storable, storable, storable))
def test_any_transcript_is_taken_once_or_reported(project, texts):
    report = take(project, jsonl(hh(*texts)), format="hh-rlhf")
    assert report.rows == 1 == report.taken + report.rows_left_out
    assert take(project, jsonl(hh(*texts)), format="hh-rlhf").taken == 0


@pytest.mark.skipif(not HH.is_dir(), reason="the HH-RLHF files are not on this machine")
def test_the_real_files_go_in_and_every_row_is_accounted_for(project):
    told = {}
    for path in sorted(HH.glob("*.gz")):
        with path.open("rb") as file:
            report = import_file(project, file, source=path.name)
        told[path.name.split(".")[0]] = (
            report.rows,
            report.judgments,
            {reason: tally.count for reason, tally in report.left_out.items()},
        )
    assert told == {
        "harmless-base": (1553, 1553, {}),
        "helpful-base": (1526, 1525, {"equal": 1}),
        "helpful-online": (731, 728, {"equal": 1, "no_response": 2}),
        "helpful-rejection-sampled": (1850, 1826, {"equal": 24}),
    }
    assert Judgment.objects.trainable().of_project(project.pk).count() == 5632
    share = Judgment.objects.filter(choice="a").count() / 5632
    assert 0.47 < share < 0.53


def test_two_imports_at_once_take_turns(threaded_db):
    project = make_project()
    data = jsonl(*[hh(f"Q{n}", "good", "bad") for n in range(300)])

    def run() -> tuple[int, int]:
        try:
            report = take(project, data)
            return report.taken, report.rows_left_out
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        told = [future.result() for future in [pool.submit(run) for _ in range(3)]]
    assert sorted(told) == [(0, 300), (0, 300), (300, 0)]
    assert counts() == {
        "Prompt": 300,
        "Completion": 600,
        "Item": 300,
        "ItemCompletion": 600,
        "Judgment": 300,
        "Rater": 1,
    }


def test_command_prints_what_happened(project, tmp_path, capsys):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(jsonl(hh("Q", "good", "bad"), hh("Q", "x", "x")))
    call_command("import_data", str(path), project="demo")
    out = capsys.readouterr().out
    assert "2 rows, 1 taken, 1 left out" in out
    assert "1 judgments" in out
    assert "Both responses are the same" in out
    assert "(line 2)" in out
    call_command("import_data", str(path), project="demo", dry_run=True)
    assert "dry run" in capsys.readouterr().out


def test_command_refuses_in_words(project, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": 1}\n')
    with pytest.raises(CommandError, match=r"Nothing was imported(.|\n)*line 1: prompt: expected a text"):
        call_command("import_data", str(path), project="demo")
    with pytest.raises(CommandError, match="no project with the slug 'nope'"):
        call_command("import_data", str(path), project="nope")
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("import_data", str(tmp_path / "absent.jsonl"), project="demo")
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("import_data", tempfile.gettempdir(), project="demo")


def test_command_keeps_the_good_rows_and_writes_the_bad_ones(project, tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(jsonl({"prompt": "Q", "response": "x"}, {"prompt": 4}))
    call_command("import_data", str(path), project="demo", keep_good=True)
    out = capsys.readouterr().out
    assert "2 rows, 1 taken, 1 left out" in out
    assert "line 2: prompt: expected a text" in out
    refused = tmp_path / "rows.jsonl.refused.jsonl"
    assert json.loads(refused.read_text()) == {
        "line": 2,
        "reason": "prompt: expected a text or chat messages, found int.",
        "row": {"prompt": 4},
    }
    path.write_bytes(jsonl({"prompt": "Q", "response": "x"}))
    call_command("import_data", str(path), project="demo", keep_good=True)
    assert not refused.exists()


def test_command_takes_a_format_and_columns(project, tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text("q,a,b\nWhy?,So.,No.\n")
    call_command("import_data", str(path), project="demo", columns="prompt=q,response=a,response=b")
    assert "(columns): 1 rows, 1 taken" in capsys.readouterr().out
    with pytest.raises(CommandError, match=r"--columns: .*write ROLE=COLUMN"):
        call_command("import_data", str(path), project="demo", columns="q")
    with pytest.raises(CommandError, match="line 2: instruction: is missing"):
        call_command("import_data", str(path), project="demo", format="alpaca")


def test_an_import_that_was_stopped_goes_on_where_it_was(project, monkeypatch):
    monkeypatch.setattr("rating.services.imports.importing.BATCH_ROWS", 10)
    data = jsonl(*[hh(f"Q{n % 30}", "good", "bad") for n in range(50)])
    kept: list[Position] = []

    def stop_after_two(position: Position, total: int) -> None:
        if position.rows > 20:
            raise KeyboardInterrupt
        kept.append(dataclasses.replace(position))

    with pytest.raises(KeyboardInterrupt):
        take(project, data, keep=stop_after_two)
    assert (kept[-1].rows, Judgment.objects.count()) == (20, 20)
    report = take(project, data, position=kept[-1])
    assert (report.rows, report.taken, report.judgments) == (50, 30, 30)
    assert report.left_out["repeated"].count == 20
    assert Judgment.objects.count() == 30


@given(
    st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(max_size=30)), max_size=4)
)
def test_messages_are_written_as_everywhere_else(turns):
    messages = [{"role": role, "content": content} for role, content in turns]
    assert canonical(messages) == CANONICAL.encode(messages)
    assert stored_json(messages) == json.dumps(messages)
