"""What is taken away: the same bytes each time, readable by the tools it is for."""

import gzip
import json
import uuid

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from rating.models import Item, Judgment
from tests.factories import completions_of, make_item, make_judgment, make_model_version, make_question
from training.services.encoding import FILE_KINDS
from training.services.exports import EXPORT_FORMATS, Export, ExportError, iter_export
from training.services.raw import rater_id, rater_ids
from training.services.snapshots import freeze_snapshot

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def own_directory(settings, tmp_path_factory) -> None:
    settings.SNAPSHOTS_DIR = tmp_path_factory.mktemp("snapshots")


@pytest.fixture
def judged(project):
    """A project with a comparison, a rating, a tie and an evaluation, in that order; none is held out."""
    project.eval_percent = 0
    project.save()
    make_judgment(make_item(project, texts=["good\u2028", "bad \U0001f600"]), choice="b")
    make_judgment(make_item(project, texts=["single"]), value=5)
    make_judgment(make_item(project), choice="tie")
    make_judgment(make_item(project, purpose=Item.Purpose.EVALUATE), choice="a")
    return project


def rank(item) -> Judgment:
    return make_judgment(item, ranking=[[completion.pk] for completion in completions_of(item)])


@pytest.fixture
def ranked(judged):
    """The same with a ranking last."""
    rank(make_item(judged, 3))
    return judged


def whole(project, fmt: str, **options) -> bytes:
    return b"".join(iter_export(Export(project, fmt, **options)))


def rows(project, fmt: str, **options) -> list[dict]:
    return [json.loads(line) for line in whole(project, fmt, **options).splitlines()]


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
    assert found[1]["ratings"] == [{"completion": "a", "dimension": None, "value": 5}]
    said = found[4]
    assert said["preferred"] == said["completions"][0]["key"] == "a"
    assert said["order_shown"] == ["a", "b"]
    assert said["completions"][0]["version"] == "writer"
    assert said["answers"] == [{"question": "polite", "completion": None, "value": True}]
    assert (said["rationale"], said["rater"]) == ("because", rater_ids(judged)[first.rater_id])
    assert found[5]["supersedes"] == said["judgment"]
    assert found[5]["item"] == said["item"] != found[3]["item"]
    for name in (first.rater.user.username, first.rater.pseudonym):
        assert name not in json.dumps(found)
    assert all(list(row) == list(EXPORT_FORMATS["judgments"].columns) for row in found)


@pytest.mark.parametrize("file", FILE_KINDS)
@pytest.mark.parametrize("fmt", EXPORT_FORMATS)
def test_the_same_bytes_each_time_whatever_the_chunks(ranked, fmt, file, monkeypatch):
    first = whole(ranked, fmt, file=file)
    assert first
    assert whole(ranked, fmt, file=file) == first
    monkeypatch.setattr("training.services.raw.CHUNK", 1)
    monkeypatch.setattr("training.services.reading.CHUNK", 1)
    monkeypatch.setattr("training.services.encoding.BATCH", 1)
    assert whole(ranked, fmt, file=file) == first


@pytest.mark.parametrize("fmt", EXPORT_FORMATS)
def test_the_two_splits_make_the_whole(project, fmt):
    project.eval_percent = 50
    project.save()
    for n in range(20):
        make_judgment(make_item(project, 1 + n % 2))
        rank(make_item(project, 3))
    parts = [set(whole(project, fmt, split=split).splitlines()) for split in ("train", "eval")]
    assert parts[0] | parts[1] == set(whole(project, fmt).splitlines())
    assert all(parts)


@pytest.mark.parametrize("fmt", EXPORT_FORMATS)
def test_a_snapshot_gives_the_same_bytes_whatever_comes_later(ranked, fmt):
    snapshot = freeze_snapshot(ranked)
    first = whole(ranked, fmt, snapshot=snapshot)
    if fmt != "judgments":  # of these a snapshot holds what gave rows, an export of today everything
        assert sorted(first.splitlines()) == sorted(whole(ranked, fmt).splitlines())
    old = Judgment.objects.filter(choice="b").get()
    Judgment.objects.create(
        item=old.item,
        rater=old.rater,
        supersedes=old,
        idempotency_key=uuid.uuid4(),
        choice="tie",
        judged_at=timezone.now(),
    )
    rank(make_item(ranked, 4))
    make_judgment(make_item(ranked, 1), value=1)
    assert whole(ranked, fmt) != first
    assert whole(ranked, fmt, snapshot=snapshot) == first


@pytest.mark.parametrize("file", FILE_KINDS)
@pytest.mark.parametrize("fmt", ["trl-preference", "judgments"])
def test_nothing_is_read_before_the_first_piece_is_asked_for(ranked, fmt, file, django_assert_num_queries):
    with django_assert_num_queries(0):
        pieces = iter_export(Export(ranked, fmt, file=file))
    assert next(iter(pieces))


def test_a_raters_id_is_stable_and_an_imported_one_is_kept(judged):
    here = rater_id(judged, "R-AAAAAA", "")
    assert here == rater_id(judged, "R-AAAAAA", "anna@example.org") != rater_id(judged, "R-BBBBBB", "")
    assert rater_id(judged, "R-CCCCCC", here) == here


def test_gzip_is_the_same_lines_without_a_time(judged):
    packed = whole(judged, "trl-preference", compressed=True)
    assert gzip.decompress(packed) == whole(judged, "trl-preference")
    assert packed[4:8] == bytes(4)


def test_unknown_words_are_refused_at_once(project):
    with pytest.raises(ExportError, match="format: “csv” is unknown; use one of trl-preference"):
        Export(project, "csv")
    with pytest.raises(ExportError, match="use one of train, eval, or leave it out"):
        Export(project, "sft", split="test")
    with pytest.raises(ExportError, match="file: “xlsx” is unknown; use one of jsonl, csv, parquet"):
        Export(project, "sft", file="xlsx")


def test_an_export_of_a_snapshot_whose_files_are_gone_is_refused(judged):
    snapshot = freeze_snapshot(judged)
    (snapshot.directory / "sft.eval.jsonl").unlink()
    with pytest.raises(ExportError, match=r"sft\.eval\.jsonl is gone from the disk"):
        Export(judged, "sft", snapshot=snapshot)


def test_command_writes_the_file_whole(judged, tmp_path, capsys):
    path = tmp_path / "out.jsonl"
    call_command("export_data", project="demo", format="trl-preference", out=str(path))
    assert path.read_bytes() == whole(judged, "trl-preference")
    assert f"{path.stat().st_size} bytes written" in capsys.readouterr().out
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
    assert capfdbinary.readouterr().out == whole(judged, "sft")


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
