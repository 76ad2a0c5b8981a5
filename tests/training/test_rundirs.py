"""Run directories: what is in them, what is checked, what happens again."""

import errno
import json
import os
from pathlib import Path

import pytest

from rating.models import ModelVersion
from tests.factories import make_model_version, make_prompt
from tests.training.conftest import write_model
from training.launchers.local import names_hub_model
from training.models import Evaluation, TrainingRun
from training.recipes.spec import RECIPES
from training.services.evaluations import start_evaluation
from training.services.files import hash_file, link_or_copy
from training.services.model_files import PrepareError
from training.services.rundirs import prepare_run_directory
from training.services.runs import needs_reward_model, queue_run
from training.services.versions import add_base_version, register_version


def add_reward_model(project, tmp_path, name="scorer") -> ModelVersion:
    """A reward model from outside."""
    directory = write_model(tmp_path / name, weights=name)
    return add_base_version(project, name, str(directory), kind=ModelVersion.Kind.REWARD)


def test_a_dpo_run(project, present, snapshot):
    run = queue_run(project, "dpo", {"beta": 0.3, "probes": {"count": 2}}, snapshot=snapshot)
    spec = prepare_run_directory(run)
    assert json.loads((run.directory / "spec.json").read_text()) == spec.model_dump(mode="json")
    assert (spec.recipe, spec.beta, spec.threads, spec.model) == ("dpo", 0.3, 1, "models/policy")
    assert (spec.data.train, spec.data.eval) == ("data/preference.train.jsonl", "data/preference.eval.jsonl")
    assert (spec.probes.prompts, spec.probes.count) == ("data/probes.jsonl", 2)
    frozen = snapshot.directory / "preference.train.jsonl"
    assert (run.directory / spec.data.train).read_bytes() == frozen.read_bytes()
    assert (run.directory / "models/policy/model.safetensors").read_text() == "weights"
    probes = [json.loads(line) for line in (run.directory / "data/probes.jsonl").read_text().splitlines()]
    assert [row["id"] for row in probes] == sorted(row["id"] for row in probes)


@pytest.mark.parametrize("recipe", sorted({*RECIPES} - {"reward_rating"}))
def test_every_recipe_can_be_prepared(project, present, snapshot, tmp_path, recipe):
    add_reward_model(project, tmp_path)
    run = queue_run(project, recipe, {}, snapshot=snapshot)
    spec = prepare_run_directory(run)
    assert spec.recipe == recipe
    files = {
        path.relative_to(run.directory).as_posix() for path in run.directory.rglob("*") if path.is_file()
    }
    named = [value for value in spec.data.model_dump().values() if value]
    assert set(named) <= files
    assert "models/policy/model.safetensors" in files
    assert ("models/reward/model.safetensors" in files) == (recipe == "sample" or needs_reward_model(recipe))


def test_probes_can_be_switched_off(project, present, snapshot):
    run = queue_run(project, "dpo", {"probes": None}, snapshot=snapshot)
    assert prepare_run_directory(run).probes is None


def test_ppo_gets_demonstrations_to_go_on_imitating(project, present, snapshot, tmp_path):
    add_reward_model(project, tmp_path)
    run = queue_run(project, "ppo", {"pretraining": {"weight": 0.5}}, snapshot=snapshot)
    part = prepare_run_directory(run).pretraining
    assert (part.file, part.weight, part.batch_size) == ("data/sft.train.jsonl", 0.5, 8)
    assert (run.directory / part.file).read_bytes() == (snapshot.directory / "sft.train.jsonl").read_bytes()


def test_a_shared_backbone_gets_the_reward_models_adapter(project, present, snapshot, tmp_path):
    version = add_reward_model(project, tmp_path)
    run = queue_run(project, "ppo", {"backbone": "shared"}, snapshot=snapshot)
    with pytest.raises(PrepareError, match="has no adapter"):
        prepare_run_directory(run)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "scorer/adapter").mkdir(exist_ok=True)
        (tmp_path / "scorer/adapter" / name).write_text(f"{version.name} {name}")
    assert prepare_run_directory(run).backbone == "shared"
    placed = run.directory / "models/reward/adapter/adapter_config.json"
    assert placed.read_text() == "scorer adapter_config.json"


def test_a_rejection_run_goes_on_from_the_best_of_the_last_one(project, present, snapshot, tmp_path):
    add_reward_model(project, tmp_path)
    first = queue_run(project, "rejection", {}, snapshot=snapshot)
    assert prepare_run_directory(first).kept is None
    (first.directory / "best.jsonl").write_text("{}\n")
    TrainingRun.objects.filter(pk=first.pk).update(state="succeeded")
    second = queue_run(project, "rejection", {}, snapshot=snapshot)
    spec = prepare_run_directory(second)
    assert (spec.kept, (second.directory / spec.kept).read_text()) == ("data/kept.jsonl", "{}\n")


def test_preparing_again_changes_nothing(project, present, snapshot):
    run = queue_run(project, "dpo", {}, snapshot=snapshot)
    first = prepare_run_directory(run)
    files = {path: path.stat().st_mtime_ns for path in run.directory.rglob("*")}
    TrainingRun.objects.filter(pk=run.pk).update(settings={"beta": 3})
    run.refresh_from_db()
    assert prepare_run_directory(run) == first
    assert {path: path.stat().st_mtime_ns for path in run.directory.rglob("*")} == files


def test_a_preparation_that_was_cut_short_starts_over(project, present, snapshot):
    run = queue_run(project, "dpo", {}, snapshot=snapshot)
    prepare_run_directory(run)
    (run.directory / "spec.json").unlink()
    (run.directory / "models/policy/config.json.tmp").write_text("half")
    (run.directory / "models/policy/tokenizer.json").unlink()
    prepare_run_directory(run)
    assert (run.directory / "models/policy/tokenizer.json").exists()
    assert not list(run.directory.rglob("*.tmp"))


def test_a_changed_snapshot_is_refused(project, present, snapshot):
    run = queue_run(project, "dpo", {}, snapshot=snapshot)
    path = snapshot.directory / "preference.train.jsonl"
    path.write_bytes(path.read_bytes() + b"{}\n")
    with pytest.raises(PrepareError, match="is not what was frozen") as caught:
        prepare_run_directory(run)
    assert caught.value.code == "bad_data"
    assert not (run.directory / "spec.json").exists()
    path.unlink()
    with pytest.raises(PrepareError, match="is missing"):
        prepare_run_directory(run)
    manifest = snapshot.directory / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"sha256": "', '"sha256": "0'))
    with pytest.raises(PrepareError, match="manifest is not the one that was frozen"):
        prepare_run_directory(run)
    manifest.write_text("[]")
    with pytest.raises(PrepareError, match="is damaged"):
        prepare_run_directory(run)


def test_a_missing_or_changed_model_is_refused(project, present, snapshot, tmp_path):
    run = queue_run(project, "dpo", {}, snapshot=snapshot)
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_text("other weights")
    with pytest.raises(PrepareError, match="is not what it was") as caught:
        prepare_run_directory(run)
    assert caught.value.code == "bad_model"
    weights.unlink()
    with pytest.raises(PrepareError, match=r"model\.safetensors is missing"):
        prepare_run_directory(run)
    (tmp_path / "model").rename(tmp_path / "gone")
    with pytest.raises(PrepareError, match="The directory of base is missing"):
        prepare_run_directory(run)


def write_adapter(directory: Path) -> Path:
    """A directory that looks like an adapter."""
    directory.mkdir()
    (directory / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/name"}))
    (directory / "adapter_model.safetensors").write_text("small weights")
    (directory / "tokenizer.json").write_text('{"model": "bytes"}')
    return directory


def test_an_adapter_comes_with_its_base(project, present, snapshot, tmp_path):
    """Both are checked against their hashes; the next run's output is registered over the same base."""
    adapter = write_adapter(tmp_path / "adapter")
    files = {path.name: hash_file(path) for path in adapter.iterdir()}
    version = make_model_version(project, base=present.base, adapter=str(adapter), files=files)
    run = queue_run(project, "dpo", {}, snapshot=snapshot, policy=version)
    assert prepare_run_directory(run).model == "models/policy"
    placed = run.directory / "models/policy"
    assert {path.name for path in placed.iterdir()} == {*files, "base"}
    assert {path.name for path in (placed / "base").iterdir()} == set(present.files)
    write_adapter(run.directory / "output")
    made = register_version(run, {"model": "output", "kind": "policy"})
    assert (made.base, made.adapter) == (present.base, str(run.directory / "output"))
    assert set(made.files) == set(files)
    (Path(present.base) / "config.json").write_text("{}")
    again = queue_run(project, "dpo", {}, snapshot=snapshot, policy=version)
    with pytest.raises(PrepareError, match=r"config\.json is not what it was"):
        prepare_run_directory(again)


def test_an_adapter_over_a_hub_model_is_fetched_with_it(project, present, snapshot, tmp_path):
    version = make_model_version(project, base="owner/name", adapter=str(write_adapter(tmp_path / "adapter")))
    run = queue_run(project, "dpo", {}, snapshot=snapshot, policy=version)
    spec = prepare_run_directory(run)
    assert not (run.directory / "models/policy/base").exists()
    assert names_hub_model(run.directory, spec)


def test_a_missing_adapter_is_refused(project, present, snapshot):
    version = make_model_version(project, base=present.base, adapter="/somewhere")
    run = queue_run(project, "dpo", {}, snapshot=snapshot, policy=version)
    with pytest.raises(PrepareError, match=r"directory of .* is missing: /somewhere"):
        prepare_run_directory(run)


def test_a_hub_id_is_passed_on(project, present, snapshot):
    version = make_model_version(project, base="owner/name")
    run = queue_run(project, "dpo", {}, snapshot=snapshot, policy=version)
    assert prepare_run_directory(run).model == "owner/name"


def test_a_chain_hands_its_models_on(project, present, snapshot, tmp_path):
    add_reward_model(project, tmp_path, "old-scorer")
    reward = queue_run(project, "reward", {}, snapshot=snapshot)
    dpo = queue_run(project, "dpo", {}, snapshot=snapshot, after=reward)
    ppo = queue_run(project, "ppo", {}, snapshot=snapshot, after=dpo)
    reward.model_version = add_reward_model(project, tmp_path, "made-by-the-chain")
    dpo.model_version = add_base_version(project, "made", str(write_model(tmp_path / "made", weights="made")))
    reward.save()
    dpo.save()
    add_reward_model(project, tmp_path, "newer-scorer")
    ppo = TrainingRun.objects.get(pk=ppo.pk)
    prepare_run_directory(ppo)
    assert (ppo.directory / "models/reward/model.safetensors").read_text() == "made-by-the-chain"
    assert (ppo.directory / "models/policy/model.safetensors").read_text() == "made"
    ppo.refresh_from_db()
    assert ppo.policy == dpo.model_version


def test_an_evaluations_run(project, present, snapshot, tmp_path):
    grandchild = add_base_version(project, "grandchild", str(write_model(tmp_path / "b", weights="b")))
    child = add_base_version(project, "child", str(write_model(tmp_path / "c", weights="c")))
    child.parent, grandchild.parent = present, child
    child.save()
    grandchild.save()
    add_reward_model(project, tmp_path)
    for _ in range(20):
        make_prompt(project)
    evaluation = start_evaluation(project, grandchild, baseline=child, prompts=2)
    run = evaluation.sampling_run
    spec = prepare_run_directory(run)
    assert spec.models == {"candidate": "models/candidate", "baseline": "models/baseline"}
    assert (spec.reward_model, spec.reference) == ("models/reward", "models/reference")
    assert (run.directory / "models/candidate/model.safetensors").read_text() == "b"
    assert (run.directory / "models/reference/model.safetensors").read_text() == "weights"
    rows = [json.loads(line) for line in (run.directory / spec.data.prompts).read_text().splitlines()]
    assert len(rows) == 2
    held_out = set(project.prompts.filter(split="eval").values_list("text_hash", flat=True))
    assert {row["id"] for row in rows} <= held_out


def test_no_reference_between_different_tokenizers(project, present, snapshot, tmp_path):
    directory = write_model(tmp_path / "other")
    (directory / "tokenizer.json").write_text('{"model": "words"}')
    other = add_base_version(project, "other", str(directory))
    for _ in range(20):
        make_prompt(project)
    evaluation = start_evaluation(project, other)
    spec = prepare_run_directory(evaluation.sampling_run)
    assert (spec.reference, spec.reward_model) == (None, None)
    assert Evaluation.objects.count() == 1


def test_a_full_disk_is_named(project, present, snapshot, monkeypatch):
    run = queue_run(project, "dpo", {}, snapshot=snapshot)

    def no_space(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("training.services.files.os.link", no_space)
    with pytest.raises(PrepareError, match="free some space") as caught:
        prepare_run_directory(run)
    assert caught.value.code == "disk_full"


def test_another_file_system_gets_a_copy(tmp_path, monkeypatch):
    (tmp_path / "source").write_text("text")

    def across(source, target):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr("training.services.files.os.link", across)
    link_or_copy(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "text"
    assert (tmp_path / "target").stat().st_ino != (tmp_path / "source").stat().st_ino


def test_a_symlink_is_followed(tmp_path):
    (tmp_path / "blob").write_text("text")
    (tmp_path / "name").symlink_to(tmp_path / "blob")
    link_or_copy(tmp_path / "name", tmp_path / "target")
    assert not (tmp_path / "target").is_symlink()
    assert (tmp_path / "target").read_text() == "text"
