"""Fine-tuning on preferences directly: the loss by hand, what moved, resuming, cancelling, the reference's
cache.
"""

import json
import math
import random
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.recipes.conftest import (  # noqa: E402  # after importorskip
    Folder,
    assistant,
    preference_rows,
    run_all,
    user,
    write_rows,
)

pytestmark = [pytest.mark.recipes, pytest.mark.timeout(4000)]
DATA = {"train": "data/train.jsonl", "eval": "data/eval.jsonl"}
SETTINGS = {
    "threads": 1,
    "seed": 7,
    "data": DATA,
    "batch_size": 4,
    "max_steps": 5,
    "save_every": 2,
    "learning_rate": 0.003,
    "warmup_ratio": 0,
    "lora": None,
}
LORA = {"r": 2, "targets": ["q_proj"]}
STRENGTHS = ("significantly", "better", "slightly", "negligibly")


def pairs() -> list[dict]:
    rows = preference_rows(4)
    for row, strength in zip(rows, STRENGTHS, strict=True):
        row["strength"] = strength
    return rows


def labelled() -> list[dict]:
    return [row | {"label": 0.6 if index == 3 else None} for index, row in enumerate(pairs())]


def tied() -> list[dict]:
    return [row | {"tie": index == 1} for index, row in enumerate(pairs())]


def verdicts() -> list[dict]:
    said = (("yes gladly", True), ("no", False), ("maybe", False), ("go away", False))
    return [
        {"prompt": user(f"question {index}"), "completion": assistant(text), "label": label}
        for index, (text, label) in enumerate(said)
    ]


CASES: dict[str, tuple[dict, list[dict]]] = {
    "ipo": ({"recipe": "dpo", "loss_type": "ipo"}, pairs()),
    "rdpo": ({"recipe": "dpo", "loss_type": "robust", "agreement": 0.82}, pairs()),
    "cdpo": ({"recipe": "dpo", "loss_type": "cdpo", "agreement": 0.82}, labelled()),
    "odpo": ({"recipe": "dpo", "loss_type": "odpo", "margins": "large", "offset_scale": 0.5}, pairs()),
    "ties": (
        {
            "recipe": "dpo",
            "loss_type": "davidson",
            "lora": LORA,
            "precompute_reference": False,
            "sft_weight": 0.2,
        },
        tied(),
    ),
    "kto": ({"recipe": "kto", "undesirable_weight": 0.5}, verdicts()),
    "orpo": ({"recipe": "orpo", "beta": 0.3, "lora": LORA}, pairs()),
    "simpo": ({"recipe": "simpo", "beta": 2.5, "gamma_ratio": 0.4}, tied()),
}


def place(path: Path, spec: dict, rows: list[dict], model: Path) -> Folder:
    for file in DATA.values():
        write_rows(path / file, rows)
    (path / "spec.json").write_text(json.dumps({**SETTINGS, "model": str(model), **spec}))
    return Folder(path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, dict[str, Folder]]:
    """Each case undisturbed ("calm")."""
    home = tmp_path_factory.mktemp("preferences")
    found = {
        name: {kind: Folder(home / name / kind) for kind in ("calm", "stopped", "again")} for name in CASES
    }
    for name, (spec, rows) in CASES.items():
        place(found[name]["calm"].path, spec, rows, tiny_model)
    run_all([case["calm"] for case in found.values()])
    return found


@pytest.fixture(scope="module")
def taken_up(runs: dict[str, dict[str, Folder]]) -> dict[str, dict[str, Folder]]:
    """Each case also stopped by request after a resumed step ("stopped"), and then taken up ("again")."""
    ignored = shutil.ignore_patterns(
        "output", "result.json", "checkpoint-4"
    )  # as a kill after step 2 leaves it
    for case in runs.values():
        shutil.copytree(case["calm"].path, case["stopped"].path, ignore=ignored)
        (case["stopped"].path / "cancel").touch()
    run_all([case["stopped"] for case in runs.values()])
    for case in runs.values():
        shutil.copytree(case["stopped"].path, case["again"].path)
        (case["again"].path / "cancel").unlink()
    run_all([case["again"] for case in runs.values()])
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_stopped_and_taken_up_it_ends_with_the_same_bits(taken_up, name: str) -> None:
    calm, stopped, again = (taken_up[name][kind] for kind in ("calm", "stopped", "again"))
    assert calm.result()["status"] == "succeeded", calm.result()["error"]
    assert (calm.result()["kind"], calm.result()["step"]) == ("policy", 5)
    assert (stopped.result()["status"], stopped.result()["step"]) == ("cancelled", 3)
    assert stopped.result()["model"] == "output"
    assert again.events("started")[-1]["resumed_from"] == 3
    assert again.result()["files"] == calm.result()["files"]
    assert again.values(5)["loss"] == calm.values(5)["loss"]


@pytest.mark.parametrize("name", CASES)
def test_what_should_move_moved_and_nothing_else(runs, name: str, tiny_model: Path) -> None:
    from safetensors.torch import load_file

    before, after = load_file(tiny_model / "model.safetensors"), runs[name]["calm"].weights()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved == {key for key in before if not CASES[name][0].get("lora") or "q_proj" in key}
    assert set(after) == set(before)


class Scorer:
    """A model's log-probabilities, by transformers alone; of a checkpoint, or of an adapter over the
    start.
    """

    def __init__(self, start: Path, checkpoint: Path | None = None) -> None:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(start)
        adapted = checkpoint is not None and (checkpoint / "adapter_config.json").exists()
        self.model = AutoModelForCausalLM.from_pretrained(start if adapted else checkpoint or start)
        if adapted:
            self.model = PeftModel.from_pretrained(self.model, checkpoint)

    def tokens(self, prompt: list[dict], response: list[dict], *, whole: bool = False) -> list[float]:
        """log p of each token of the response, its end included; of the prompt's too if `whole`."""
        full = self.tokenizer.apply_chat_template(prompt + response, return_dict=False)
        start = len(self.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False))
        with torch.no_grad():
            logp = self.model(torch.tensor([full])).logits[0].double().log_softmax(-1)
        return [logp[place - 1, full[place]].item() for place in range(1 if whole else start, len(full))]


def ratios(run: Folder, start: Path, rows: list[tuple[list, list]]) -> list[float]:
    """log(policy / reference) of each (prompt, response), the policy as it was after step 4."""
    policy, reference = Scorer(start, run.path / "checkpoints/checkpoint-4"), Scorer(start)
    return [sum(policy.tokens(*row)) - sum(reference.tokens(*row)) for row in rows]


def sides(rows: list[dict], side: str) -> list[tuple[list, list]]:
    return [(row["prompt"], row[side]) for row in rows]


def nll(difference: float) -> float:
    """-log sigmoid(difference)."""
    return math.log1p(math.exp(-difference))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_the_losses_of_pairs_at_the_last_step_by_hand(runs, tiny_model: Path) -> None:
    beta, noise, found = 0.1, 0.1, {}
    for name in ("ipo", "rdpo", "cdpo", "odpo", "ties"):
        run, rows = runs[name]["calm"], CASES[name][1]
        chosen, rejected = (ratios(run, tiny_model, sides(rows, side)) for side in ("chosen", "rejected"))
        found[name] = [beta * (a - b) for a, b in zip(chosen, rejected, strict=True)]
        if name == "ipo":
            count = [
                [len(one[0]["content"]) + 1 for _, one in sides(rows, side)]
                for side in ("chosen", "rejected")
            ]
            tau = [a / n - b / m for a, b, n, m in zip(chosen, rejected, *count, strict=True)]
            found[name] = [(value - 1 / (2 * beta)) ** 2 for value in tau]
    found["rdpo"] = [((1 - noise) * nll(d) - noise * nll(-d)) / (1 - 2 * noise) for d in found["rdpo"]]
    share = [0.9, 0.9, 0.9, 0.6]
    found["cdpo"] = [p * nll(d) + (1 - p) * nll(-d) for d, p in zip(found["cdpo"], share, strict=True)]
    found["odpo"] = [nll(d - 0.5 * m) for d, m in zip(found["odpo"], [3, 2, 1, 0], strict=True)]
    z = [math.exp(d / 2) + math.exp(-d / 2) + 2 for d in found["ties"]]
    found["ties"] = [math.log(total) - d / 2 for total, d in zip(z, found["ties"], strict=True)]
    found["ties"][1] = math.log(z[1] / 2)
    policy = Scorer(tiny_model, runs["ties"]["calm"].path / "checkpoints/checkpoint-4")
    likely = [logp for row in sides(tied(), "chosen") for logp in policy.tokens(*row)]
    losses = {name: mean(values) for name, values in found.items()}
    losses["ties"] -= 0.2 * mean(likely)
    for name, loss in losses.items():
        assert runs[name]["calm"].values(5)["loss"] == pytest.approx(loss, abs=1e-5), name


def test_the_loss_of_verdicts_at_the_last_step_by_hand(runs, tiny_model: Path) -> None:
    """KTO's eq. 7 with the KL over neighbours in a shuffled order; three bad ones weigh as much as the
    good one.
    """
    from training.recipes.generation import derive_seed

    run, rows = runs["kto"]["calm"], verdicts()
    random.Random(derive_seed(7, "kto")).shuffle(rows)
    rewards = ratios(run, tiny_model, sides(rows, "completion"))
    answers = [row["completion"] for row in rows]
    mixed = [(row["prompt"], answers[index - 1]) for index, row in enumerate(rows)]
    kl = max(0.0, mean(ratios(run, tiny_model, mixed)))
    each = []
    for row, reward in zip(rows, rewards, strict=True):
        toward = reward - kl if row["label"] else kl - reward
        each.append((1.5 if row["label"] else 0.5) * (1 - 1 / (1 + math.exp(-0.1 * toward))))
    assert run.values(5)["loss"] == pytest.approx(mean(each), abs=1e-5)


def test_the_losses_without_a_reference_at_the_first_step_by_hand(runs, tiny_model: Path) -> None:
    start = Scorer(tiny_model)

    def means(rows: list[dict], side: str) -> list[float]:
        return [mean(start.tokens(*row)) for row in sides(rows, side)]

    odds = [
        (a - math.log1p(-math.exp(a))) - (b - math.log1p(-math.exp(b)))
        for a, b in zip(means(pairs(), "chosen"), means(pairs(), "rejected"), strict=True)
    ]
    imitated = [logp for row in sides(pairs(), "chosen") for logp in start.tokens(*row, whole=True)]
    expected = -mean(imitated) + 0.3 * mean([nll(value) for value in odds])
    assert runs["orpo"]["calm"].values(1)["loss"] == pytest.approx(expected, abs=1e-5)

    decided = [row for row in tied() if not row["tie"]]
    expected = mean(
        [
            nll(2.5 * (a - b) - 0.4 * 2.5)
            for a, b in zip(means(decided, "chosen"), means(decided, "rejected"), strict=True)
        ]
    )
    assert runs["simpo"]["calm"].values(1)["loss"] == pytest.approx(expected, abs=1e-5)
    warnings = [event["message"] for event in runs["simpo"]["calm"].events("warning")]
    assert "1 of 4 pairs are ties and were left out" in warnings


@pytest.mark.slow
def test_the_reference_is_computed_once_and_a_warm_run_has_the_same_bits(runs, tmp_path, tiny_model) -> None:
    """Without a cache, with an empty one, a filled one, and a damaged one."""
    cache = tmp_path / "cache"
    names = ("cdpo", "kto")
    made = {
        (name, kind): place(tmp_path / name / kind, *CASES[name], tiny_model)
        for kind in ("cold", "warm", "damaged", "other")
        for name in names
    }
    other = made["cdpo", "other"].path / "spec.json"
    other.write_text(json.dumps(json.loads(other.read_text()) | {"max_length": 64}))
    run_all(
        [made[name, kind] for kind in ("cold", "warm") for name in names], RATCHET_REFERENCE_CACHE=str(cache)
    )
    files = {path: path.read_bytes() for path in cache.iterdir()}
    assert len(files) == 3  # training and held-out rows; DPO's are the same here
    times = {path: path.stat().st_mtime_ns for path in files}
    for path in files:
        path.write_bytes(files[path][:-4] + b"\0\0\0\1")
    run_all(
        [made[name, "damaged"] for name in names] + [made["cdpo", "other"]],
        RATCHET_REFERENCE_CACHE=str(cache),
    )
    for name in names:
        expected = runs[name]["calm"].result()["files"]
        for kind in ("cold", "warm", "damaged"):
            assert made[name, kind].result()["files"] == expected, (name, kind)
        assert not made[name, "warm"].events("warning")
        assert "is damaged" in made[name, "damaged"].events("warning")[0]["message"]
    assert {path: path.read_bytes() for path in files} == files  # written anew, with the same bits
    assert all(path.stat().st_mtime_ns > times[path] for path in files)
    assert len(list(cache.iterdir())) == 4  # another max_length has numbers of its own


def test_kto_needs_both_kinds(folder) -> None:
    rows = [row | {"label": True} for row in verdicts()]
    run = folder("one-sided", {"recipe": "kto", "data": {"train": "data/t.jsonl"}}, {"data/t.jsonl": rows})
    run_all([run])
    assert run.result()["error"]["code"] == "bad_data"
    assert "needs both kinds" in run.result()["error"]["message"]
