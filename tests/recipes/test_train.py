"""Each recipe through its command line on a tiny model: files, events, results, and which weights moved."""

import json
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.recipes.conftest import (  # noqa: E402  # after importorskip
    Folder,
    assistant,
    copy_tokenizer,
    preference_rows,
    prompt_rows,
    user,
    write_reward_model,
)

pytestmark = pytest.mark.recipes
LN2 = math.log(2)
DATA = {"train": "data/train.jsonl", "eval": "data/eval.jsonl"}
PROBES = {"prompts": "data/probes.jsonl", "count": 2, "max_new_tokens": 6}
PAIRS = {
    "data/train.jsonl": preference_rows(16),
    "data/eval.jsonl": preference_rows(5),
    "data/probes.jsonl": prompt_rows(3),
}
ALL = {"kind": "all"}
Q_PROJ = {"kind": "lora", "r": 4, "alpha": 8, "targets": ["q_proj"]}


def load(path: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(path / "model.safetensors")


def moved(before: dict, after: dict) -> set[str]:
    assert set(before) <= set(after)
    return {name for name in before if not torch.equal(before[name], after[name])}


def check_result(folder: Folder, recipe: str, kind: str) -> dict:
    result = folder.result()
    assert (result["status"], result["recipe"], result["error"]) == ("succeeded", recipe, None)
    assert (result["model"], result["kind"]) == ("output", kind)
    assert {"model.safetensors", "tokenizer.json", "chat_template.jinja", "config.json"} < set(
        result["files"]
    )
    assert result["tokenizer_sha256"] == result["files"]["tokenizer.json"]
    assert set(result["dataset"]) >= {"data/train.jsonl"}
    assert not [
        path for path in folder.path.rglob("*") if path.suffix == ".tmp" or path.name.endswith(".bin")
    ]
    events = folder.events()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["event"] == "started" or events[0]["event"] == "warning"
    assert events[-1]["event"] == "finished"
    return result


def mean_logp(model_path: Path, rows: list[dict]) -> float:
    """-log p per response token, by hand: the first loss of supervised fine-tuning."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = AutoModelForCausalLM.from_pretrained(model_path)
    total = count = 0
    for row in rows:
        full = tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=False)
        start = len(
            tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
        )
        with torch.no_grad():
            logp = model(torch.tensor([full])).logits[0].log_softmax(-1)
        total -= sum(logp[place - 1, full[place]].item() for place in range(start, len(full)))
        count += len(full) - start
    return total / count


def test_sft(folder, tiny_model: Path) -> None:
    rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in preference_rows(8)]
    settings = {"learning_rate": 0.02, "max_steps": 3, "batch_size": 8, "warmup_ratio": 0, "eval_every": 2}
    run = folder(
        "sft",
        {"recipe": "sft", "data": DATA, "probes": PROBES, "train": ALL, **settings},
        {"data/train.jsonl": rows, "data/eval.jsonl": rows[:2], "data/probes.jsonl": prompt_rows(2)},
    )
    assert run.run().returncode == 0
    check_result(run, "sft", "policy")
    assert run.values(1)["loss"] == pytest.approx(mean_logp(tiny_model, rows), abs=1e-5)
    assert run.values(3)["loss"] < run.values(1)["loss"]
    assert run.values(3, "evaluation")["loss"] < run.values(1)["loss"]
    before = load(tiny_model)
    assert moved(before, run.weights()) == set(before)
    phases = {(row["phase"], row["step"]): row["rows"] for row in run.events("samples")}
    assert set(phases) == {("before", 0), ("during", 2), ("after", 3)}
    assert all(len(rows) == 2 and rows[0]["prompt"] == user("question 0") for rows in phases.values())


def test_reward(folder, tiny_model: Path) -> None:
    """LoRA on one layer kind, a margin, a pair cut to fit and one left out; the saved head scores alike."""
    rows = preference_rows(12)
    rows[0]["margin"] = 1.0
    rows[1]["prompt"] = [*user("x" * 300), *assistant("earlier"), *user("the last turn")]
    rows[2]["chosen"] = assistant("y" * 300)
    rows[3]["rejected"] = assistant("")
    run = folder(
        "reward",
        {
            "recipe": "reward",
            "data": DATA,
            "train": Q_PROJ,
            "learning_rate": 0.02,
            "batch_size": 4,
            "epochs": 4,
            "warmup_ratio": 0,
        },
        {**PAIRS, "data/train.jsonl": rows},
    )
    done = run.run()
    assert done.returncode == 0, done.stderr
    result = check_result(run, "reward", "reward")
    messages = [event["message"] for event in run.events("warning")]
    assert any(text.startswith("1 of 12 pairs had a prompt that was cut") for text in messages), messages
    assert any(text.startswith("1 of 12 pairs were longer than max_length (128") for text in messages), (
        messages
    )
    report = run.values(result["step"], "evaluation")
    assert report["accuracy"] == 1.0
    assert report["accuracy_low"] == pytest.approx(0.5655, abs=1e-4)  # Wilson, 5 of 5
    assert report["length_accuracy"] == 1.0
    assert result["metrics"]["eval/pairs"] == 5
    before = {name: tensor for name, tensor in load(tiny_model).items() if name.startswith("model.")}
    assert moved(before, run.weights()) == {name for name in before if "q_proj" in name}
    assert run.weights()["score.weight"].shape == (1, 32)
    check_scores(run, report)


def check_scores(run: Folder, report: dict[str, float]) -> None:
    """The saved model, loaded by transformers alone, gives the reported margin; the merge lost nothing."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(run.path / "output")
    tokenizer = AutoTokenizer.from_pretrained(run.path / "output")
    margins = []
    for row in PAIRS["data/eval.jsonl"]:
        scores = []
        for response in (row["chosen"], row["rejected"]):
            ids = tokenizer.apply_chat_template(row["prompt"] + response, return_dict=False)
            with torch.no_grad():
                scores.append(model(torch.tensor([ids])).logits.item())
        margins.append(scores[0] - scores[1])
    assert sum(margins) / len(margins) == pytest.approx(report["rewards/margins"], abs=1e-4)


def test_reward_loss_is_bradley_terry_with_margin(folder) -> None:
    """Full training; step 1 against the start's own scores, which lr = tiny leaves in place."""
    from training.recipes.metrics import bradley_terry_loss

    rows = preference_rows(4)
    for index, row in enumerate(rows):
        row["margin"] = index / 2
    settings = {"learning_rate": 1e-12, "max_steps": 1, "batch_size": 4, "train": ALL}
    run = folder(
        "reward",
        {"recipe": "reward", "data": {"train": "data/train.jsonl"}, **settings},
        {"data/train.jsonl": rows},
    )
    assert run.run().returncode == 0
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(run.path / "output")
    tokenizer = AutoTokenizer.from_pretrained(run.path / "output")
    scores: dict[str, list[float]] = {"chosen": [], "rejected": []}
    for row in rows:
        for side, values in scores.items():
            ids = tokenizer.apply_chat_template(row["prompt"] + row[side], return_dict=False)
            with torch.no_grad():
                values.append(model(torch.tensor([ids])).logits.item())
    expected = bradley_terry_loss(scores["chosen"], scores["rejected"], [0.0, 0.5, 1.0, 1.5])
    assert run.values(1)["loss"] == pytest.approx(expected, abs=1e-5)


def test_dpo(folder, tiny_model: Path) -> None:
    run = folder(
        "dpo",
        {
            "recipe": "dpo",
            "data": DATA,
            "probes": PROBES,
            "train": Q_PROJ,
            "learning_rate": 0.01,
            "batch_size": 8,
            "epochs": 3,
            "warmup_ratio": 0,
        },
        PAIRS,
    )
    done = run.run()
    assert done.returncode == 0, done.stderr
    result = check_result(run, "dpo", "policy")
    assert run.values(1)["loss"] == pytest.approx(LN2, abs=1e-5)
    assert run.values(result["step"])["loss"] < LN2
    assert run.values(result["step"], "evaluation")["accuracy"] == 1.0
    assert run.values(2)["rewards/margins"] > 0
    before = load(tiny_model)
    assert moved(before, run.weights()) == {name for name in before if "q_proj" in name}
    adapter = json.loads((run.path / "output/adapter/adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(tiny_model)
    again = run.run()
    assert again.returncode == 0
    assert run.result() == result  # a finished directory is left alone


def test_dpo_on_two_full_batches_matches_the_paper(folder, tiny_model: Path) -> None:
    """Every weight trained: the loss of step 2 from the weights after step 1, by DPO's equation 7."""
    settings = {
        "train": ALL,
        "learning_rate": 0.01,
        "batch_size": 4,
        "warmup_ratio": 0,
        "beta": 0.3,
        "schedule": "constant",
    }
    files = {"data/train.jsonl": preference_rows(4)}
    spec = {"recipe": "dpo", "data": {"train": "data/train.jsonl"}, **settings}
    one, two = folder("one", {**spec, "max_steps": 1}, files), folder("two", {**spec, "max_steps": 2}, files)
    assert one.run().returncode == two.run().returncode == 0
    losses = []
    for row in files["data/train.jsonl"]:
        ratio = {}
        for side in ("chosen", "rejected"):
            after, before = (response_logp(path, row, side) for path in (one.path / "output", tiny_model))
            ratio[side] = after - before
        losses.append(math.log1p(math.exp(-0.3 * (ratio["chosen"] - ratio["rejected"]))))
    assert two.values(2)["loss"] == pytest.approx(sum(losses) / 4, abs=1e-5)


def test_dpo_keeps_the_better_response_likely(folder, tiny_model: Path) -> None:
    """Step 1 with sft_weight: ln 2, where policy and reference agree, plus the weighted loss per token."""
    rows = preference_rows(4)
    settings = {"learning_rate": 1e-12, "max_steps": 1, "batch_size": 4, "sft_weight": 0.5}
    spec = {"recipe": "dpo", "data": {"train": "data/train.jsonl"}, **settings}
    run = folder("kept", spec, {"data/train.jsonl": rows})
    assert run.run().returncode == 0
    chosen = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]
    assert run.values(1)["loss"] == pytest.approx(LN2 + 0.5 * mean_logp(tiny_model, chosen), abs=1e-5)


def response_logp(path: Path, row: dict, side: str) -> float:
    demonstration = {"prompt": row["prompt"], "completion": row[side]}
    length = len(row[side][0]["content"]) + 1  # bytes, and the end token
    return -mean_logp(path, [demonstration]) * length


def test_plain_template_where_a_tokenizer_has_none(folder, tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    bare = shutil.copytree(tiny_model, tmp_path / "plain/models/bare")
    (bare / "chat_template.jinja").unlink()
    spec = {"recipe": "dpo", "data": {"train": "data/train.jsonl"}, "model": "models/bare", "max_steps": 1}
    run = folder(
        "plain", {**spec, "learning_rate": 0.01, "warmup_ratio": 0}, {"data/train.jsonl": preference_rows(2)}
    )
    assert run.run().returncode == 0
    template = (run.path / "output/chat_template.jinja").read_text()
    assert "Human: " in template
    assert "eos_token" in template


def test_sample(folder, tiny_model: Path) -> None:
    """Two models, scored, with KL; a file cut short as by a kill is completed the same."""
    from transformers import AutoModelForCausalLM

    other = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        other.model.layers[0].self_attn.q_proj.weight += 0.5
        other.model.layers[1].mlp.up_proj.weight.mul_(5)
    spec = {
        "recipe": "sample",
        "data": {"prompts": "data/prompts.jsonl"},
        "models": {"baseline": str(tiny_model), "candidate": "models/candidate"},
        "reward_model": "models/reward",
        "reference": str(tiny_model),
        "samples_per_prompt": 2,
        "batch_size": 3,
        "max_new_tokens": 5,
        "max_length": 64,
        "limit": 4,
        "temperature": 1.0,
    }
    run = folder("sample", spec, {"data/prompts.jsonl": prompt_rows(6)})
    other.save_pretrained(run.path / "models/candidate")
    copy_tokenizer(tiny_model, run.path / "models/candidate")
    write_reward_model(run.path / "models/reward", tiny_model)
    done = run.run()
    assert done.returncode == 0, done.stderr
    whole = (run.path / "output/samples.jsonl").read_bytes()
    rows = [json.loads(line) for line in whole.splitlines()]
    assert len(rows) == 2 * 4 * 2
    assert {(row["model"], row["prompt_id"], row["index"]) for row in rows} == {
        (model, f"p{prompt}", index) for model in spec["models"] for prompt in range(4) for index in range(2)
    }
    assert all(row["kl"] == pytest.approx(0, abs=1e-4) for row in rows if row["model"] == "baseline")
    assert all(row["kl"] > 0 for row in rows if row["model"] == "candidate")
    assert all(math.isfinite(row["reward"]) and 1 <= row["tokens"] <= 5 for row in rows)
    assert len({row["response"] for row in rows}) > 8
    result = run.result()
    assert result["status"] == "succeeded"
    assert result["metrics"]["candidate/kl"] > result["metrics"]["baseline/kl"]

    (run.path / "result.json").unlink()
    (run.path / "output/samples.jsonl").write_bytes(whole[: len(whole) * 2 // 3])
    assert run.run().returncode == 0
    assert (run.path / "output/samples.jsonl").read_bytes() == whole
    assert run.events("started")[-1]["resumed_from"] > 0
