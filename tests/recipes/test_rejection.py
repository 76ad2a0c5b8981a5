"""Rejection sampling through its command line: what is kept, what is learned, and a cancel in the middle."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.recipes.conftest import assistant, prompt_rows, user, write_reward_model  # noqa: E402
from tests.recipes.test_interrupted import check_same_end  # noqa: E402
from tests.recipes.test_train import mean_logp  # noqa: E402
from training.recipes.rejection import best_of  # noqa: E402

pytestmark = pytest.mark.recipes
SPEC = {
    "recipe": "rejection",
    "data": {"train": "data/prompts.jsonl"},
    "reward_model": "models/reward",
    "kept": "data/kept.jsonl",
    "samples_per_prompt": 6,
    "sampling_batch_size": 4,
    "max_new_tokens": 5,
    "unfinished_penalty": None,
    "terms": [{"rule": "length_penalty", "limit": 4}],
    "lora": {"r": 4, "alpha": 8, "targets": ["q_proj"]},
    "learning_rate": 0.01,
    "batch_size": 16,
    "epochs": 4,
    "warmup_ratio": 0,
}
KEPT = {"reward": 99.0, "tokens": 3, "finished": True, "tags": []}
FILES = {
    "data/prompts.jsonl": prompt_rows(5),
    "data/kept.jsonl": [
        {"id": "old", "prompt": user("an older question"), "response": "yes", "round": 2, **KEPT},
        {"id": "p1", "prompt": user("question 1"), "response": "x" * 60, "round": 1, **KEPT, "tokens": 400},
    ],
}


def test_best_of_takes_the_highest_of_each_prompt_once() -> None:
    rows = [
        {"id": "a", "response": "one", "reward": 1.0},
        {"id": "b", "response": "two", "reward": 5.0},
        {"id": "a", "response": "three", "reward": 3.0},
        {"id": "a", "response": "three", "reward": 3.0},
        {"id": "a", "response": "four", "reward": 2.0},
    ]
    assert [row["response"] for row in best_of(rows, 1)] == ["three", "two"]
    assert [row["response"] for row in best_of(rows, 2)] == ["three", "four", "two"]


def test_rejection_keeps_the_best_of_all_rounds_and_imitates_them(folder, tiny_model: Path) -> None:
    calm, cancelled = folder("calm", SPEC, FILES), folder("cancelled", SPEC, FILES)
    for run in (calm, cancelled):
        write_reward_model(run.path / "models/reward", tiny_model)
    process, undisturbed = cancelled.start(), calm.start()
    cancelled.wait_for(process, "progress", 1)
    (cancelled.path / "cancel").touch()
    assert process.wait() == 0
    result = cancelled.result()
    if result["step"] < 8:  # in the sampling, most likely: there is no model yet
        assert (result["status"], result["model"], result["files"]) == ("cancelled", None, {})
    (cancelled.path / "cancel").unlink()
    done = cancelled.run()
    assert done.returncode == 0, done.stderr
    assert undisturbed.wait() == 0
    check_same_end(calm, cancelled)
    for file in ("candidates.jsonl", "best.jsonl"):
        assert (calm.path / file).read_bytes() == (cancelled.path / file).read_bytes()
    check_best(calm, tiny_model)


def check_best(run, tiny_model: Path) -> None:
    """The best of 30 fresh responses and 2 old ones, their scores, and the first loss on them."""
    candidates = [json.loads(line) for line in (run.path / "candidates.jsonl").read_text().splitlines()]
    best = [json.loads(line) for line in (run.path / "best.jsonl").read_text().splitlines()]
    assert len(candidates) == 30
    assert {row["id"]: row["round"] for row in best} == {"old": 2, **{f"p{n}": 3 for n in range(5)}}
    for row in best[1:]:
        assert row["reward"] == max(other["reward"] for other in candidates if other["id"] == row["id"])
    for row in best:
        assert row["reward"] == pytest.approx(reward(run, row), abs=1e-5)

    result, values = run.result(), run.values(9)
    assert (result["status"], result["kind"], result["step"]) == ("succeeded", "policy", 12)
    rows = [{"prompt": row["prompt"], "completion": assistant(row["response"])} for row in best]
    assert values["loss"] == pytest.approx(mean_logp(tiny_model, rows), abs=1e-5)
    assert run.values(12)["loss"] < values["loss"]
    assert result["metrics"]["reward/best"] > result["metrics"]["reward/candidates"]
    assert result["metrics"]["kept_from_earlier"] == pytest.approx(1 / 6)
    assert result["metrics"]["kl_of_best_of_n"] == pytest.approx(0.95843, abs=1e-5)  # ln 6 - 5/6
    assert "data/kept.jsonl" in result["dataset"]

    from safetensors.torch import load_file

    before, after = load_file(tiny_model / "model.safetensors"), run.weights()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        name for name in before if "q_proj" in name
    }


def reward(run, row: dict) -> float:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    path = run.path / "models/reward"
    scorer = AutoModelForSequenceClassification.from_pretrained(path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    ids = tokenizer.apply_chat_template(row["prompt"] + assistant(row["response"]), return_dict=False)
    with torch.no_grad():
        return scorer(torch.tensor([ids])).logits.item() - max(0, row["tokens"] - 4) / 4
