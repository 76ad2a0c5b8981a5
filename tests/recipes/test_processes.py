"""Two processes on the CPU: the same learning as one with twice the batch, and no run alone by mistake."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.recipes.conftest import preference_rows  # noqa: E402  # after importorskip
from tests.recipes.test_train import load, moved  # noqa: E402

pytestmark = pytest.mark.recipes
ROWS = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in preference_rows(16)]
SPEC = {"recipe": "sft", "data": {"train": "data/train.jsonl", "eval": "data/eval.jsonl"}, "eval_every": 2}
SPEC |= {"learning_rate": 0.01, "warmup_ratio": 0, "max_steps": 4, "save_every": 2, "device": "cpu"}
SPEC |= {"train": {"kind": "lora", "r": 2, "targets": ["q_proj"]}}
FILES = {"data/train.jsonl": ROWS, "data/eval.jsonl": ROWS[:5]}


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_from_twice_the_batch(folder, tiny_model: Path) -> None:
    """And resume, from a checkpoint that both wrote to, with the same bits."""
    two = folder("two", {**SPEC, "processes": 2, "batch_size": 2}, FILES)
    one = folder("one", {**SPEC, "batch_size": 4}, FILES)
    for run in (two, one):
        done = run.run()
        assert done.returncode == 0, done.stderr
    assert two.result()["environment"]["processes"] == 2
    assert two.result()["step"] == one.result()["step"] == 4
    for step in (1, 2, 3, 4):
        assert two.values(step)["loss"] == pytest.approx(one.values(step)["loss"], abs=1e-5)
    after, alone = two.weights(), one.weights()
    assert moved(load(tiny_model), after) == {name for name in after if "q_proj" in name}
    assert all(torch.allclose(after[name], alone[name], atol=1e-5) for name in after)
    # Only the first process writes.
    assert [event["seq"] for event in two.events()] == list(range(1, len(two.events()) + 1))
    assert [event["step"] for event in two.events("progress")] == [1, 2, 3, 4]
    assert len(two.events("started")) == 1
    checkpoint = two.path / "checkpoints/checkpoint-2"
    assert {path.name for path in checkpoint.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    (two.path / "result.json").unlink()
    assert two.run().returncode == 0
    assert two.events("started")[-1]["resumed_from"] == 2
    assert moved(after, two.weights()) == set()


def test_a_process_that_is_alone_refuses(folder) -> None:
    """As a launcher that starts one process where two were asked for would start it."""
    run = folder("alone", {**SPEC, "processes": 2}, FILES)
    environment = {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    done = run.run(**environment, MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    assert done.returncode == 1
    assert "processes: 2 were asked for, 1 came together" in run.result()["error"]["message"]
    assert not (run.path / "output").exists()


def test_what_ends_the_processes_is_said(folder, tmp_path: Path) -> None:
    """A bad row: each process finds it, the result says it, and the status is that of a failure."""
    run = folder("bad", {**SPEC, "processes": 2}, {**FILES, "data/train.jsonl": [{"prompt": 1}]})
    assert run.run().returncode == 1
    result = json.loads((run.path / "result.json").read_text())
    assert result["error"]["code"] == "bad_data"
    assert "train.jsonl, line 1" in result["error"]["message"]
