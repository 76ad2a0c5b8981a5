"""The torch-free parts: rows by line, events, checkpoints, results, errors by name, small measures."""

import errno
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.recipes.conftest import assistant, preference_rows, user, write_rows
from training.recipes.data import (
    Preference,
    read_preferences,
    read_prompts,
    read_rankings,
    read_ratings,
    read_thumbs,
)
from training.recipes.errors import RecipeError, name_error
from training.recipes.metrics import (
    bradley_terry_loss,
    preference_report,
    tie_aware_accuracy,
    wilson_interval,
)
from training.recipes.rundir import EventLog, Run, keep_whole_lines, write_atomically
from training.recipes.spec import parse_spec

GOOD = preference_rows(1)[0]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({**GOOD, "prompt": []}, "prompt must be a list of at least one message"),
        ({**GOOD, "prompt": [{"role": "robot", "content": "x"}]}, "system, user, assistant"),
        ({**GOOD, "chosen": user("x")}, "chosen must be one message with the role assistant"),
        ({**GOOD, "rejected": "x"}, "rejected must be a list"),
        ({**GOOD, "margin": "big"}, "margin must be a number"),
        ({**GOOD, "margin": math.inf}, "margin must be finite"),
        ([1], "must be a JSON object"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, row: object, words: str) -> None:
    write_rows(tmp_path / "train.jsonl", [GOOD, row])
    with pytest.raises(RecipeError) as caught:
        read_preferences(tmp_path / "train.jsonl")
    assert caught.value.code == "bad_data"
    assert caught.value.message.startswith("train.jsonl, line 2: ")
    assert words in caught.value.message


RANKING = {"prompt": user("q"), "completions": [assistant("a"), assistant("b")], "ranks": [1, 2]}
RATING = {"prompt": user("q"), "completion": assistant("a"), "rating": 0.5}


@pytest.mark.parametrize(
    ("read", "good", "change", "words"),
    [
        (read_preferences, GOOD, {"strength": "very"}, "strength must be one of significantly, better"),
        (read_preferences, GOOD, {"label": 1.5}, "label must be from 0 to 1"),
        (read_preferences, GOOD, {"tie": "yes"}, "tie must be true or false"),
        (read_preferences, GOOD, {"head": 3}, "head must be a text or null"),
        (read_rankings, RANKING, {"completions": [assistant("a")]}, "at least two responses"),
        (read_rankings, RANKING, {"completions": [assistant("a"), user("b")]}, "role assistant"),
        (read_rankings, RANKING, {"ranks": [1]}, "ranks must be a list of 2 numbers"),
        (read_rankings, RANKING, {"ranks": [0, 1]}, "whole numbers from 1"),
        (read_ratings, RATING, {"rating": 5}, "rating must be from 0 to 1"),
        (read_ratings, RATING, {"rating": None}, "rating must be a number from 0 to 1"),
        (read_ratings, RATING, {"ratings": {"safe": "x"}}, "ratings: safe must be a number"),
        (read_ratings, RATING, {"ratings": [1]}, "ratings must be an object"),
        (read_thumbs, RATING | {"label": True}, {"label": 1}, "label must be true or false"),
        (read_thumbs, RATING | {"label": True}, {"label": None}, "label must be true (a good response)"),
    ],
)
def test_a_bad_row_of_every_kind_is_named_by_file_and_line(
    tmp_path: Path, read, good: dict, change: dict, words: str
) -> None:
    write_rows(tmp_path / "train.jsonl", [good, good | change])
    with pytest.raises(RecipeError) as caught:
        read(tmp_path / "train.jsonl")
    assert caught.value.message.startswith("train.jsonl, line 2: ")
    assert words in caught.value.message


def test_torn_empty_absent_and_repeated_rows(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    for text, words in [
        ('{"id": "a"', "line 1: not valid JSON"),
        ("\n \n", "has no rows"),
        (None, "no such file"),
    ]:
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        with pytest.raises(RecipeError, match=words):
            read_prompts(path)
    write_rows(path, [{"id": "a", "prompt": user("x")}] * 2)
    with pytest.raises(RecipeError, match="line 2: id 'a' was used before"):
        read_prompts(path)


def test_events_are_numbered_on_after_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.emit("progress", step=1)
    log.emit("progress", step=2)
    with path.open("a") as file:
        file.write('{"seq": 3, "ev')
    EventLog(path).emit("warning", message="again")
    assert [json.loads(line)["seq"] for line in path.read_text().splitlines()] == [1, 2, 3]


@given(st.binary(max_size=200))
def test_only_whole_lines_are_kept(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(data.decode("latin-1").encode())
        keep_whole_lines(path)
        assert path.read_bytes() == data.decode("latin-1").encode()[: data.rfind(b"\n") + 1] or b"\n" in data
        assert not path.read_bytes() or path.read_bytes().endswith(b"\n")


def test_only_whole_checkpoints_count(tmp_path: Path) -> None:
    raw = {"recipe": "sft", "data": {"train": "t.jsonl"}, "model": "m"}
    run = Run(tmp_path, parse_spec(raw))
    assert run.last_checkpoint() is None
    for step in (2, 4, 10):
        path = run.checkpoints / f"checkpoint-{step}"
        path.mkdir(parents=True)
        (path / "weights").write_text("w")
        if step != 10:
            run.finish_checkpoint(path, step)
    assert run.last_checkpoint() == (4, run.checkpoints / "checkpoint-4")
    assert not (run.checkpoints / "checkpoint-10").exists()
    for step in (6, 8):
        path = run.checkpoints / f"checkpoint-{step}"
        path.mkdir()
        run.finish_checkpoint(path, step)
    run.drop_old_checkpoints()
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["checkpoint-6", "checkpoint-8"]


def test_numbers_that_are_not_finite_stay_out_of_the_events(tmp_path: Path) -> None:
    run = Run(tmp_path, parse_spec({"recipe": "sft", "data": {"train": "t"}, "model": "m"}))
    run.emit_values("metrics", 1, {"loss": 1, "kl": math.nan, "name": "x"})
    assert json.loads((tmp_path / "events.jsonl").read_text())["values"] == {"loss": 1.0}


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path / "r.json", "1")
    write_atomically(tmp_path / "r.json", "2")
    assert (tmp_path / "r.json").read_text() == "2"
    assert list(tmp_path.iterdir()) == [tmp_path / "r.json"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "disk_full"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), "out_of_memory"),
        (RecipeError("nan_loss", "x"), "nan_loss"),
        (KeyError("q"), "crash"),
    ],
)
def test_errors_have_names(error: Exception, code: str) -> None:
    assert name_error(error)[0] == code
    outer = ValueError("while saving")
    outer.__cause__ = error
    assert name_error(outer)[0] == code


def test_a_crash_says_its_last_line() -> None:
    assert name_error(KeyError("q_proj")) == ("crash", "KeyError: 'q_proj'")


def test_wilson_by_hand() -> None:
    # Newcombe 1998, table I: 81 of 263, Wilson's score interval .2553 to .3662
    low, high = wilson_interval(81 / 263, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson_interval(0.0, 10)[0] == 0.0
    assert wilson_interval(1.0, 10)[1] == pytest.approx(1.0)


def test_equal_scores_are_half_right() -> None:
    assert tie_aware_accuracy([1, 1, 1, 0], [0, 1, 1, 1]) == 0.5
    assert tie_aware_accuracy([0.0] * 9, [0.0] * 9) == 0.5


def test_bradley_terry_by_hand() -> None:
    assert bradley_terry_loss([0.0], [0.0]) == pytest.approx(math.log(2))
    assert bradley_terry_loss([2.0, 0.0], [0.0, 1000.0]) == pytest.approx(
        (math.log(1 + math.exp(-2)) + 1000) / 2
    )
    assert bradley_terry_loss([2.0], [0.0], [2.0]) == pytest.approx(math.log(2))


def test_the_report_knows_the_length_only_rule() -> None:
    def pair(chosen: str, rejected: str) -> Preference:
        return Preference(user("q"), assistant(chosen), assistant(rejected), None)

    report = preference_report(
        [pair("long", "s"), pair("s", "long"), pair("same", "same")], [1, 1, 1], [0, 0, 0]
    )
    assert report["accuracy"] == 1.0
    assert report["length_accuracy"] == 0.5
    assert report["pairs"] == 3
