"""PPO through its command line: what moves, what is measured, and a reward that can be learned."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.recipes.conftest import prompt_rows, write_reward_model  # noqa: E402  # after importorskip

pytestmark = pytest.mark.recipes
SPEC = {
    "recipe": "ppo",
    "data": {"train": "data/prompts.jsonl"},
    "reward_model": "models/reward",
    "train": {"kind": "lora", "r": 4, "alpha": 8, "targets": ["q_proj", "down_proj"]},
    "steps": 12,
    "rollout_batch_size": 64,
    "minibatch_size": 32,
    "ppo_epochs": 2,
    "max_new_tokens": 6,
    "learning_rate": 0.05,
    "value_learning_rate": 0.02,
    "unfinished_penalty": None,
}
FILES = {"data/prompts.jsonl": prompt_rows(5)}


def test_ppo_with_an_adapter(folder, tiny_model: Path) -> None:
    run = folder("ppo", {**SPEC, "probes": {"prompts": "data/prompts.jsonl", "count": 1}}, FILES)
    write_reward_model(run.path / "models/reward", tiny_model)
    reward_before = (run.path / "models/reward/model.safetensors").read_bytes()
    done = run.run()
    assert done.returncode == 0, done.stderr
    result = run.result()
    assert (result["status"], result["kind"], result["step"]) == ("succeeded", "policy", 12)
    first, last = run.values(1), run.values(12)
    assert first["kl"] == pytest.approx(0, abs=1e-4)  # the adapter starts as nothing: policy = reference
    assert first["response_length"] <= 6
    assert {"entropy", "clip_fraction", "loss/value", "loss/policy", "explained_variance"} < set(last)
    early = sum(run.values(step)["reward"] for step in (1, 2, 3))
    late = sum(run.values(step)["reward"] for step in (10, 11, 12))
    assert late > early + 1
    assert last["kl"] > first["kl"]
    assert [row["phase"] for row in run.events("samples")] == ["before", "after"]

    from safetensors.torch import load_file

    before, after = load_file(tiny_model / "model.safetensors"), run.weights()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "q_proj" in name or "down_proj" in name}
    assert (run.path / "models/reward/model.safetensors").read_bytes() == reward_before


def test_ppo_with_every_weight_stops_at_its_kl_budget(folder, tiny_model: Path) -> None:
    changes = {"train": {"kind": "all"}, "kl_budget": 0.05, "kl_target": 0.5, "kl_horizon": 100, "steps": 40}
    run = folder("budget", {**SPEC, **changes}, FILES)
    write_reward_model(run.path / "models/reward", tiny_model)
    done = run.run()
    assert done.returncode == 0, done.stderr
    result = run.result()
    assert result["status"] == "succeeded"
    assert 1 < result["step"] < 40
    assert result["metrics"]["kl"] > 0.05
    assert any("kl_budget 0.05" in event["message"] for event in run.events("warning"))
    assert (run.path / "output/model.safetensors").exists()
    assert run.values(2)["kl_coefficient"] != run.values(1)["kl_coefficient"]


def test_ppo_refuses_what_is_no_reward_model(folder, tiny_model: Path) -> None:
    run = folder("wrong", {**SPEC, "reward_model": str(tiny_model)}, FILES)
    assert run.run().returncode == 1
    error = run.result()["error"]
    assert error["code"] == "bad_model"
    assert "is not a reward model" in error["message"]
