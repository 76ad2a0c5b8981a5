"""Reward models with the losses that TRL has not: step 1 by hand, what moved, resuming, cancelling,
scoring.
"""

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
    prompt_rows,
    run_all,
    user,
    write_reward_model,
)

pytestmark = [pytest.mark.recipes, pytest.mark.timeout(4000)]
DATA = {"train": "data/train.jsonl", "eval": "data/eval.jsonl"}
SETTINGS = {
    "data": DATA,
    "model": "models/start",
    "batch_size": 4,
    "max_steps": 5,
    "save_every": 2,
    "learning_rate": 0.003,
    "warmup_ratio": 0,
    "lora": None,
}
STRENGTHS = ("significantly", "better", "slightly", "negligibly")
LORA = {"r": 2, "targets": ["q_proj"]}
NU, THRESHOLD = 1.0, math.log(3)


def pairs(count: int = 4) -> list[dict]:
    rows = preference_rows(count)
    for index, row in enumerate(rows):
        row["strength"] = STRENGTHS[index % 4]
        row["head"] = ("helpful", "safe")[index % 2]
    return rows


def tied(count: int = 4) -> list[dict]:
    return [row | {"tie": index == 1} for index, row in enumerate(pairs(count))]


def soft(count: int = 4) -> list[dict]:
    return [row | {"label": (1, 0.7, 0.5, 0.1)[index % 4]} for index, row in enumerate(pairs(count))]


def rankings(count: int = 4) -> list[dict]:
    texts = ("yes gladly", "well", "no", "never")
    return [
        {
            "prompt": user(f"question {index}"),
            "completions": [assistant(f"{text} {index}") for text in texts[: 2 + index % 3]],
            "ranks": [1, 2, 2, 3][: 2 + index % 3],
        }
        for index in range(count)
    ]


def ratings(count: int = 4) -> list[dict]:
    return [
        {
            "prompt": user(f"question {index // 2}"),
            "completion": assistant(("yes gladly", "no")[index % 2]),
            "rating": (1, 0.25, 0.75, 0)[index % 4],
            "ratings": {"helpful": 1.0} if index % 2 else {"helpful": 0.5, "safe": 0.0},
        }
        for index in range(count)
    ]


CASES: dict[str, tuple[dict, list[dict]]] = {
    "margins": ({"recipe": "reward", "margins": "large"}, pairs()),
    "scaled": ({"recipe": "reward", "loss": "scaled", "margins": "large", "lora": LORA}, pairs()),
    "soft": ({"recipe": "reward", "center_coefficient": 0.1, "agreement": 0.82}, soft()),
    "davidson": ({"recipe": "reward", "loss": "davidson", "lora": LORA}, tied()),
    "rao_kupper": ({"recipe": "reward", "loss": "rao_kupper", "tie_parameter": 0.5}, tied()),
    "heads": ({"recipe": "reward", "heads": ["helpful", "safe"], "ensemble": 3}, pairs()),
    "ranking": ({"recipe": "reward_ranking"}, rankings()),
    "ranking_ties": ({"recipe": "reward_ranking", "loss": "rao_kupper"}, rankings()),
    "rating": ({"recipe": "reward_rating"}, ratings()),
    "ordinal": ({"recipe": "reward_rating", "loss": "ordinal", "heads": ["helpful", "safe"]}, ratings()),
}
OUTPUTS = {"heads": 6, "ordinal": 2}


def copy_interrupted(run: Folder, name: str) -> Folder:
    """The directory as a kill after step 2 would have left it, with the request to stop."""
    target = run.path.with_name(name)
    shutil.copytree(run.path, target, ignore=shutil.ignore_patterns("output", "result.json", "checkpoint-4"))
    (target / "cancel").touch()
    return Folder(target)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, dict[str, Folder]]:
    """Each case undisturbed ("calm")."""
    home = tmp_path_factory.mktemp("rewards")
    found: dict[str, dict[str, Folder]] = {}
    for name, (spec, rows) in CASES.items():
        path = home / name / "calm"
        (path / "data").mkdir(parents=True)
        for file in DATA.values():
            (path / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
        write_reward_model(path / "models/start", tiny_model, OUTPUTS.get(name, 1))
        (path / "spec.json").write_text(json.dumps({"threads": 1, "seed": 7, **SETTINGS, **spec}))
        found[name] = {"calm": Folder(path)}
    run_all([case["calm"] for case in found.values()])
    return found


@pytest.fixture(scope="module")
def taken_up(runs: dict[str, dict[str, Folder]]) -> dict[str, dict[str, Folder]]:
    """Each case also stopped by request after a resumed step ("stopped"), and then taken up ("again")."""
    for case in runs.values():
        case["stopped"] = copy_interrupted(case["calm"], "stopped")
    run_all([case["stopped"] for case in runs.values()])
    for case in runs.values():
        case["again"] = Folder(case["calm"].path.with_name("again"))
        shutil.copytree(case["stopped"].path, case["again"].path)
        (case["again"].path / "cancel").unlink()
    run_all([case["again"] for case in runs.values()])
    return runs


def logits(path: Path, conversation: list[dict]) -> list[float]:
    """A reward model's outputs, by transformers alone."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForSequenceClassification.from_pretrained(path)
    ids = tokenizer.apply_chat_template(conversation, return_dict=False)
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].double().tolist()


def differences(path: Path, rows: list[dict]) -> list[list[float]]:
    both = [[logits(path, row["prompt"] + row[side]) for side in ("chosen", "rejected")] for row in rows]
    return [[a - b for a, b in zip(*pair, strict=True)] for pair in both]


def nll(difference: float) -> float:
    """-log sigmoid(difference)."""
    return math.log1p(math.exp(-difference))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_stopped_and_taken_up_it_ends_with_the_same_bits(taken_up, name: str) -> None:
    calm, stopped, again = (taken_up[name][kind] for kind in ("calm", "stopped", "again"))
    assert calm.result()["status"] == "succeeded", calm.result()["error"]
    assert (calm.result()["kind"], calm.result()["step"]) == ("reward", 5)
    assert (stopped.result()["status"], stopped.result()["step"]) == ("cancelled", 3)
    assert stopped.result()["model"] == "output"
    assert again.events("started")[-1]["resumed_from"] == 3
    assert again.result()["files"] == calm.result()["files"]
    assert again.result()["metrics"] == {
        key: value if key != "tokens_per_second" else again.result()["metrics"][key]
        for key, value in calm.result()["metrics"].items()
    }


@pytest.mark.parametrize("name", CASES)
def test_what_should_move_moved_and_nothing_else(runs, name: str) -> None:
    run = runs[name]["calm"]
    before, after = run.weights("models/start"), run.weights()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    everything = (
        set(before)
        if CASES[name][0].get("lora") is None
        else {key for key in before if "q_proj" in key or key == "score.weight"}
    )
    assert moved == everything
    learned = {
        "davidson": {"score.log_tie"},
        "ranking_ties": {"score.log_tie"},
        "ordinal": {"score.thresholds"},
    }
    assert set(after) - set(before) == learned.get(name, set())


def test_step_one_of_pairs_by_hand(runs) -> None:
    """Every variant begins with the same model: one score per response."""
    start = runs["margins"]["calm"].path / "models/start"
    d = [row[0] for row in differences(start, pairs())]
    worth = [3, 2, 1, 0]
    expected = {
        "margins": mean([nll(x - m) for x, m in zip(d, worth, strict=True)]),
        "scaled": mean([m * nll(x) for x, m in zip(d, worth, strict=True)]),
    }
    z = [math.exp(x / 2) + math.exp(-x / 2) + 2 * NU for x in d]
    davidson = [math.log(total) - x / 2 for x, total in zip(d, z, strict=True)]
    davidson[1] = math.log(z[1] / (2 * NU))
    expected["davidson"] = mean(davidson)
    rao_kupper = [nll(x - 0.5) for x in d]
    rao_kupper[1] = -math.log((math.e - 1) * sigmoid(d[1] - 0.5) * sigmoid(-d[1] - 0.5))
    expected["rao_kupper"] = mean(rao_kupper)
    sums = [
        sum(logits(start, row["prompt"] + row[side])[0] for side in ("chosen", "rejected")) for row in pairs()
    ]
    labels = [1, 0.7, 0.5, 0.1]
    expected["soft"] = mean(
        [p * nll(x) + (1 - p) * nll(-x) + 0.1 * s * s for x, p, s in zip(d, labels, sums, strict=True)]
    )
    for name, loss in expected.items():
        assert runs[name]["calm"].values(1)["loss"] == pytest.approx(loss, abs=1e-5), name


def test_step_one_of_several_heads_and_members_by_hand(runs) -> None:
    """Each pair is its own head's; each member counts it as often as its Poisson resample says."""
    from training.recipes.comparisons import resample
    from training.recipes.heads import Heads

    run = runs["heads"]["calm"]
    times = resample(4, Heads(("helpful", "safe"), 3), 7)
    assert times != [[1.0] * 3] * 4
    found = [
        mean([nll(row[head * 3 + member]) * times[index][member] for member in range(3)])
        for index, (row, head) in enumerate(
            zip(differences(run.path / "models/start", pairs()), (0, 1, 0, 1), strict=True)
        )
    ]
    assert run.values(1)["loss"] == pytest.approx(mean(found), abs=1e-5)
    report = run.values(5, "evaluation")
    assert (report["pairs"], report["helpful/pairs"], report["safe/pairs"]) == (4, 2, 2)
    assert report["ensemble_deviation"] > 0


def test_step_one_of_rankings_by_hand(runs) -> None:
    """All pairs of a ranking, divided by their number; then the mean over the rankings."""
    start = runs["ranking"]["calm"].path / "models/start"
    plain, with_ties = [], []
    for row in rankings():
        scores = [logits(start, row["prompt"] + one)[0] for one in row["completions"]]
        strict, every = [], []
        for i, a in enumerate(scores):
            for j, b in enumerate(scores[i + 1 :], i + 1):
                if row["ranks"][i] < row["ranks"][j]:
                    strict.append(nll(a - b))
                    every.append(nll(a - b - THRESHOLD))
                else:
                    every.append(-math.log(8 * sigmoid(a - b - THRESHOLD) * sigmoid(b - a - THRESHOLD)))
        plain.append(mean(strict))
        with_ties.append(mean(every))
    assert runs["ranking"]["calm"].values(1)["loss"] == pytest.approx(mean(plain), abs=1e-5)
    assert runs["ranking_ties"]["calm"].values(1)["loss"] == pytest.approx(mean(with_ties), abs=1e-5)
    assert runs["ranking"]["calm"].values(5, "evaluation")["pairs"] == 1 + 2 + 5 + 1
    assert runs["ranking"]["calm"].values(5, "evaluation")["ties"] == 2


def test_step_one_of_ratings_by_hand(runs) -> None:
    start = runs["rating"]["calm"].path / "models/start"
    scores = [logits(start, row["prompt"] + row["completion"])[0] for row in ratings()]
    squares = [(s - row["rating"]) ** 2 for s, row in zip(scores, ratings(), strict=True)]
    assert runs["rating"]["calm"].values(1)["loss"] == pytest.approx(mean(squares), abs=1e-5)
    report = runs["rating"]["calm"].values(5, "evaluation")
    assert (report["ratings"], report["pairs"]) == (4, 2)  # two prompts, each with a better response

    start = runs["ordinal"]["calm"].path / "models/start"
    cuts = [-math.inf, *(math.log(k / (5 - k)) for k in range(1, 5)), math.inf]
    found = []
    for row in ratings():
        scores = logits(start, row["prompt"] + row["completion"])
        terms = []
        for place, name in enumerate(("helpful", "safe")):
            if name in row["ratings"]:
                level = round(row["ratings"][name] * 4)
                upper = sigmoid(cuts[level + 1] - scores[place]) if level < 4 else 1.0
                lower = sigmoid(cuts[level] - scores[place]) if level > 0 else 0.0
                terms.append(-math.log(upper - lower))
        found.append(sum(terms))
    assert runs["ordinal"]["calm"].values(1)["loss"] == pytest.approx(mean(found), abs=1e-5)


def test_the_report_has_intervals_strengths_calibration_and_ceiling(runs) -> None:
    event = runs["soft"]["calm"].events("evaluation")[-1]
    assert (event["values"]["pairs"], event["values"]["ties"]) == (3, 1)
    assert event["values"]["ceiling_high"] == pytest.approx(0.9)
    assert {"accuracy_low", "accuracy_high", "length_accuracy", "calibration_error"} < set(event["values"])
    assert sum(row["pairs"] for row in event["calibration"]) == 3
    assert runs["margins"]["calm"].values(5, "evaluation")["significantly/pairs"] == 1


def test_who_takes_one_score_gets_the_mean_of_the_first(runs) -> None:
    """As PPO does, which knows nothing of heads and members."""
    from transformers import AutoModelForSequenceClassification

    from training.recipes.heads import keep_first_score, read_heads

    made = runs["heads"]["calm"].path / "output"
    model = AutoModelForSequenceClassification.from_pretrained(made)
    heads = read_heads(model.config)
    assert (heads.names, heads.members) == (("helpful", "safe"), 3)
    ids = torch.tensor([[1, 40, 50, 60]])
    with torch.no_grad():
        every = model(ids).logits[0]
        keep_first_score(model, heads)
        assert model(ids).logits[0].tolist() == pytest.approx([every[:3].mean().item()], abs=1e-6)


def test_an_ensemble_scores_samples_by_its_mean_and_says_how_sure_it_is(
    runs, folder, tiny_model: Path
) -> None:
    made = runs["heads"]["calm"].path / "output"
    spec = {
        "recipe": "sample",
        "data": {"prompts": "data/p.jsonl"},
        "models": {"policy": str(tiny_model)},
        "reward_model": str(made),
        "max_new_tokens": 4,
        "max_length": 64,
    }
    run = folder("sample", spec, {"data/p.jsonl": prompt_rows(2)})
    assert run.run().returncode == 0
    rows = [json.loads(line) for line in (run.path / "output/samples.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    for row in rows:
        found = logits(made, row["prompt"] + assistant(row["response"]))
        assert row["reward"] == pytest.approx(mean(found[:3]), abs=1e-5)
        assert row["reward_deviation"] == pytest.approx(torch.tensor(found[:3]).std().item(), abs=1e-5)
        assert row["rewards"]["safe"] == pytest.approx(mean(found[3:]), abs=1e-5)
    assert run.result()["metrics"]["policy/reward_deviation"] > 0
