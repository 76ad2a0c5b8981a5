"""Runs that are killed, cancelled, moved to another place, or that fail: what is left, and what is said."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.recipes.conftest import (  # noqa: E402  # after importorskip
    Folder,
    assistant,
    child_environment,
    preference_rows,
    prompt_rows,
    write_reward_model,
)
from training.recipes.run import PARENT_VARIABLE  # noqa: E402

pytestmark = pytest.mark.recipes
ALL = {"kind": "all"}
STEPS = {"batch_size": 4, "max_steps": 60, "save_every": 10, "learning_rate": 0.003}
DATA = {"data": {"train": "data/train.jsonl"}}
PAIRS = {"data/train.jsonl": preference_rows(14)}
PPO = {
    "recipe": "ppo",
    "data": {"train": "data/train.jsonl"},
    "reward_model": "models/reward",
    "steps": 30,
    "rollout_batch_size": 8,
    "minibatch_size": 4,
    "ppo_epochs": 2,
    "max_new_tokens": 6,
    "learning_rate": 0.01,
    "value_learning_rate": 0.01,
    "save_every": 10,
    "kl_target": 1.0,
    "reward_scaling": "running",
    "alarm_window": 4,
    "terms": [{"rule": "repetition_penalty", "limit": 1}],
}


def digest(folder: Folder) -> str:
    return hashlib.sha256((folder.path / "output/model.safetensors").read_bytes()).hexdigest()


def check_resumes_exactly(calm: Folder, killed: Folder) -> None:
    """Beside an undisturbed run, one that is killed and started again ends with the same bits."""
    undisturbed = calm.start()
    killed.kill_after_checkpoint(10, 13)
    done = killed.run()
    assert done.returncode == 0, done.stderr
    assert undisturbed.wait() == 0
    assert killed.events("started")[-1]["resumed_from"] >= 10
    check_same_end(calm, killed)


def check_same_end(calm: Folder, killed: Folder) -> None:
    """The same weights and the same last metrics, and events that are numbered without a gap."""
    assert digest(killed) == digest(calm)
    assert [event["seq"] for event in killed.events()] == list(range(1, len(killed.events()) + 1))
    last = calm.result()["step"]
    timeless = {name: value for name, value in calm.values(last).items() if name != "tokens_per_second"}
    again = {name: value for name, value in killed.values(last).items() if name != "tokens_per_second"}
    assert again == timeless


def test_dpo_resumes_exactly_in_another_place(folder, tiny_model: Path) -> None:
    """The two directories name their model by a relative path and lie in different places."""
    spec = {
        "recipe": "dpo",
        **DATA,
        **STEPS,
        "model": "models/base",
        "train": {"kind": "lora", "r": 4, "dropout": 0.1},
    }
    calm, killed = folder("calm", spec, PAIRS), folder("elsewhere/killed", spec, PAIRS)
    for run in (calm, killed):
        shutil.copytree(tiny_model, run.path / "models/base")
    check_resumes_exactly(calm, killed)
    assert calm.result()["files"] == killed.result()["files"]


def test_reward_resumes_exactly(folder) -> None:
    spec = {"recipe": "reward", **DATA, **STEPS, "train": ALL, "gradient_accumulation": 2}
    check_resumes_exactly(folder("calm", spec, PAIRS), folder("killed", spec, PAIRS))


def test_ppo_resumes_exactly(folder, tiny_model: Path) -> None:
    files = {"data/train.jsonl": prompt_rows(5)}
    calm, killed = folder("calm", PPO, files), folder("killed", PPO, files)
    for run in (calm, killed):
        write_reward_model(run.path / "models/reward", tiny_model)
    check_resumes_exactly(calm, killed)


def test_cancel_keeps_a_usable_model_and_a_checkpoint(folder, tiny_model: Path) -> None:
    """Once by the file and once by SIGTERM, in different recipes; the run can then be taken up again."""
    spec = {"recipe": "dpo", **DATA, **STEPS, "max_steps": 3000, "save_every": 1000}
    dpo = folder("dpo", spec, PAIRS)
    ppo = folder("ppo", {**PPO, "steps": 3000, "save_every": 1000}, {"data/train.jsonl": prompt_rows(5)})
    write_reward_model(ppo.path / "models/reward", tiny_model)
    first, second = dpo.start(), ppo.start()
    dpo.wait_for(first, "progress", 3)
    (dpo.path / "cancel").touch()
    ppo.wait_for(second, "progress", 2)
    second.send_signal(signal.SIGTERM)
    for run, process in ((dpo, first), (ppo, second)):
        assert process.wait() == 0
        result = run.result()
        assert (result["status"], result["model"], result["kind"]) == ("cancelled", "output", "policy")
        assert 0 < result["step"] < 3000
        assert (run.path / f"checkpoints/checkpoint-{result['step']}/WHOLE").is_file()
        assert run.events()[-1]["event"] == "cancelled"
        assert run.events()[-2]["event"] == "checkpoint"
        assert all(torch.isfinite(tensor).all() for tensor in run.weights().values())


ONLINE = {
    "data": {"train": "data/train.jsonl"},
    "reward_model": "models/reward",
    "steps": 24,
    "prompts_per_step": 4,
    "max_new_tokens": 6,
    "learning_rate": 0.01,
    "save_every": 5,
    "alarm_window": 3,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": "grpo", "samples_per_prompt": 2, "batch_size": 4},
        {"recipe": "online_dpo", "batch_size": 2, "lora": None},
    ],
    ids=["grpo", "online_dpo"],
)
def test_online_recipes_go_on_after_a_cancel_as_if_there_had_been_none(
    folder, tiny_model: Path, changes: dict
) -> None:
    files = {"data/train.jsonl": prompt_rows(5)}
    spec = {**ONLINE, **changes}
    calm, cancelled = folder("calm", spec, files), folder("cancelled", spec, files)
    for run in (calm, cancelled):
        write_reward_model(run.path / "models/reward", tiny_model)
    process, undisturbed = cancelled.start(), calm.start()
    cancelled.wait_for(process, "progress", 8)
    (cancelled.path / "cancel").touch()
    assert process.wait() == 0
    result = cancelled.result()
    assert (result["status"], result["model"]) == ("cancelled", "output")
    assert 8 <= result["step"] < 24
    assert (cancelled.path / f"checkpoints/checkpoint-{result['step']}/WHOLE").is_file()
    assert all(torch.isfinite(tensor).all() for tensor in cancelled.weights().values())
    (cancelled.path / "cancel").unlink()
    done = cancelled.run()
    assert done.returncode == 0, done.stderr
    assert undisturbed.wait() == 0
    check_same_end(calm, cancelled)
    assert cancelled.events("started")[-1]["resumed_from"] == result["step"]


def test_cancel_before_the_first_step_leaves_no_model(folder) -> None:
    run = folder("early", {"recipe": "dpo", **DATA}, PAIRS)
    (run.path / "cancel").touch()
    assert run.run().returncode == 0
    result = run.result()
    assert (result["status"], result["model"], result["step"], result["files"]) == ("cancelled", None, 0, {})


@pytest.mark.parametrize("recipe", ["reward", "dpo"])
def test_a_loss_stuck_at_ln2_is_a_failed_run(folder, recipe: str) -> None:
    same = preference_rows(4)
    for row in same:
        row["rejected"] = row["chosen"]
    run = folder(recipe, {"recipe": recipe, **DATA, "max_steps": 6}, {"data/train.jsonl": same})
    assert run.run().returncode == 1
    result = run.result()
    assert (result["status"], result["error"]["code"], result["model"]) == ("failed", "stuck_loss", None)
    assert "ln 2" in result["error"]["message"]
    assert run.events("failed")[0]["code"] == "stuck_loss"
    assert not (run.path / "output").exists()


def test_a_loss_that_is_no_number_is_named(folder, tiny_model: Path) -> None:
    from safetensors.torch import load_file, save_file

    run = folder("nan", {"recipe": "dpo", **DATA, "model": "models/broken"}, PAIRS)
    broken = shutil.copytree(tiny_model, run.path / "models/broken")
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    assert run.run().returncode == 1
    assert run.result()["error"]["code"] == "nan_loss"


def test_a_full_disk_is_named(folder, tiny_model: Path) -> None:
    spec = {"recipe": "sample", "data": {"prompts": "data/p.jsonl"}, "models": {"a": str(tiny_model)}}
    run = folder("full", {**spec, "max_new_tokens": 4, "max_length": 64}, {"data/p.jsonl": prompt_rows(2)})
    (run.path / "output").mkdir()
    (run.path / "output/samples.jsonl").symlink_to("/dev/full")
    assert run.run().returncode == 1
    assert run.result()["error"]["code"] == "disk_full"


def test_what_cannot_be_run_is_refused_by_name(folder, tmp_path: Path) -> None:
    bad_spec = folder("spec", {"recipe": "dpo", **DATA, "beta": -1}, PAIRS)
    assert bad_spec.run().returncode == 1
    assert bad_spec.result()["error"]["code"] == "bad_spec"
    assert "beta: should be greater than 0" in bad_spec.result()["error"]["message"]
    bad_data = folder("data", {"recipe": "dpo", **DATA}, {"data/train.jsonl": [{"prompt": assistant("x")}]})
    bad_model = folder("model", {"recipe": "dpo", **DATA, "model": "models/none/such"}, PAIRS)
    runs = [(bad_data, bad_data.start()), (bad_model, bad_model.start())]
    assert [process.wait() for _, process in runs] == [1, 1]
    assert bad_data.result()["error"]["code"] == "bad_data"
    assert "train.jsonl, line 1: chosen" in bad_data.result()["error"]["message"]
    assert bad_model.result()["error"]["code"] == "bad_model"
    assert "models/none/such" in bad_model.result()["error"]["message"]


def test_a_run_dies_with_the_process_that_asked_for_it(folder) -> None:
    spec = {"recipe": "dpo", **DATA, **STEPS, "max_steps": 100_000}
    run = folder("orphan", spec, PAIRS)
    code = (
        "import os, subprocess, sys, time\n"
        f"os.environ['{PARENT_VARIABLE}'] = str(os.getpid())\n"
        "child = subprocess.Popen(sys.argv[1:])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", code, *run.command()]
    log = (run.path / "log").open("wb")
    with (
        log,
        subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            env=child_environment({}),
            stdout=subprocess.PIPE,
            stderr=log,
        ) as parent,
    ):
        child = int(parent.stdout.readline())
        run.wait_for(parent, "progress", 1)
        parent.kill()
    for _ in range(200):
        if not is_running(child):
            break
        os.sched_yield()
    assert not is_running(child)


def is_running(pid: int) -> bool:
    """Whether the process lives; one that ended and waits to be reaped (Z) does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_stale_parent_is_refused(folder) -> None:
    run = folder("stale", {"recipe": "dpo", **DATA}, PAIRS)
    done = run.run(**{PARENT_VARIABLE: "1"})
    assert done.returncode == 1
    assert "is gone" in done.stderr
    assert not (run.path / "events.jsonl").exists()
    assert json.loads((run.path / "spec.json").read_text())["recipe"] == "dpo"
