"""Which weights the recipes of preferences and of ratings train: every kind of `train`, not LoRA alone."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.recipes.conftest import (  # noqa: E402  # after importorskip
    assistant,
    preference_rows,
    prompt_rows,
    run_together,
    user,
    write_reward_model,
)

pytestmark = [pytest.mark.recipes, pytest.mark.timeout(1000)]
SETTINGS = {"data": {"train": "data/train.jsonl"}, "learning_rate": 0.02, "max_steps": 3, "batch_size": 4}
SETTINGS |= {"warmup_ratio": 0, "save_every": 2}
ADAPTER = {"kind": "lora", "r": 2, "targets": ["q_proj"], "save": "adapter"}
LAST = {"kind": "last_layers", "layers": 1}
PROMPT = {"kind": "prompt", "tokens": 3}
PREFIX = {"kind": "prefix", "tokens": 3}
PAIRS = preference_rows(8)
VERDICTS = [
    {"prompt": user(f"question {index}"), "completion": assistant(f"yes {index}"), "label": index % 2 == 0}
    for index in range(8)
]
RANKINGS = [
    {"prompt": row["prompt"], "completions": [row["chosen"], row["rejected"]], "ranks": [1, 2]}
    for row in PAIRS
]
RATINGS = [row | {"rating": float(row["label"])} for row in VERDICTS]
CASES = {
    "kto-all": ({"recipe": "kto", "train": {"kind": "all"}, "precompute_reference": False}, VERDICTS),
    "kto-last": ({"recipe": "kto", "train": LAST}, VERDICTS),
    "kto-prompt": ({"recipe": "kto", "train": PROMPT}, VERDICTS),
    "orpo-prompt": ({"recipe": "orpo", "train": PROMPT}, PAIRS),
    "orpo-last": ({"recipe": "orpo", "train": LAST}, PAIRS),
    "simpo-prefix": ({"recipe": "simpo", "train": PREFIX}, PAIRS),
    "simpo-prompt": ({"recipe": "simpo", "train": PROMPT}, PAIRS),
    "dpo-prompt": ({"recipe": "dpo", "loss_type": "odpo", "train": PROMPT}, PAIRS),
    "ranking-head": ({"recipe": "reward_ranking", "train": {"kind": "head"}}, RANKINGS),
    "rating-last": ({"recipe": "reward_rating", "loss": "ordinal", "train": LAST}, RATINGS),
    "ties-adapter": ({"recipe": "reward", "loss": "davidson", "ensemble": 2, "train": ADAPTER}, PAIRS),
}
TRAINED = {"prompt": 3 * 32, "prefix": 3 * 2 * 2 * 32, "head": 32}


def test_what_was_asked_for_is_what_moves(folder, tiny_model: Path) -> None:
    runs = {
        name: folder(name, {**SETTINGS, **spec}, {"data/train.jsonl": rows})
        for name, (spec, rows) in CASES.items()
    }
    statuses = run_together(*runs.values())
    assert statuses == [0] * len(runs), {name: run.result()["error"] for name, run in runs.items()}
    for name, run in runs.items():
        kind = CASES[name][0]["train"]["kind"]
        counted = run.events("started")[0]["parameters"]
        assert counted["trainable"] == {"all": counted["total"], **TRAINED}.get(kind, counted["trainable"])
        assert (counted["trainable"] < counted["total"]) == (kind != "all")
    check_blocks(runs, tiny_model)
    check_scores(runs["ties-adapter"], folder, tiny_model)


def check_blocks(runs: dict, tiny_model: Path) -> None:
    """Of last_layers the last block moved, and no other weight of the backbone."""
    from safetensors.torch import load_file

    before = load_file(tiny_model / "model.safetensors")
    for name, run in runs.items():
        if name.endswith("-last"):
            after = run.weights()
            moved = {key for key in before if key in after and not torch.equal(before[key], after[key])}
            assert moved == {key for key in before if key.startswith("model.layers.1.")}, name


def check_scores(run, folder, model: Path) -> None:
    """An adapter alone of a reward model with two members is read as one: trained on, and asked to score."""
    output = run.path / "output"
    told = json.loads((output / "scores.json").read_text())
    assert told == {"score_heads": [""], "score_members": 2}
    more = folder(
        "more", {**SETTINGS, **CASES["ties-adapter"][0], "model": str(output)}, {"data/train.jsonl": PAIRS}
    )
    sample = {"recipe": "sample", "data": {"prompts": "data/p.jsonl"}, "models": {"one": str(model)}}
    sample |= {"reward_model": str(output), "max_new_tokens": 4, "max_length": 64}
    scored = folder("scored", sample, {"data/p.jsonl": prompt_rows(2)})
    assert run_together(more, scored) == [0, 0]
    rows = [json.loads(line) for line in (scored.path / "output/samples.jsonl").read_text().splitlines()]
    assert all(row["reward_deviation"] > 0 for row in rows)


ONLINE = {
    "steps": 3,
    "unfinished_penalty": None,
    "max_new_tokens": 4,
    "max_length": 64,
    "learning_rate": 0.02,
    "save_every": 50,
}
GROUPS = {"prompts_per_step": 2, "samples_per_prompt": 2, "batch_size": 4}
LORA = {"kind": "lora", "r": 2, "targets": ["q_proj"]}
ONLINE_CASES = {
    "grpo-last": {"recipe": "grpo", **GROUPS, "train": LAST},
    "rloo-all": {"recipe": "rloo", **GROUPS, "train": {"kind": "all"}},
    "rloo-rslora": {"recipe": "rloo", **GROUPS, "train": {**LORA, "variant": "rslora"}},
    "grpo-on": {"recipe": "grpo", **GROUPS, "train": ADAPTER},
    "online_dpo-last": {"recipe": "online_dpo", "prompts_per_step": 2, "batch_size": 2, "train": LAST},
    "ppo-dora": {"recipe": "ppo", "rollout_batch_size": 4, "train": {**LORA, "variant": "dora"}},
    "ppo-last": {"recipe": "ppo", "rollout_batch_size": 4, "train": LAST},
}


def test_online_recipes_start_where_the_adapter_left_off(folder, tiny_model: Path) -> None:
    """They begin with an adapter over a base: merged, or trained on. The KL is measured from there, not from
    the base.
    """
    prompts = {"data/train.jsonl": prompt_rows(4)}
    demonstrations = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in PAIRS]
    sft = {**SETTINGS, "recipe": "sft", "train": {**ADAPTER, "alpha": 64}}
    start = folder("start", sft, {"data/train.jsonl": demonstrations})
    assert run_together(start) == [0]
    model, data = str(start.path / "output"), {"train": "data/train.jsonl"}
    shared = {**ONLINE, "data": data, "model": model, "reward_model": "models/reward"}
    rejection = {"recipe": "rejection", "samples_per_prompt": 2, "max_steps": 2, "train": ADAPTER}
    rejection |= {name: shared[name] for name in shared if name not in ("steps",)}
    runs = {
        name: folder(
            name, {**shared, **case, **({"minibatch_size": 4} if "ppo" in name[:3] else {})}, prompts
        )
        for name, case in ONLINE_CASES.items()
    }
    runs["rejection-on"] = folder("rejection-on", rejection, prompts)
    for run in runs.values():
        write_reward_model(run.path / "models/reward", tiny_model)
    statuses = run_together(*runs.values())
    assert statuses == [0] * len(runs), {name: run.result()["error"] for name, run in runs.items()}
    for name in ONLINE_CASES:
        assert runs[name].values(1)["kl"] == pytest.approx(0, abs=1e-4), name
        assert abs(runs[name].values(3)["kl"]) > 1e-4, name  # the first step warms up
    assert (runs["rejection-on"].path / "output/adapter_config.json").is_file()
    assert not (runs["grpo-on"].path / "output/model.safetensors").exists()
    assert runs["grpo-last"].result()["kind"] == "policy"
