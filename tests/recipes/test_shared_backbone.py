"""PPO over one backbone: the same as with separate models, and the same after a cancel."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.recipes.conftest import prompt_rows, write_adapted_reward_model  # noqa: E402
from tests.recipes.test_interrupted import check_same_end  # noqa: E402
from tests.recipes.test_ppo import SPEC  # noqa: E402

pytestmark = pytest.mark.recipes
FILES = {"data/prompts.jsonl": prompt_rows(5)}
SHARED = {**SPEC, "backbone": "shared", "save_every": 50}
MEASURES = ("reward", "kl", "response_length", "finished", "explained_variance")  # before any update


@pytest.mark.slow
def test_a_shared_backbone_learns_like_separate_models(folder, tiny_model: Path) -> None:
    shared, cancelled = folder("shared", SHARED, FILES), folder("cancelled", SHARED, FILES)
    separate = folder("separate", {**SHARED, "backbone": "separate", "steps": 1}, FILES)
    for run in (shared, cancelled, separate):
        write_adapted_reward_model(run.path / "models/reward", tiny_model)
    process = cancelled.start()
    assert separate.run_here() == 0
    cancelled.wait_for(process, "progress", 2)
    (cancelled.path / "cancel").touch()
    assert process.wait() == 0, (cancelled.path / "log").read_text()
    assert cancelled.result()["status"] == "cancelled"
    (cancelled.path / "cancel").unlink()
    runs = [shared.start(), cancelled.start()]
    assert [process.wait() for process in runs] == [0, 0]

    once, ours = separate.values(1), shared.values(1)
    assert {name: ours[name] for name in MEASURES} == pytest.approx(
        {name: once[name] for name in MEASURES}, abs=1e-4
    )
    early = sum(shared.values(step)["reward"] for step in (1, 2, 3))
    assert sum(shared.values(step)["reward"] for step in (10, 11, 12)) > early + 1
    check_same_end(shared, cancelled)
    check_output(shared, tiny_model)


def check_output(run, tiny_model: Path) -> None:
    """Of the base only what the policy's adapter reaches moved; no other adapter was saved."""
    from safetensors.torch import load_file

    before, after = load_file(tiny_model / "model.safetensors"), run.weights()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "q_proj" in name or "down_proj" in name}
    saved = {path.name for path in (run.path / "output/adapter").iterdir()}
    assert saved == {"adapter_config.json", "adapter_model.safetensors"}
    config = json.loads((run.path / "output/adapter/adapter_config.json").read_text())
    assert (config["r"], config["target_modules"]) == (4, ["down_proj", "q_proj"])


def test_a_reward_model_from_another_base_is_refused(folder, tiny_model: Path) -> None:
    run = folder("other", SHARED, FILES)
    write_adapted_reward_model(run.path / "models/reward", tiny_model, noise=0.01)
    assert run.run_here() == 1
    error = run.result()["error"]
    assert error["code"] == "bad_model"
    assert "model.layers.1.mlp.up_proj.weight is not the policy's" in error["message"]
