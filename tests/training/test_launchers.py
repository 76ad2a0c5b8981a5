"""The local launcher: a child with its own small environment that dies with its parent."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.conf import settings as site

from training.launchers.base import LaunchError
from training.launchers.local import LocalLauncher, child_environment
from training.recipes.spec import parse_spec
from training.services.rundirs import DirectoryBusyError, lock_directory

SPEC = {
    "recipe": "sample",
    "data": {"prompts": "data/prompts.jsonl"},
    "models": {"policy": "models/policy"},
    "threads": 1,
}


def make_run(directory: Path, **fields: object):
    """A run directory without data: the recipe starts, and fails because of that."""
    directory.mkdir(parents=True)
    spec = parse_spec({**SPEC, **fields})
    (directory / "spec.json").write_text(spec.model_dump_json())
    return spec


def wait(handle, seconds: float = 60.0) -> int:
    deadline = time.monotonic() + seconds
    while (status := handle.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return status


@pytest.mark.recipes
def test_the_recipe_is_started_and_its_words_are_logged(tmp_path):
    run_dir = tmp_path / "run"
    spec = make_run(run_dir)
    (run_dir / "log.txt").write_text("an earlier attempt\n")
    with lock_directory(run_dir) as lock:
        status = wait(LocalLauncher().launch(run_dir, spec, lock=lock))
    assert status == 1
    result = json.loads((run_dir / "result.json").read_text())
    assert (result["status"], result["error"]["code"]) == ("failed", "bad_data")
    log = (run_dir / "log.txt").read_text()
    assert log.startswith("an earlier attempt\n")
    assert "prompts.jsonl" in log


@pytest.mark.recipes
def test_files_in_the_run_directory_are_never_imported(tmp_path):
    run_dir = tmp_path / "run"
    spec = make_run(run_dir)
    for name in ("json", "platform", "training"):
        (run_dir / f"{name}.py").write_text("raise SystemExit('imported from the run directory')")
    with lock_directory(run_dir) as lock:
        wait(LocalLauncher().launch(run_dir, spec, lock=lock))
    assert json.loads((run_dir / "result.json").read_text())["error"]["code"] == "bad_data"


def test_secrets_stay_behind(tmp_path, monkeypatch):
    for name in ("SECRET_KEY", "DATABASE_URL", "EMAIL_URL", "RATCHET_HOME", "HF_TOKEN", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, "secret")
    spec = make_run(tmp_path / "run")
    (tmp_path / "run" / "models" / "policy").mkdir(parents=True)
    environment = child_environment(tmp_path / "run", spec)
    assert "secret" not in environment.values()
    assert environment["RATCHET_DIE_WITH_PARENT"] == str(os.getpid())
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["HF_HUB_DISABLE_TELEMETRY"] == environment["HF_HUB_OFFLINE"] == "1"
    assert environment["PYTHONPATH"] == str(site.BASE_DIR)
    assert environment["RATCHET_REFERENCE_CACHE"] == str(site.REFERENCE_CACHE_DIR)


@pytest.mark.parametrize("field", ["models", "reward_model", "reference"])
def test_a_hub_model_goes_online(tmp_path, monkeypatch, field):
    monkeypatch.setenv("HF_TOKEN", "token")
    value = {"policy": "owner/name"} if field == "models" else "owner/name"
    spec = make_run(tmp_path / "run", **{field: value})
    (tmp_path / "run" / "models" / "policy").mkdir(parents=True)
    environment = child_environment(tmp_path / "run", spec)
    assert "HF_HUB_OFFLINE" not in environment
    assert environment["HF_TOKEN"] == "token"


def test_a_directory_of_the_run_is_no_hub_model(tmp_path):
    spec = make_run(tmp_path / "run")
    (tmp_path / "run" / "models" / "policy").mkdir(parents=True)
    assert child_environment(tmp_path / "run", spec)["HF_HUB_OFFLINE"] == "1"


def test_what_cannot_be_started_says_why(tmp_path, monkeypatch):
    spec = make_run(tmp_path / "run")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with lock_directory(tmp_path / "run") as lock, pytest.raises(LaunchError, match="could not be started"):
        LocalLauncher().launch(tmp_path / "run", spec, lock=lock)


def test_killing_ends_it_at_once(tmp_path):
    spec = make_run(tmp_path / "run")
    with lock_directory(tmp_path / "run") as lock:
        handle = LocalLauncher().launch(tmp_path / "run", spec, lock=lock)
        handle.kill()
        assert handle.poll() == -signal.SIGKILL
        handle.kill()


def test_the_directory_is_locked_as_long_as_the_process_lives(tmp_path, monkeypatch):
    monkeypatch.setattr("training.services.rundirs.LOCK_SECONDS", 0.0)
    with lock_directory(tmp_path) as lock:
        process = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))
    with pytest.raises(DirectoryBusyError), lock_directory(tmp_path):
        pass
    process.kill()
    process.wait()
    with lock_directory(tmp_path):
        pass
