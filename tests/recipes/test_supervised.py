"""Learning from fixed rows: which tokens are learned, packing, early stopping, schedules."""

import json
import math
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.recipes.conftest import (  # noqa: E402  # after importorskip
    Folder,
    assistant,
    preference_rows,
    run_together,
    user,
)
from tests.recipes.test_train import load, mean_logp, moved  # noqa: E402

pytestmark = pytest.mark.recipes
DATA = {"data": {"train": "data/train.jsonl"}}
HELD_OUT = {"data": {"train": "data/train.jsonl", "eval": "data/eval.jsonl"}}
STEP = {"learning_rate": 1e-12, "max_steps": 1, "warmup_ratio": 0, "train": {"kind": "all"}}
EARLIER = [{"role": "system", "content": "Be kind."}, *user("first"), *assistant("an earlier turn")]


def finish(*runs: Folder) -> None:
    assert run_together(*runs) == [0] * len(runs), (runs[0].path / "log").read_text()


def demonstrations(count: int) -> list[dict]:
    """Of several lengths; every second one has an earlier turn of the assistant in its prompt."""
    return [
        {
            "prompt": (EARLIER if index % 2 else []) + user(f"question {index}"),
            "completion": assistant("yes " * (index % 4 + 1)),
        }
        for index in range(count)
    ]


@pytest.mark.parametrize("packing", [False, True])
def test_the_labels_are_the_response_and_its_end_alone(folder, packing: bool) -> None:
    """What the trainer is given, read back as text; the assistant's earlier turns are not learned."""
    from training.recipes.rundir import Run
    from training.recipes.sft import make_trainer
    from training.recipes.spec import parse_spec

    rows = demonstrations(6)
    spec = {"recipe": "sft", **DATA, **STEP, "packing": packing, "batch_size": 6, "device": "cpu"}
    run = folder("run", spec, {"data/train.jsonl": rows})
    parsed = parse_spec(json.loads((run.path / "spec.json").read_text()))
    trainer, callback = make_trainer(parsed, Run(run.path, parsed))
    (batch,) = trainer.get_train_dataloader()
    learned = [
        callback.tokenizer.decode(segment)
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True)
        for segment in segments(ids, labels)
    ]
    assert sorted(learned) == sorted(row["completion"][0]["content"] + "</s>" for row in rows)
    assert ("attention_mask" in batch) != packing
    if packing:
        starts = (batch["position_ids"][0] == 0).sum().item()
        assert (starts, len(batch["input_ids"])) == (6, 1)


def segments(ids, labels) -> list[list[int]]:
    """The runs of tokens that have a label; each label is its token."""
    found: list[list[int]] = [[]]
    for token, label in zip(ids.tolist(), labels.tolist(), strict=True):
        if label == -100:
            found.append([])
        else:
            assert label == token
            found[-1].append(token)
    return [segment for segment in found if segment]


def test_packed_rows_and_chosen_responses_give_the_loss_of_each_row_alone(folder, tiny_model: Path) -> None:
    """Step 1 against log-probabilities by hand, row by row: no row sees another."""
    rows, pairs = demonstrations(7), preference_rows(4)
    spec = {"recipe": "sft", **DATA, **STEP, "batch_size": 8}
    packed = folder("packed", {**spec, "packing": True}, {"data/train.jsonl": rows})
    chosen = folder("chosen", spec, {"data/train.jsonl": pairs})
    lora = {"kind": "lora", "r": 2}
    adapted = folder("adapted", {**spec, "packing": True, "train": lora}, {"data/train.jsonl": rows})
    both = folder("both", spec, {"data/train.jsonl": [rows[0] | pairs[0]]})
    assert run_together(packed, chosen, adapted, both) == [0, 0, 0, 1]
    assert packed.values(1)["loss"] == pytest.approx(mean_logp(tiny_model, rows), abs=1e-5)
    assert adapted.values(1)["loss"] == pytest.approx(mean_logp(tiny_model, rows), abs=1e-5)
    better = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in pairs]
    assert chosen.values(1)["loss"] == pytest.approx(mean_logp(tiny_model, better), abs=1e-5)
    assert both.result()["error"]["message"].startswith("train.jsonl, line 1: has a completion and a chosen")


def test_early_stopping_keeps_the_best_model(folder, tiny_model: Path) -> None:
    """The held-out rows are answered the other way: the better it learns, the worse they are."""
    rows = preference_rows(8)
    turned = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    files = {"data/train.jsonl": rows, "data/eval.jsonl": turned}
    fast = {"learning_rate": 0.02, "batch_size": 8, "warmup_ratio": 0, "schedule": "constant"}
    fast |= {"train": {"kind": "lora", "r": 2, "targets": ["q_proj"]}}
    stop = {**HELD_OUT, **fast, "max_steps": 40, "eval_every": 1, "patience": 3, "save_every": 2}
    runs = {
        "sft": folder("sft", {"recipe": "sft", **stop}, files),
        "dpo": folder("dpo", {"recipe": "dpo", **stop, "best_by": "accuracy"}, files),
        "reward": folder("reward", {"recipe": "reward", **stop}, files),
    }
    finish(*runs.values())
    best: dict[str, int] = {}
    shorter, again = [], []
    for recipe, run in runs.items():
        last = run.result()["step"]
        assert last < 40
        measure = "accuracy" if recipe == "dpo" else "loss"
        found = {row["step"]: row["values"][measure] for row in run.events("evaluation")}
        pick = max if recipe == "dpo" else min
        best[recipe] = pick(found, key=lambda step, found=found: found[step])
        assert last == best[recipe] + 3
        assert run.result()["metrics"]["best_step"] == best[recipe]
        assert run.result()["metrics"][f"eval/{measure}"] == found[best[recipe]]
        assert f"the model of step {best[recipe]} is kept" in run.events("warning")[-1]["message"]
        spec = {"recipe": recipe, **DATA, **fast, "max_steps": best[recipe]}
        shorter.append(folder(f"{recipe}-shorter", spec, files))
        again.append(killed_copy(run))
    finish(*shorter, *again)
    for run, one, other in zip(runs.values(), shorter, again, strict=True):
        assert moved(run.weights(), one.weights()) == set()
        assert moved(run.weights(), other.weights()) == set()
        assert other.result()["step"] == run.result()["step"]
    assert moved(load(tiny_model), runs["sft"].weights())


def killed_copy(run: Folder) -> Folder:
    """The run as it was when it was killed after its first checkpoint that is left."""
    path = run.path.with_name(f"{run.path.name}-killed")
    shutil.copytree(run.path, path)
    shutil.rmtree(path / "output")
    (path / "result.json").unlink()
    checkpoints = sorted((path / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    for checkpoint in checkpoints[1:]:
        shutil.rmtree(checkpoint)
    return Folder(path)


def test_schedules_end_where_they_should(folder) -> None:
    """Step 10 of 10: a cosine to a tenth of the peak, one to 0, a line to 0, and a constant."""
    spec = {"recipe": "sft", **DATA, **STEP, "learning_rate": 1e-3, "max_steps": 10, "batch_size": 1}
    cases = {
        "tenth": ({}, 0.1 + 0.9 * (1 + math.cos(0.9 * math.pi)) / 2),
        "zero": ({"min_learning_rate_ratio": 0}, (1 + math.cos(0.9 * math.pi)) / 2),
        "line": ({"schedule": "linear"}, 0.1),
        "constant": ({"schedule": "constant"}, 1.0),
    }
    rows = {"data/train.jsonl": demonstrations(4)}
    runs = {name: folder(name, {**spec, **change}, rows) for name, (change, _) in cases.items()}
    finish(*runs.values())
    for name, (_, share) in cases.items():
        assert runs[name].values(10)["learning_rate"] == pytest.approx(1e-3 * share, rel=1e-6), name
