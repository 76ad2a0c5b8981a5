"""RLOO, GRPO and online DPO through their command lines: what moves, and the first steps by hand."""

import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.recipes.conftest import (  # noqa: E402  # after importorskip
    Folder,
    assistant,
    prompt_rows,
    write_reward_model,
)

pytestmark = pytest.mark.recipes
FILES = {"data/prompts.jsonl": prompt_rows(5)}
SPEC = {
    "data": {"train": "data/prompts.jsonl"},
    "reward_model": "models/reward",
    "prompts_per_step": 4,
    "max_new_tokens": 6,
    "unfinished_penalty": None,
    "warmup_ratio": 0,
}
EVERY_WEIGHT = {"lora": None, "learning_rate": 0.01, "max_grad_norm": 1000}


@pytest.fixture
def online(folder, tiny_model: Path):
    def make(name: str, **changes: object) -> Folder:
        run = folder(name, {**SPEC, **changes}, FILES)
        write_reward_model(run.path / "models/reward", tiny_model)
        return run

    return make


def load(path: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)


def rollout(policy, tokenizer, step: int, samples: int, *, tiled: bool = False) -> list[tuple]:
    """(place of the prompt, its ids, the response's ids) of a step: the same seed draws the same tokens."""
    from training.recipes.generation import derive_seed

    order = []
    for turn in range(3):
        generator = torch.Generator().manual_seed(derive_seed(7, "prompts", turn))
        order += torch.randperm(5, generator=generator).tolist()
    places = order[4 * step : 4 * step + 4]
    places = places * samples if tiled else [place for place in places for _ in range(samples)]
    rows = prompt_rows(5)
    prompts = [
        tokenizer.apply_chat_template(rows[i]["prompt"], add_generation_prompt=True, return_dict=False)
        for i in places
    ]
    assert len({len(prompt) for prompt in prompts}) == 1
    torch.manual_seed(derive_seed(7, "rollout", step))
    ids = policy.generate(
        torch.tensor(prompts), do_sample=True, max_new_tokens=6, top_k=0, pad_token_id=tokenizer.pad_token_id
    )
    said = []
    for row in ids[:, len(prompts[0]) :].tolist():
        end = row.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in row else len(row)
        said.append(row[:end])
    return list(zip(places, prompts, said, strict=True))


def score(run: Folder, tokenizer, rows: list[tuple]) -> list[float]:
    from transformers import AutoModelForSequenceClassification

    scorer = AutoModelForSequenceClassification.from_pretrained(run.path / "models/reward").eval()
    scores = []
    for place, _, said in rows:
        text = tokenizer.decode(said, skip_special_tokens=True).strip()
        chat = prompt_rows(5)[place]["prompt"] + assistant(text)
        ids = tokenizer.apply_chat_template(chat, return_dict=False)
        with torch.no_grad():
            scores.append(scorer(torch.tensor([ids])).logits.item())
    return scores


def logp(model, prompt: list[int], said: list[int]):
    """Log-probability of each token of the response; [T]."""
    log_p = model(torch.tensor([prompt + said])).logits[0].log_softmax(-1)
    return torch.stack([log_p[len(prompt) - 1 + t, token] for t, token in enumerate(said)])


def gradient_norm(policy, loss) -> float:
    loss.backward()
    return math.sqrt(sum((p.grad**2).sum().item() for p in policy.parameters() if p.grad is not None))


def test_rloo_first_gradient_by_hand(online, tiny_model: Path) -> None:
    """-mean(A log p) with A = r - mean of the others' r; the KL is 0 while policy and reference agree."""
    run = online("rloo", recipe="rloo", steps=1, samples_per_prompt=3, batch_size=6, **EVERY_WEIGHT)
    assert run.run_here() == 0
    policy, tokenizer = load(tiny_model)
    rows = rollout(policy, tokenizer, 0, 3)
    scores = score(run, tokenizer, rows)
    values = run.values(1)
    assert values["reward"] == pytest.approx(sum(scores) / 12, abs=1e-5)
    assert values["loss"] == pytest.approx(0, abs=1e-5)
    loss = 0.0
    for index, (_, prompt, said) in enumerate(rows):
        group = scores[index - index % 3 : index - index % 3 + 3]
        advantage = scores[index] - (sum(group) - scores[index]) / 2
        loss = loss - advantage * logp(policy, prompt, said).sum() / 12
    assert values["grad_norm"] == pytest.approx(gradient_norm(policy, loss), rel=1e-4)
    assert values["kl"] == pytest.approx(0, abs=1e-5)


def test_grpo_second_loss_by_hand(online, tiny_model: Path) -> None:
    """The advantages of a group sum to 0, so that the loss of step 2 is beta times the KL (eq. 3 and 4)."""
    settings = {"samples_per_prompt": 2, "batch_size": 8, "beta": 0.5, **EVERY_WEIGHT}
    run = online("grpo", recipe="grpo", steps=2, save_every=1, **settings)
    assert run.run_here() == 0
    assert run.values(1)["loss"] == pytest.approx(0, abs=1e-5)
    after, tokenizer = load(run.path / "checkpoints/checkpoint-1")
    start, _ = load(tiny_model)
    rows = rollout(after, tokenizer, 1, 2)
    expected = 0.0
    with torch.no_grad():
        for _, prompt, said in rows:
            ratio = logp(start, prompt, said) - logp(after, prompt, said)
            expected += (ratio.exp() - ratio - 1).mean().item() / len(rows)
    assert run.values(2)["reward"] == pytest.approx(sum(score(run, tokenizer, rows)) / 8, abs=1e-5)
    assert run.values(2)["loss"] == pytest.approx(0.5 * expected, abs=1e-5)
    assert expected > 1e-3


def test_online_dpo_second_loss_by_hand(online, tiny_model: Path) -> None:
    """Step 1 is ln 2; step 2 is DPO's equation 7 on two fresh responses, ordered by their scores."""
    settings = {"batch_size": 4, "beta": 0.3, **EVERY_WEIGHT}
    run = online("online_dpo", recipe="online_dpo", steps=2, save_every=1, **settings)
    assert run.run_here() == 0
    assert run.values(1)["loss"] == pytest.approx(math.log(2), abs=1e-5)
    after, tokenizer = load(run.path / "checkpoints/checkpoint-1")
    start, _ = load(tiny_model)
    rows = rollout(after, tokenizer, 1, 2, tiled=True)
    scores = score(run, tokenizer, rows)
    with torch.no_grad():
        ratios = [(logp(after, p, said) - logp(start, p, said)).sum().item() for _, p, said in rows]
    losses = []
    for index in range(4):
        better, worse = (index, index + 4) if scores[index] >= scores[index + 4] else (index + 4, index)
        losses.append(math.log1p(math.exp(-0.3 * (ratios[better] - ratios[worse]))))
    values = run.values(2)
    assert values["loss"] == pytest.approx(sum(losses) / 4, abs=1e-5)
    assert values["kl"] == pytest.approx(sum(ratios) / 8, abs=1e-4)
    assert values["reward"] == pytest.approx(sum(scores) / 8, abs=1e-5)


LEARNS = {
    "rloo": {"samples_per_prompt": 8, "batch_size": 32, "learning_rate": 0.05},
    "online_dpo": {"batch_size": 4, "learning_rate": 0.05, "prompts_per_step": 16},
}


@pytest.mark.parametrize("recipe", sorted(LEARNS))
def test_an_adapter_learns_what_is_rewarded(online, tiny_model: Path, recipe: str) -> None:
    settings = {
        "lora": {"r": 4, "alpha": 8, "targets": ["q_proj", "down_proj"]},
        "steps": 15,
        "probes": {"prompts": "data/prompts.jsonl", "count": 1, "max_new_tokens": 4},
        "terms": [{"rule": "length_penalty", "limit": 5, "weight": 0.1}],
        **LEARNS[recipe],
    }
    run = online(recipe, recipe=recipe, **settings)
    before_reward = (run.path / "models/reward/model.safetensors").read_bytes()
    done = run.run()
    assert done.returncode == 0, done.stderr
    result = run.result()
    assert (result["status"], result["kind"], result["step"]) == ("succeeded", "policy", 15)
    first, last = run.values(1), run.values(15)
    assert first["kl"] == pytest.approx(0, abs=1e-4)
    assert last["kl"] > 0.05
    early = sum(run.values(step)["reward"] for step in (1, 2, 3))
    late = sum(run.values(step)["reward"] for step in (13, 14, 15))
    assert late > early + 1
    shown = {"entropy", "response_length", "learning_rate", "tokens_per_second", "grad_norm", "distinct_2"}
    assert shown | {"reward/model", "reward/length_penalty", "reward/length_controlled"} < set(last)
    assert [row["phase"] for row in run.events("samples")] == ["before", "after"]

    from safetensors.torch import load_file

    before, after = load_file(tiny_model / "model.safetensors"), run.weights()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "q_proj" in name or "down_proj" in name}
    assert (run.path / "models/reward/model.safetensors").read_bytes() == before_reward


def test_grpo_stops_at_its_kl_budget_with_a_usable_model(online) -> None:
    settings = {"samples_per_prompt": 4, "batch_size": 16, "kl_budget": 0.1, **EVERY_WEIGHT}
    run = online("budget", recipe="grpo", steps=60, **settings)
    done = run.run()
    assert done.returncode == 0, done.stderr
    result = run.result()
    assert result["status"] == "succeeded"
    assert 1 < result["step"] < 60
    assert [event["alarm"] for event in run.events("warning") if "alarm" in event] == ["kl_budget"]
    assert result["metrics"]["kl"] > 0.1
    assert all(torch.isfinite(tensor).all() for tensor in run.weights().values())
