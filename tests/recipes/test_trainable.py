"""What is trained, through the command line: which weights move, what is saved, how it goes on."""

import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.recipes.conftest import (  # noqa: E402  # after importorskip
    Folder,
    assistant,
    preference_rows,
    prompt_rows,
    run_together,
    user,
    write_reward_model,
)

pytestmark = pytest.mark.recipes
DATA = {"data": {"train": "data/train.jsonl"}}
PAIRS = {"data/train.jsonl": preference_rows(12)}
ROWS = {"data/train.jsonl": [{"prompt": r["prompt"], "completion": r["chosen"]} for r in preference_rows(12)]}
FAST = {"learning_rate": 0.02, "max_steps": 3, "batch_size": 4, "warmup_ratio": 0, "weight_decay": 0}
SMALL = {"kind": "lora", "r": 2, "alpha": 8, "targets": ["q_proj", "down_proj"]}
BLOCK_1 = "model.layers.1."


def load(path: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(path / "model.safetensors")


def moved(before: dict, after: dict) -> set[str]:
    assert set(before) <= set(after)
    return {name for name in before if not torch.equal(before[name], after[name])}


def finish(*runs: Folder) -> None:
    statuses = run_together(*runs)
    assert statuses == [0] * len(runs), (runs[0].path / "log").read_text()
    assert {run.result()["status"] for run in runs} == {"succeeded"}


def begin_again(run: Folder, name: str, step: int) -> Folder:
    """A copy of a finished run as it was when it was killed after its checkpoint at `step`."""
    path = run.path.with_name(name)
    shutil.copytree(run.path, path)
    shutil.rmtree(path / "output")
    (path / "result.json").unlink()
    for checkpoint in (path / "checkpoints").glob("checkpoint-*"):
        if checkpoint.name != f"checkpoint-{step}":
            shutil.rmtree(checkpoint)
    return Folder(path)


def logits(model, ids: list[int]):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1]


def test_the_last_layers_and_the_head_alone(folder, tiny_model: Path) -> None:
    last = folder(
        "last", {"recipe": "sft", **DATA, **FAST, "train": {"kind": "last_layers", "layers": 1}}, ROWS
    )
    head = folder("head", {"recipe": "sft", **DATA, **FAST, "train": {"kind": "head"}}, ROWS)
    finish(last, head)
    before = load(tiny_model)
    assert moved(before, last.weights()) == {name for name in before if name.startswith(BLOCK_1)}
    # The head was one with the embeddings: it is parted from them, and they stay.
    assert moved(before, head.weights()) == set()
    assert not torch.equal(head.weights()["lm_head.weight"], before["model.embed_tokens.weight"])
    counts = {run.path.name: run.events("started")[0]["parameters"]["trainable"] for run in (last, head)}
    assert counts["head"] == before["model.embed_tokens.weight"].numel()
    assert counts["last"] == sum(t.numel() for name, t in before.items() if name.startswith(BLOCK_1))


def test_the_same_of_a_reward_model_and_of_ppo(folder, tiny_model: Path) -> None:
    head = folder("head", {"recipe": "reward", **DATA, **FAST, "train": {"kind": "head"}}, PAIRS)
    ppo_spec = {"recipe": "ppo", **DATA, "reward_model": "models/reward", "steps": 1, "rollout_batch_size": 4}
    ppo_spec |= {"minibatch_size": 4, "max_new_tokens": 4, "learning_rate": 0.02}
    ppo_spec |= {"train": {"kind": "last_layers", "layers": 1}}
    ppo = folder("ppo", ppo_spec, {"data/train.jsonl": prompt_rows(4)})
    write_reward_model(ppo.path / "models/reward", tiny_model)
    finish(head, ppo)
    before = load(tiny_model)
    backbone = {name: tensor for name, tensor in before.items() if name.startswith("model.")}
    assert moved(backbone, head.weights()) == set()
    assert head.events("started")[0]["parameters"]["trainable"] == 32
    assert moved(before, ppo.weights()) == {name for name in before if name.startswith(BLOCK_1)}


def test_variants_of_lora_move_their_layers_and_go_on_exactly(folder, tiny_model: Path) -> None:
    """From any checkpoint the bits are those of an undisturbed run."""
    runs = {}
    for variant in ("rslora", "dora", "adalora"):
        train = {**SMALL, "variant": variant, "dropout": 0.1}
        spec = {"recipe": "sft", **DATA, **FAST, "max_steps": 30, "save_every": 10, "train": train}
        spec |= {"learning_rate": 0.003, "gradient_accumulation": 2, "batch_size": 2}
        runs[variant] = folder(variant, spec, ROWS)
    finish(*runs.values())
    plan = [("rslora", 10), ("dora", 10), ("adalora", 10), ("adalora", 20)]
    again = [begin_again(runs[variant], f"{variant}-{step}", step) for variant, step in plan]
    finish(*again)
    before = load(tiny_model)
    for resumed, (variant, step) in zip(again, plan, strict=True):
        calm = runs[variant]
        assert resumed.events("started")[-1]["resumed_from"] == step
        assert moved(calm.weights(), resumed.weights()) == set()
        assert moved(before, calm.weights()) == {n for n in before if "q_proj" in n or "down_proj" in n}
        config = json.loads((calm.path / "output/adapter/adapter_config.json").read_text())
        assert (config["use_rslora"], config["use_dora"]) == (variant == "rslora", variant == "dora")
        assert (config["peft_type"] == "ADALORA") == (variant == "adalora")
        assert 0 <= calm.result()["merge"]["max_abs_difference"] < 1e-4
    check_ranks(runs["adalora"])


def check_ranks(run: Folder) -> None:
    """Of 3 ranks in each of 4 matrices, 8 are left in all: 2 on average, dealt unevenly or not."""
    from safetensors.torch import load_file

    adapter = load_file(run.path / "output/adapter/adapter_model.safetensors")
    values = [tensor for name, tensor in adapter.items() if "lora_E" in name]
    assert [len(tensor) for tensor in values] == [3] * 4
    assert sum(int((tensor != 0).sum()) for tensor in values) == 8


def test_an_adapter_alone_goes_on_is_merged_and_is_swapped(folder, tiny_model: Path) -> None:
    """One base; an adapter saved alone, trained on, merged into a whole model, and sampled unmerged."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    alone = {**SMALL, "save": "adapter"}
    spec = {"recipe": "sft", **DATA, **FAST}
    first = folder("first", {**spec, "train": alone}, ROWS)
    finish(first)
    output = first.path / "output"
    files = {path.name for path in output.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= files
    assert "model.safetensors" not in files
    assert json.loads((output / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        tiny_model
    )
    assert (first.result()["base"], first.result()["merge"]) == (str(tiny_model), None)

    # On with the same adapter by DPO (the reference is the adapter as it was), and merged before everything.
    preference = {"recipe": "dpo", **DATA, **FAST, "model": str(output), "save_every": 2}
    second = folder("second", {**preference, "train": {**alone, "r": 4}}, PAIRS)
    whole = folder("whole", {**spec, "model": str(output), "train": {"kind": "all"}, "max_steps": 1}, ROWS)
    reward = folder("reward", {**preference, "recipe": "reward", "train": SMALL}, PAIRS)
    finish(second, whole, reward)
    assert second.values(1)["loss"] == pytest.approx(0.6931, abs=1e-4)
    assert "in the size it has (2 and 8)" in second.events("warning")[0]["message"]
    config = json.loads((second.path / "output/adapter_config.json").read_text())
    assert (config["r"], config["base_model_name_or_path"]) == (2, str(tiny_model))
    assert whole.result()["merge"]["max_abs_difference"] < 1e-4
    assert reward.weights()["score.weight"].shape == (1, 32)

    start = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), str(output))
    merged = folder(
        "merged", {**spec, "model": str(output), "train": {"kind": "all"}, "learning_rate": 1e-12}, ROWS
    )
    sample = folder(
        "sample",
        {
            "recipe": "sample",
            "data": {"prompts": "data/p.jsonl"},
            "models": {"one": str(output), "two": str(second.path / "output"), "base": str(tiny_model)},
            "temperature": 0,
            "max_new_tokens": 8,
            "max_length": 64,
        },
        {"data/p.jsonl": prompt_rows(3)},
    )
    again = begin_again(second, "second-again", 2)
    finish(merged, sample, again)
    weights = "output/adapter_model.safetensors"
    assert (again.path / weights).read_bytes() == (second.path / weights).read_bytes()
    ids = [7, 20, 30, 40]
    loaded = AutoModelForCausalLM.from_pretrained(merged.path / "output")
    assert torch.allclose(logits(loaded, ids), logits(start, ids), atol=1e-4)
    check_samples(sample, {"one": start, "base": AutoModelForCausalLM.from_pretrained(tiny_model)})
    assert [event["message"] for event in sample.events("warning")] == []


def check_samples(sample: Folder, models: dict) -> None:
    """The rows are what each model writes by itself, token by token."""
    from transformers import AutoTokenizer

    rows = [json.loads(line) for line in (sample.path / "output/samples.jsonl").read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(sample.path / "../first/output")
    for row in rows:
        if row["model"] not in models:
            continue
        ids = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
        written: list[int] = []
        while len(written) < 8 and tokenizer.eos_token_id not in written:
            written.append(int(logits(models[row["model"]], ids + written).argmax()))
        assert row["response"] == tokenizer.decode(written, skip_special_tokens=True).strip()
    assert len({row["response"] for row in rows}) > 3
    assert {row["model"] for row in rows} == {"one", "two", "base"}


def test_virtual_tokens(folder, tiny_model: Path) -> None:
    """Only they move; saved alone, resumed, trained on, sampled; a model that has them cannot be merged."""
    probes = {"prompts": "data/p.jsonl", "count": 2, "max_new_tokens": 4}
    prompts = [{"id": "a", "prompt": user("x")}, {"id": "b", "prompt": user("a longer one")}]
    files = {**ROWS, "data/p.jsonl": prompts}
    spec = {"recipe": "sft", **DATA, **FAST, "max_steps": 12, "save_every": 10, "probes": probes}
    trains = {
        "prompt": {"kind": "prompt", "tokens": 5, "start": "answer gladly"},
        "prefix": {"kind": "prefix", "tokens": 5},
    }
    runs = {kind: folder(kind, {**spec, "train": train}, files) for kind, train in trains.items()}
    finish(*runs.values())
    again = {kind: begin_again(run, f"{kind}-again", 10) for kind, run in runs.items()}
    sample = {"recipe": "sample", "data": {"prompts": "data/p.jsonl"}, "temperature": 0, "max_new_tokens": 4}
    models = {kind: str(run.path / "output") for kind, run in runs.items()}
    together = folder("together", {**sample, "models": models, "reference": str(tiny_model)}, files)
    apart = folder(
        "apart", {**sample, "models": models, "batch_size": 1, "reference": str(tiny_model)}, files
    )
    on = {
        kind: folder(f"{kind}-on", {**spec, "train": trains[kind], "model": models[kind]}, files)
        for kind in runs
    }
    finish(*again.values(), together, apart, *on.values())
    for kind, run in runs.items():
        trained = 5 * 32 if kind == "prompt" else 5 * 2 * 2 * 32
        assert run.events("started")[0]["parameters"]["trainable"] == trained
        assert run.values(12)["loss"] < run.values(1)["loss"]
        assert on[kind].values(1)["loss"] < run.values(1)["loss"]
        assert not (run.path / "output/model.safetensors").exists()
        weights = "output/adapter_model.safetensors"
        assert (again[kind].path / weights).read_bytes() == (run.path / weights).read_bytes()
    # Prompts of different lengths in one batch are answered as each is by itself.
    rows = [
        [json.loads(line) for line in (each.path / "output/samples.jsonl").read_text().splitlines()]
        for each in (together, apart)
    ]
    assert [row["response"] for row in rows[0]] == [row["response"] for row in rows[1]]
    for one, other in zip(*rows, strict=True):
        assert one["kl"] == pytest.approx(other["kl"], abs=1e-4)
        assert one["kl"] > 0


def test_what_cannot_be_trained_is_refused(folder, tiny_model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"peft_type": "PREFIX_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 2}
    config |= {"base_model_name_or_path": str(tiny_model), "num_layers": 2, "token_dim": 32}
    config |= {"num_attention_heads": 2, "num_transformer_submodules": 1}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    (pickled := tmp_path / "pickled").mkdir()
    shutil.copy(adapter / "adapter_config.json", pickled)
    (pickled / "adapter_model.bin").write_bytes(b"")
    from safetensors.torch import save_file

    save_file({"prompt_embeddings": torch.zeros(2, 128)}, adapter / "adapter_model.safetensors")
    cases = [
        ({"train": {"kind": "last_layers", "layers": 9}}, "bad_spec", "train.layers: the model has 2 blocks"),
        (
            {"train": {**SMALL, "targets": ["no_such"]}},
            "bad_spec",
            "train.targets: the model has no layer no_such",
        ),
        ({"train": {**SMALL, "variant": "adalora"}}, "bad_spec", "train.variant: adalora"),
        ({"train": {"kind": "all"}, "model": str(adapter)}, "bad_model", "cannot be merged"),
        ({"train": {**SMALL, "save": "adapter"}, "model": str(adapter)}, "bad_model", "train.save to merged"),
        ({"train": {"kind": "all"}, "model": str(pickled)}, "bad_model", "adapter_model.safetensors"),
    ]
    if not torch.cuda.is_available():
        cases.append(({"train": {"kind": "qlora"}}, "bad_spec", "train.kind: qlora needs a CUDA device"))
    rows = {"data/train.jsonl": [{"prompt": user("x"), "completion": assistant("y")}]}
    runs = [
        folder(f"run-{number}", {"recipe": "sft", **DATA, **change, "max_steps": 1}, rows)
        for number, (change, _, _) in enumerate(cases)
    ]
    assert run_together(*runs) == [1] * len(runs)
    for run, (_, code, words) in zip(runs, cases, strict=True):
        assert run.result()["error"]["code"] == code, run.result()["error"]
        assert words in run.result()["error"]["message"]
