"""PPO through its command line: what moves, what is measured, and a reward that can be learned."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.recipes.conftest import (  # noqa: E402  # after importorskip
    assistant,
    prompt_rows,
    user,
    write_reward_model,
)
from tests.recipes.test_train import mean_logp  # noqa: E402

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


def test_first_step_by_hand(folder, tiny_model: Path) -> None:
    """Reward, value loss, policy loss and the pretraining term of step 1, from the models' own outputs."""
    text = {"prompt": user("question 0"), "completion": assistant("yes gladly")}
    changes = {
        "steps": 1,
        "rollout_batch_size": 4,
        "minibatch_size": 4,
        "ppo_epochs": 1,
        "whiten_advantages": False,
        "gamma": 0.9,
        "terms": [{"rule": "length_penalty", "limit": 3, "weight": 0.5}],
        "pretraining": {"file": "data/texts.jsonl", "weight": 2.0, "batch_size": 2},
    }
    run = folder("hand", {**SPEC, **changes}, {**FILES, "data/texts.jsonl": [text]})
    write_reward_model(run.path / "models/reward", tiny_model)
    assert run.run_here() == 0
    values = run.values(1)
    reward, policy_loss, value_loss = first_step(run.path, tiny_model)
    assert values["reward"] == pytest.approx(reward, abs=1e-5)
    assert values["loss/policy"] == pytest.approx(policy_loss, abs=1e-5)
    assert values["loss/value"] == pytest.approx(value_loss, abs=1e-5)
    text_loss = mean_logp(tiny_model, [text])
    assert values["loss/pretraining"] == pytest.approx(text_loss, abs=1e-5)
    assert values["loss"] == pytest.approx(policy_loss + 2 * text_loss + 0.5 * value_loss, abs=1e-5)


def first_step(path: Path, tiny_model: Path) -> tuple[float, float, float]:
    """(mean reward, policy loss, value loss) of the first step, one token and one response at a time."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    from training.recipes.generation import Sampling, derive_seed, write_responses

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    policy = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    scorer = AutoModelForSequenceClassification.from_pretrained(path / "models/reward").eval()
    rows = prompt_rows(5)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(derive_seed(7, "prompts", 0)))[:4]
    prompts = [
        tokenizer.apply_chat_template(rows[i]["prompt"], add_generation_prompt=True, return_dict=False)
        for i in order.tolist()
    ]
    written = write_responses(policy, tokenizer, prompts, Sampling(6), derive_seed(7, "rollout", 0))
    rewards, advantages, errors = [], [], []
    for place, prompt, said in zip(order.tolist(), prompts, written.tokens(), strict=True):
        text = tokenizer.decode(said, skip_special_tokens=True).strip()
        chat = tokenizer.apply_chat_template(rows[place]["prompt"] + assistant(text), return_dict=False)
        with torch.no_grad():
            score = scorer(torch.tensor([chat])).logits.item() - 0.5 * max(0, len(said) - 3) / 3
            states = scorer.model(torch.tensor([prompt + said])).last_hidden_state[0]
            estimates = [scorer.score(states[len(prompt) - 1 + t]).item() for t in range(len(said))]
        rewards.append(score)
        following = advantage = 0.0
        for t in reversed(range(len(said))):
            delta = (score if t == len(said) - 1 else 0.0) + 0.9 * following - estimates[t]
            advantage = delta + 0.9 * 0.95 * advantage
            following = estimates[t]
            advantages.append(advantage)
            errors.append(advantage**2)
    count = len(advantages)
    return sum(rewards) / 4, -sum(advantages) / count, 0.5 * sum(errors) / count


def test_two_reward_models_and_a_reward_scaled_by_its_past(folder, tiny_model: Path) -> None:
    """Every prompt is tagged: the safety model alone is followed. A run stopped by an alarm is usable."""
    rows = [row | {"tags": ["safety"]} for row in prompt_rows(5)]
    changes = {
        "safety_model": "models/safety",
        "reward_scaling": "running",
        "alarm_window": 1,
        "diversity_floor": 1.0,
        "stop_on": ["low_diversity"],
    }
    run = folder("safe", {**SPEC, **changes}, {"data/prompts.jsonl": rows})
    write_reward_model(run.path / "models/reward", tiny_model)
    write_reward_model(run.path / "models/safety", tiny_model, seed=5)
    assert run.run_here() == 0
    result = run.result()
    assert result["status"] == "succeeded"
    assert 1 < result["step"] < 12
    assert [event["alarm"] for event in run.events("warning") if "alarm" in event] == ["low_diversity"]
    assert run.values(1)["reward/by_safety"] == 1.0
    assert (run.path / "output/model.safetensors").exists()
