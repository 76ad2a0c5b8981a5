"""Frozen, hashed, split: and nothing left behind by a failure."""

import hashlib
import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError

from rating.models import Item, Judgment, Prompt
from rating.services.imports import import_file
from tests.factories import make_item, make_judgment, make_project, make_prompt, make_user
from tests.rating.imports import HH
from training.models import DatasetSnapshot, SnapshotJudgment
from training.recipes.data import read_demonstrations, read_preferences, read_prompts
from training.services.queries import SnapshotQuery
from training.services.snapshots import (
    DATA_FILES,
    QUERY,
    SnapshotError,
    freeze_snapshot,
    query_of,
    read_manifest,
    snapshot_files_ok,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def own_directory(settings, tmp_path) -> Path:
    settings.SNAPSHOTS_DIR = tmp_path / "snapshots"
    return settings.SNAPSHOTS_DIR


def judge_some(project, n: int = 30) -> list[Judgment]:
    """Judgments of different prompts: with 30 of them and half held out, both splits have some."""
    project.eval_percent = 50
    project.save()
    return [
        make_judgment(make_item(project, prompt=make_prompt(project, f"Prompt {i}"), texts=["x", "y"]))
        for i in range(n)
    ]


def lines(snapshot, name: str) -> list[dict]:
    return [json.loads(line) for line in (snapshot.directory / name).read_bytes().splitlines()]


def entries(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*")) if directory.exists() else []


def test_a_snapshot_holds_what_its_manifest_says(project):
    judgments = judge_some(project)
    tie = make_judgment(make_item(project), choice="tie")
    make_judgment(make_item(project, purpose=Item.Purpose.EVALUATE))
    user = make_user("somebody")
    snapshot = freeze_snapshot(project, user=user)
    manifest = read_manifest(snapshot)
    assert snapshot.number == 1
    assert snapshot.created_by == user
    assert entries(snapshot.directory) == sorted([*DATA_FILES, QUERY, "manifest.json"])
    assert manifest["project"] == "demo"
    assert manifest["content_hash"] == snapshot.content_hash
    assert manifest["split_rule"]["eval_percent"] == 50
    assert manifest["left_out"] == snapshot.counts["left_out"] == {"evaluation": 1, "tie": 1}
    assert manifest["guidelines"] == [1]
    assert set(manifest["raters"]) == {judgment.rater.pseudonym for judgment in judgments}
    for name, told in manifest["files"].items():
        data = (snapshot.directory / name).read_bytes()
        assert told["sha256"] == hashlib.sha256(data).hexdigest()
        if name != QUERY:
            assert told["rows"] == snapshot.counts["rows"][name] == data.count(b"\n")
    named = manifest["judgments"]["train"] + manifest["judgments"]["eval"]
    assert sorted(named) == sorted(str(judgment.public_id) for judgment in judgments)
    assert str(tie.public_id) not in named
    assert set(snapshot.judgments.values_list("pk", flat=True)) == {j.pk for j in judgments}


def test_no_prompt_is_on_both_sides(project):
    judge_some(project)
    snapshot = freeze_snapshot(project)
    split_of = {prompt.text_hash: prompt.split for prompt in Prompt.objects.all()}
    for kind in ("preference", "sft"):
        sides = [
            {json.dumps(row["prompt"]) for row in lines(snapshot, f"{kind}.{split}.jsonl")}
            for split in ("train", "eval")
        ]
        assert all(sides)
        assert not sides[0] & sides[1]
    for split in ("train", "eval"):
        assert {split_of[row["id"]] for row in lines(snapshot, f"prompts.{split}.jsonl")} == {split}


def test_a_held_out_prompt_is_held_out_in_every_snapshot(project):
    """Whatever is asked, comes later or is set anew: the evaluation part never moves."""
    judgments = judge_some(project)
    snapshots = [freeze_snapshot(project)]
    project.eval_percent = 5
    project.save()
    for number in range(30, 40):
        make_judgment(make_item(project, prompt=make_prompt(project, f"Prompt {number}"), texts=["x", "y"]))
    rater = judgments[0].rater.pseudonym
    for query in (SnapshotQuery(), SnapshotQuery(rows="soft", ties="keep", without_raters=(rater,))):
        snapshots.append(freeze_snapshot(project, query))
    sides = {
        split: {
            json.dumps(row["prompt"])
            for snapshot in snapshots
            for kind in ("preference", "sft", "prompts")
            for row in lines(snapshot, f"{kind}.{split}.jsonl")
        }
        for split in ("train", "eval")
    }
    assert all(sides.values())
    assert not sides["train"] & sides["eval"]


def test_the_recipes_read_the_files(project):
    judge_some(project)
    snapshot = freeze_snapshot(project)
    for split in ("train", "eval"):
        pairs = read_preferences(snapshot.directory / f"preference.{split}.jsonl")
        assert len(pairs) == snapshot.counts["rows"][f"preference.{split}.jsonl"]
        assert pairs[0].margin is None
        assert read_demonstrations(snapshot.directory / f"sft.{split}.jsonl")
        assert read_prompts(snapshot.directory / f"prompts.{split}.jsonl")


def test_the_same_content_is_frozen_once(project):
    judge_some(project)
    first = freeze_snapshot(project)
    assert freeze_snapshot(project) == first
    make_judgment(make_item(project), choice="tie")
    Item.objects.all().update(priority=3)
    third = freeze_snapshot(project)
    assert third.number == 2, "a new prompt is new content"
    make_judgment(make_item(project, prompt=make_prompt(project, "Prompt 1"), texts=["n", "m"]))
    fourth = freeze_snapshot(project)
    assert [s.number for s in DatasetSnapshot.objects.all()] == [3, 2, 1]
    assert len({first.content_hash, third.content_hash, fourth.content_hash}) == 3
    assert snapshot_files_ok(first)


def test_numbers_count_per_project(project):
    other = make_project()
    for one in (project, other):
        judge_some(one)
        assert freeze_snapshot(one).number == 1


def test_nothing_to_freeze_is_said(project, own_directory):
    with pytest.raises(SnapshotError, match="Rate some items first"):
        freeze_snapshot(project)
    make_judgment(make_item(project), choice="tie")
    with pytest.raises(SnapshotError, match="1 × both equally good"):
        freeze_snapshot(project)
    Prompt.objects.all().update(split="eval")
    make_judgment(make_item(project, prompt=Prompt.objects.first()))
    with pytest.raises(SnapshotError, match="all 1 judgments are of prompts held out"):
        freeze_snapshot(project)
    assert DatasetSnapshot.objects.count() == 0
    assert entries(own_directory) == ["demo"]


def test_a_failure_leaves_neither_files_nor_rows(project, own_directory, monkeypatch):
    judge_some(project)

    def fail(*args, **kwargs):
        raise DatabaseError("no")

    monkeypatch.setattr("training.services.snapshots.insert_rows", fail)
    with pytest.raises(DatabaseError):
        freeze_snapshot(project)
    assert entries(own_directory) == ["demo"]
    assert (DatasetSnapshot.objects.count(), SnapshotJudgment.objects.count()) == (0, 0)


def test_a_failure_after_the_move_takes_the_files_back(project, own_directory, monkeypatch):
    judge_some(project)
    calls = []

    def fail_late(directory):
        calls.append(directory)
        if len(calls) == 2:
            raise OSError("disk")

    monkeypatch.setattr("training.services.snapshots.sync_directory", fail_late)
    with pytest.raises(OSError, match="disk"):
        freeze_snapshot(project)
    assert entries(own_directory) == ["demo"]
    assert DatasetSnapshot.objects.count() == 0


def test_what_a_crash_before_the_commit_left_is_replaced(project):
    judge_some(project)
    snapshot = freeze_snapshot(project)
    SnapshotJudgment.objects.all().delete()
    snapshot.delete()
    (snapshot.directory / "manifest.json").write_text("half")
    again = freeze_snapshot(project)
    assert again.directory == snapshot.directory
    assert snapshot_files_ok(again)


@pytest.mark.parametrize("damage", ["changed", "gone", "manifest", "no manifest"])
def test_changed_files_are_noticed_and_frozen_anew(project, damage):
    judge_some(project)
    snapshot = freeze_snapshot(project)
    assert snapshot_files_ok(snapshot)
    path = snapshot.directory / ("manifest.json" if "manifest" in damage else "sft.train.jsonl")
    if damage in ("gone", "no manifest"):
        path.unlink()
    else:
        path.write_text("[]" if damage == "manifest" else path.read_text().replace("x", "z", 1))
    assert not snapshot_files_ok(snapshot)
    again = freeze_snapshot(project)
    assert (again.number, again.content_hash) == (2, snapshot.content_hash)
    assert snapshot_files_ok(again)


def test_command_prints_hash_and_counts(project, capsys):
    judge_some(project)
    call_command("freeze_snapshot", project="demo")
    snapshot = DatasetSnapshot.objects.get()
    out = capsys.readouterr().out
    assert snapshot.content_hash in out
    assert f"preference.train.jsonl: {snapshot.counts['rows']['preference.train.jsonl']} rows" in out
    call_command("freeze_snapshot", project="demo")
    assert "nothing has changed since" in capsys.readouterr().out


def test_the_commands_options_are_the_querys_choices(project, capsys):
    from training.management.commands.freeze_snapshot import OPTIONS

    assert set(OPTIONS) == set(SnapshotQuery.model_fields) - {"up_to", "prompts"}
    judge_some(project)
    rater = Judgment.objects.first().rater.pseudonym
    call_command("freeze_snapshot", project="demo", margin="small", min_agreement=0.5)
    call_command("freeze_snapshot", project="demo", like=1, without_raters=[rater])
    second = DatasetSnapshot.objects.get(number=2)
    assert query_of(second).choices == {
        "margin": "small",
        "min_agreement": 0.5,
        "without_raters": [rater],
    }
    with pytest.raises(CommandError, match=r"until: .* give a later day"):
        call_command("freeze_snapshot", project="demo", since="2026-02-02", until="2026-01-01")
    with pytest.raises(CommandError, match="demo has no snapshot 9"):
        call_command("freeze_snapshot", project="demo", like=9)


def test_command_refuses_in_words(project):
    with pytest.raises(CommandError, match="no project with the slug"):
        call_command("freeze_snapshot", project="nope")
    with pytest.raises(CommandError, match="nothing to freeze"):
        call_command("freeze_snapshot", project="demo")


@pytest.mark.skipif(not HH.is_dir(), reason="the HH-RLHF files are not on this machine")
def test_real_transcripts_are_frozen(project):
    with (HH / "helpful-online.test.jsonl.gz").open("rb") as file:
        import_file(project, file)
    snapshot = freeze_snapshot(project)
    rows = snapshot.counts["rows"]
    assert rows["preference.train.jsonl"] + rows["preference.eval.jsonl"] == 728
    assert rows["preference.eval.jsonl"] > 30
    assert (
        len(read_preferences(snapshot.directory / "preference.train.jsonl")) == rows["preference.train.jsonl"]
    )
