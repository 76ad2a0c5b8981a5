"""What is taken away: the same bytes each time, readable by the tools it is for."""

import json
import uuid

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from rating.models import Item, Judgment
from tests.factories import make_item, make_judgment, make_model_version, make_question
from training.services.exports import EXPORT_FORMATS, ExportError, iter_export

pytestmark = pytest.mark.django_db


@pytest.fixture
def judged(project):
    """A project with a comparison, a rating, a tie and an evaluation, in that order."""
    make_judgment(make_item(project, texts=["good\u2028", "bad \U0001f600"]), choice="b")
    make_judgment(make_item(project, texts=["single"]), value=5)
    make_judgment(make_item(project), choice="tie")
    make_judgment(make_item(project, purpose=Item.Purpose.EVALUATE), choice="a")
    return project


def rows(project, fmt: str, **options) -> list[dict]:
    return [json.loads(line) for line in iter_export(project, fmt, **options)]


def test_preferences_have_the_columns_of_trl(judged):
    (row,) = rows(judged, "trl-preference")
    assert list(row) == ["prompt", "chosen", "rejected"]
    assert row["prompt"][0]["role"] == "user"
    assert row["chosen"] == [{"role": "assistant", "content": "bad \U0001f600"}]
    assert row["rejected"] == [{"role": "assistant", "content": "good\u2028"}]


def test_examples_and_ratings(judged):
    assert [list(row) for row in rows(judged, "sft")] == [["prompt", "completion"]] * 2
    (row,) = rows(judged, "rating")
    assert (row["completion"][0]["content"], row["rating"]) == ("single", 1.0)


def test_raw_judgments_say_everything_but_who(judged):
    question = make_question(judged, "polite")
    version = make_model_version(judged, "writer")
    first = make_judgment(make_item(judged, model_version=version), choice="a", rationale="because")
    first.answers.create(question=question, value=True)
    Judgment.objects.create(
        item=first.item,
        rater=first.rater,
        supersedes=first,
        idempotency_key=uuid.uuid4(),
        choice="tie",
        judged_at=timezone.now(),
    )
    found = rows(judged, "judgments")
    assert [row["choice"] for row in found] == ["b", None, "tie", "a", "a", "tie"]
    assert [row["purpose"] for row in found] == ["collect"] * 3 + ["evaluate"] + ["collect"] * 2
    assert [row["in_force"] for row in found] == [True] * 4 + [False, True]
    assert found[1]["ratings"] == [
        {"completion": found[1]["completions"][0]["id"], "dimension": None, "value": 5}
    ]
    said = found[4]
    assert said["preferred"] == said["completions"][0]["id"]
    assert said["completions"][0]["model"] == "writer"
    assert said["answers"] == [{"question": "polite", "value": True}]
    assert (said["rationale"], said["rater"]) == ("because", first.rater.pseudonym)
    assert found[5]["supersedes"] == said["judgment"]
    assert first.rater.user.username not in json.dumps(found)


@pytest.mark.parametrize("fmt", EXPORT_FORMATS)
def test_the_same_bytes_each_time_whatever_the_chunks(judged, fmt, monkeypatch):
    whole = b"".join(iter_export(judged, fmt))
    assert whole
    assert b"".join(iter_export(judged, fmt)) == whole
    monkeypatch.setattr("training.services.exports.CHUNK", 1)
    monkeypatch.setattr("training.services.rows.CHUNK", 1)
    assert b"".join(iter_export(judged, fmt)) == whole


@pytest.mark.parametrize("fmt", EXPORT_FORMATS)
def test_the_two_splits_make_the_whole(project, fmt):
    project.eval_percent = 50
    project.save()
    for n in range(20):
        make_judgment(make_item(project, 1 + n % 2))
    parts = [set(iter_export(project, fmt, split=split)) for split in ("train", "eval")]
    assert parts[0] | parts[1] == set(iter_export(project, fmt))
    assert all(parts)


def test_unknown_words_are_refused_at_once(project):
    with pytest.raises(ExportError, match="use one of trl-preference"):
        iter_export(project, "csv")
    with pytest.raises(ExportError, match="use train or eval"):
        iter_export(project, "sft", split="test")


def test_command_writes_the_file_whole(judged, tmp_path, capsys):
    path = tmp_path / "out.jsonl"
    call_command("export_data", project="demo", format="trl-preference", out=str(path))
    assert path.read_bytes() == b"".join(iter_export(judged, "trl-preference"))
    assert "1 rows written" in capsys.readouterr().out
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.jsonl"]


def test_command_keeps_the_old_file_when_it_fails(judged, tmp_path, monkeypatch):
    path = tmp_path / "out.jsonl"
    path.write_text("old")

    def fail(*args, **kwargs):
        yield b"{}\n"
        raise RuntimeError("no")

    monkeypatch.setattr("training.management.commands.export_data.iter_export", fail)
    with pytest.raises(RuntimeError):
        call_command("export_data", project="demo", format="sft", out=str(path))
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.jsonl"]


def test_command_writes_to_the_standard_output(judged, capfdbinary):
    call_command("export_data", project="demo", format="sft", out="-")
    assert capfdbinary.readouterr().out == b"".join(iter_export(judged, "sft"))


def test_command_refuses_in_words(project, tmp_path):
    with pytest.raises(CommandError, match="no project with the slug"):
        call_command("export_data", project="nope", format="sft", out="-")
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("export_data", project="demo", format="sft", out=str(tmp_path / "no" / "file"))


@pytest.mark.recipes
@pytest.mark.parametrize("fmt", ["trl-preference", "sft"])
def test_datasets_loads_it_with_the_columns_of_trl(judged, tmp_path, fmt):
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "out.jsonl"
    call_command("export_data", project="demo", format=fmt, out=str(path))
    loaded = datasets.load_dataset(
        "json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.column_names == list(EXPORT_FORMATS[fmt].columns)
    assert loaded.num_rows == len(rows(judged, fmt))
    assert loaded.to_list() == rows(judged, fmt)
    data_utils = pytest.importorskip("trl.data_utils")
    assert data_utils.is_conversational(loaded[0])
