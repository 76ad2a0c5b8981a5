"""The folder for the Hub, and its upload."""

import gzip
import json
import sys
import types

import pytest
from django.core.management import CommandError, call_command

from tests.factories import make_item, make_judgment, make_prompt
from training.services.exports import Export, iter_export
from training.services.hub import HubError, push_folder, write_hub_folder
from training.services.snapshots import freeze_snapshot

pytestmark = pytest.mark.django_db


@pytest.fixture
def snapshot(project):
    """Pairs in both splits, ratings in none."""
    project.eval_percent = 50
    project.name = 'A "name"\nof two lines'
    project.save()
    for n in range(12):
        make_judgment(make_item(project, prompt=make_prompt(project, f"Prompt {n}")))
    return freeze_snapshot(project)


def test_the_folder_holds_each_format_and_a_card(snapshot, tmp_path):
    assert write_hub_folder(snapshot, tmp_path / "a") == [
        "trl-preference",
        "trl-reward",
        "trl-unpaired",
        "sft",
    ]
    for split, name in (("train", "train"), ("eval", "test")):
        packed = (tmp_path / "a" / "sft" / f"{name}.jsonl.gz").read_bytes()
        plain = b"".join(iter_export(Export(snapshot.project, "sft", split=split, snapshot=snapshot)))
        assert gzip.decompress(packed) == plain
    card = (tmp_path / "a" / "README.md").read_text()
    assert 'pretty_name: "A \\"name\\"\\nof two lines"' in card
    assert '# A "name" of two lines\n' in card
    assert "- config_name: trl-preference\n  default: true\n  data_files:\n  - split: train\n" in card
    assert "    path: sft/test.jsonl.gz" in card
    assert snapshot.content_hash in card
    assert "No two raters judged the same pair" in card
    write_hub_folder(snapshot, tmp_path / "b")
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_a_folder_is_never_written_over(snapshot, tmp_path):
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(HubError, match="is not empty"):
        write_hub_folder(snapshot, tmp_path)
    with pytest.raises(HubError, match="has no rows for rating"):
        write_hub_folder(snapshot, tmp_path / "new", formats=("rating",))


def test_without_a_token_nothing_is_uploaded(settings, tmp_path):
    settings.HF_TOKEN = ""
    with pytest.raises(HubError, match="HF_TOKEN is not set"):
        push_folder(tmp_path, "owner/name")


class FakeApi:
    """Remembers what it was asked."""

    asked: list

    def __init__(self, token: str) -> None:
        FakeApi.asked = [token]

    def create_repo(self, name: str, **options):
        if name == "no":
            raise ValueError("a name has an owner")
        self.asked.append((name, options["private"], options["repo_type"]))
        return f"https://hub.example/datasets/{name}"

    def upload_folder(self, **options) -> None:
        self.asked.append((options["folder_path"], options["repo_id"], options["repo_type"]))


@pytest.fixture
def hub(settings, monkeypatch):
    """A Hub that takes everything."""
    settings.HF_TOKEN = "secret"
    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(HfApi=FakeApi))
    monkeypatch.setitem(sys.modules, "httpx", types.SimpleNamespace(HTTPError=RuntimeError))


def test_command_writes_and_uploads(snapshot, hub, tmp_path, capsys):
    folder = tmp_path / "folder"
    options = {"project": "demo", "snapshot": 1, "out": str(folder)}
    call_command("export_hub", push="owner/name", formats=["sft"], **options)
    assert FakeApi.asked == ["secret", ("owner/name", True, "dataset"), (folder, "owner/name", "dataset")]
    assert "https://hub.example/datasets/owner/name" in capsys.readouterr().out
    assert json.loads(gzip.decompress((folder / "sft/train.jsonl.gz").read_bytes()).splitlines()[0])
    with pytest.raises(CommandError, match="is not empty"):
        call_command("export_hub", **options)
    with pytest.raises(CommandError, match="demo has no snapshot 2"):
        call_command("export_hub", **(options | {"snapshot": 2}))


def test_what_the_hub_refuses_is_said(hub, tmp_path):
    with pytest.raises(HubError, match="The Hub refused no: a name has an owner"):
        push_folder(tmp_path, "no")


@pytest.mark.recipes
@pytest.mark.parametrize("file", ["jsonl", "parquet"])
def test_datasets_loads_the_folder_by_its_card(snapshot, tmp_path, file):
    datasets = pytest.importorskip("datasets")
    write_hub_folder(snapshot, tmp_path / "folder", formats=("trl-reward", "sft"), file=file)
    loaded = datasets.load_dataset(str(tmp_path / "folder"), "trl-reward", cache_dir=str(tmp_path / "cache"))
    rows = snapshot.counts["rows"]
    assert loaded["train"].num_rows == rows["preference.train.jsonl"]
    assert loaded["test"].num_rows == rows["preference.eval.jsonl"]
    assert loaded["test"][0]["soft_label"] == 1.0
