"""A real trainer and a real recipe, killed in the middle: the run ends with the same weights, bit for bit."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.conf import settings as site
from django.db import connection

from rating.models import Project
from tests.recipes.conftest import tiny_model  # noqa: F401
from tests.training.conftest import judge_pairs
from training.models import TrainingRun
from training.services.files import hash_file
from training.services.promotions import promote_version
from training.services.runs import queue_run
from training.services.snapshots import freeze_snapshot
from training.services.versions import add_base_version
from training.services.workers import trainer_status

STEPS = 60
SETTINGS = {
    "max_steps": STEPS,
    "save_every": 10,
    "batch_size": 4,
    "max_length": 96,
    "learning_rate": 1e-3,
    "train": {"kind": "lora", "r": 4},
    "probes": None,
}


@pytest.fixture
def trainer_environment(threaded_db, home) -> dict[str, str]:
    """What a trainer process needs to work on this test's database and home."""
    home.mkdir(parents=True, exist_ok=True)
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        address = f"sqlite:///{database['NAME']}"
    else:
        server = f"{database['USER']}@{database['HOST']}:{database['PORT'] or 5432}"
        address = f"postgresql://{server}/{database['NAME']}"
    return {
        "PATH": os.environ["PATH"],
        "SECRET_KEY": "x" * 50,
        "DATABASE_URL": address,
        "RATCHET_HOME": str(home),
        "RATCHET_TRAINING_THREADS": "1",
    }


def start_trainer(environment: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "manage.py", "trainer", "--poll", "0.1", *arguments]
    return subprocess.Popen(command, cwd=site.BASE_DIR, env=environment, start_new_session=True)


def finish_all(environment: dict[str, str]) -> None:
    """Let a trainer work until the queue is empty."""
    assert start_trainer(environment, "--once").wait(timeout=240) == 0


def reached(run: TrainingRun, event: str, step: int) -> bool:
    path = run.directory / "events.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    rows = map(json.loads, lines)
    return any(row["event"] == event and row.get("step", -1) >= step for row in rows)


def wait_for_step(run: TrainingRun, trainer: subprocess.Popen[bytes], checkpoint: int, step: int) -> None:
    deadline = time.monotonic() + 120
    while not (reached(run, "checkpoint", checkpoint) and reached(run, "progress", step)):
        assert trainer.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


def child_of(pid: int) -> int:
    """The process id of the trainer's only child."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while (
        Path(f"/proc/{pid}/stat").exists()
        and "Z" not in Path(f"/proc/{pid}/stat").read_text().split(") ")[1][:1]
    ):
        assert time.monotonic() < deadline, "the child outlived its trainer"
        time.sleep(0.01)


def kill_trainer(trainer: subprocess.Popen[bytes]) -> None:
    """kill -9 on the trainer; its child is killed with it."""
    child = child_of(trainer.pid)
    trainer.kill()
    trainer.wait()
    wait_until_gone(child)


def stop_trainer(trainer: subprocess.Popen[bytes]) -> None:
    """SIGTERM, as `manage.py up` sends it."""
    trainer.terminate()
    assert trainer.wait(timeout=8) == 0


@pytest.mark.recipes
@pytest.mark.parametrize("end", [kill_trainer, stop_trainer])
def test_an_interrupted_run_ends_with_identical_weights(
    trainer_environment,
    tiny_model,  # noqa: F811
    end,
):
    project = Project.objects.create(slug="resumed", name="Resumed", eval_percent=0)
    promote_version(project, add_base_version(project, "base", str(tiny_model)), user=None, collect=0)
    judge_pairs(project, 24)
    snapshot = freeze_snapshot(project)
    undisturbed = queue_run(project, "dpo", SETTINGS, snapshot=snapshot)
    finish_all(trainer_environment)

    run = queue_run(project, "dpo", SETTINGS, snapshot=snapshot)
    trainer = start_trainer(trainer_environment)
    wait_for_step(run, trainer, checkpoint=20, step=24)
    end(trainer)
    run.refresh_from_db()
    assert run.attempt == 1
    assert run.state == (TrainingRun.State.QUEUED if end is stop_trainer else TrainingRun.State.RUNNING)
    assert not trainer_status().running
    assert (run.directory / "result.json").exists() == (end is stop_trainer)

    finish_all(trainer_environment)
    run.refresh_from_db()
    undisturbed.refresh_from_db()
    assert (undisturbed.state, undisturbed.attempt) == (TrainingRun.State.SUCCEEDED, 1)
    assert (run.state, run.attempt, run.step) == (TrainingRun.State.SUCCEEDED, 2, STEPS)
    resumed_from = run.events.filter(kind="started", attempt=2).get().data["resumed_from"]
    assert resumed_from >= 20
    weights = [hash_file(ended.directory / "output" / "model.safetensors") for ended in (undisturbed, run)]
    assert weights[0] == weights[1]
    assert run.model_version.files["model.safetensors"] == weights[0]
    assert weights[0] != hash_file(tiny_model / "model.safetensors")
