"""Model versions: base models from outside, and what runs make."""

import hashlib
import json

import pytest

from rating.models import ModelVersion
from tests.factories import make_model_version, make_project
from tests.training.conftest import write_model
from training.services.runs import queue_run
from training.services.versions import (
    VersionError,
    add_base_version,
    describe_output,
    register_version,
    user_model,
)


def test_a_directory_becomes_a_version(project, tmp_path):
    directory = write_model(tmp_path / "model")
    (directory / "pytorch_model.bin").write_text("a pickle beside the safetensors is left alone")
    version = add_base_version(project, " base ", str(directory))
    assert (version.name, version.kind, version.base) == ("base", ModelVersion.Kind.POLICY, str(directory))
    assert set(version.files) == {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}
    assert version.files["model.safetensors"] == hashlib.sha256(b"weights").hexdigest()
    assert version.chat_template_hash == hashlib.sha256(b"{{ messages }}").hexdigest()
    assert len(version.tokenizer_hash) == 64


def test_a_chat_template_in_the_configuration_counts_too(project, tmp_path):
    directory = write_model(tmp_path / "model")
    (directory / "chat_template.jinja").unlink()
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    version = add_base_version(project, "base", str(directory))
    assert version.chat_template_hash == hashlib.sha256(b"{{ messages }}").hexdigest()


def test_a_hub_id_is_taken_as_it_is(project):
    version = add_base_version(project, "hub", "owner/a-model_1.5")
    assert (version.base, version.files, version.tokenizer_hash) == ("owner/a-model_1.5", {}, "")


@pytest.mark.parametrize(
    ("without", "extra", "words"),
    [
        ("config.json", None, "has no config.json"),
        ("model.safetensors", None, "it has no .safetensors file"),
        ("model.safetensors", "pytorch_model.bin", "pickles, which can run code"),
        ("tokenizer.json", None, "has no tokenizer"),
    ],
)
def test_a_directory_that_is_no_whole_model_is_refused(project, tmp_path, without, extra, words):
    directory = write_model(tmp_path / "model")
    (directory / without).unlink()
    if extra:
        (directory / extra).write_text("")
    with pytest.raises(VersionError, match=words) as caught:
        add_base_version(project, "base", str(directory))
    assert caught.value.field == "base"
    assert not ModelVersion.objects.exists()


@pytest.mark.parametrize(
    ("name", "base", "field"),
    [
        ("", "owner/name", "name"),
        ("x" * 121, "owner/name", "name"),
        ("nul \x00", "owner/name", "name"),
        ("base", "/nowhere/at/all", "base"),
        ("base", "name-without-owner", "base"),
        ("base", "owner/name\x00", "base"),
        ("base", "https://hub.example/owner/name", "base"),
        ("base", "o/" + "x" * 600, "base"),
        ("base", "/" + "x" * 400, "base"),
        ("base", "~no-such-account/model", "base"),
    ],
)
def test_bad_names_and_places_are_refused(project, name, base, field):
    with pytest.raises(VersionError) as caught:
        add_base_version(project, name, base)
    assert caught.value.field == field
    assert not ModelVersion.objects.exists()


def test_names_are_unique_within_a_project(project):
    add_base_version(project, "base", "owner/name")
    with pytest.raises(VersionError, match="already a model version"):
        add_base_version(project, "base", "owner/other")
    add_base_version(make_project(), "base", "owner/name")


def test_what_a_run_made(project, present, snapshot):
    run = queue_run(project, "reward", {}, snapshot=snapshot)
    result = {"status": "succeeded", "kind": "reward", "model": "output"}
    with pytest.raises(VersionError, match="no such directory"):
        describe_output(run, result)
    output = write_model(run.directory / "output", weights="scores")
    make_model_version(project, "reward-1")
    version = register_version(run, result, describe_output(run, result))
    assert (version.name, version.kind, version.parent) == ("reward-1-2", ModelVersion.Kind.REWARD, present)
    assert version.base == str(output)
    assert version.files["model.safetensors"] == hashlib.sha256(b"scores").hexdigest()


def test_no_user_model_before_the_first_promotion(project, base):
    assert user_model(project) is None
