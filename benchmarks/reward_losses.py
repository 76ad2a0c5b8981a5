"""Reward models by each loss on real preferences: HH-RLHF (helpful) and MT-Bench's human votes, from
TinyStories 260K.

    python -m benchmarks.reward_losses [--data DIR] [--model DIR] [--pairs 600]

Every model of a data set is judged on the same held-out pairs, of prompts that none was trained on, beside
the rule that prefers the longer response. Every weight is trained, in one pass; in four over MT-Bench's
rankings and ratings, which hold each response once and not in every pair.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import SHARED, scratch, share, table, write_rows

Row = dict[str, Any]
HELPFUL = ("helpful-base", "helpful-online", "helpful-rejection-sampled")
HELD_OUT_QUESTIONS = 15
MAX_CHARACTERS = 400  # of a response; MT-Bench's are mostly longer than the model can read, and are cut
MAX_LENGTH = 320
COMMON: Row = {
    "threads": 1,
    "seed": 0,
    "max_length": MAX_LENGTH,
    "train": {"kind": "all"},
    "learning_rate": 3e-4,
    "epochs": 1,
}


@dataclass
class Data:
    """Training rows by file name, held-out pairs, and the whole lengths of each held-out pair's responses."""

    files: dict[str, list[Row]]
    held_out: list[Row]
    lengths: list[tuple[int, int]]


def assistant(text: str) -> list[Row]:
    return [{"role": "assistant", "content": text}]


def read_gzip(path: Path) -> Iterator[Row]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def read_transcript(text: str) -> tuple[list[Row], str]:
    """HH-RLHF's "Human: ... Assistant: ..." as messages and the last response."""
    roles = {"Human": "user", "Assistant": "assistant"}
    messages: list[Row] = []
    for turn in text.split("\n\n"):
        speaker, colon, rest = turn.partition(":")
        if colon and speaker in roles:
            messages.append({"role": roles[speaker], "content": rest.strip()})
        elif messages:
            messages[-1]["content"] += "\n\n" + turn
    return messages[:-1], messages[-1]["content"]


def read_hh(folder: Path, count: int) -> Data:
    """So many training and held-out pairs of the helpful files; prompts are in one of the two."""
    rows = []
    for name in HELPFUL:
        for row in read_gzip(folder / f"{name}.test.jsonl.gz"):
            prompt, chosen = read_transcript(row["chosen"])
            other, rejected = read_transcript(row["rejected"])
            usable = prompt and prompt == other and prompt[-1]["role"] == "user" and chosen and rejected
            if usable and chosen != rejected and max(len(chosen), len(rejected)) <= MAX_CHARACTERS:
                rows.append({"prompt": prompt, "chosen": assistant(chosen), "rejected": assistant(rejected)})
    random.Random(0).shuffle(rows)
    openings = sorted({row["prompt"][0]["content"] for row in rows})
    held = set(random.Random(1).sample(openings, len(openings) // 3))
    train = [row for row in rows if row["prompt"][0]["content"] not in held][:count]
    held_out = [row for row in rows if row["prompt"][0]["content"] in held][:count]
    verdicts = [
        {"prompt": row["prompt"], "completion": row[side], "rating": float(side == "chosen")}
        for row in train
        for side in ("chosen", "rejected")
    ]
    lengths = [(len(row["chosen"][0]["content"]), len(row["rejected"][0]["content"])) for row in held_out]
    return Data({"pairs": train, "ratings": verdicts}, held_out, lengths)


def read_votes(path: Path) -> dict[tuple[int, str, str], list[float]]:
    """The first turns' votes by (question, model, model): 1 for the first model, 1/2 for a tie, 0 for the
    second.
    """
    votes: dict[tuple[int, str, str], list[float]] = defaultdict(list)
    for row in read_gzip(path):
        if row["turn"] == 1:
            value = {"model_a": 1.0, "model_b": 0.0}.get(row["winner"], 0.5)
            first, second = row["model_a"], row["model_b"]
            if first > second:
                first, second, value = second, first, 1 - value
            votes[row["question_id"], first, second].append(value)
    return votes


def read_mt_bench(folder: Path) -> Data:
    """Pairs with the votes' share as label, margin and tie; rankings and ratings by each model's mean
    share.
    """
    answers: dict[tuple[int, str], tuple[str, str]] = {}
    for row in read_gzip(folder / "human.jsonl.gz"):
        for side in ("a", "b"):
            talk = row[f"conversation_{side}"]
            answers[row["question_id"], row[f"model_{side}"]] = talk[0]["content"], talk[1]["content"]
    votes = read_votes(folder / "human.jsonl.gz")
    questions = sorted({question for question, _, _ in votes})
    held = set(random.Random(0).sample(questions, HELD_OUT_QUESTIONS))
    pairs: dict[bool, list[Row]] = {True: [], False: []}
    lengths = []
    shares: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (question, first, second), given in sorted(votes.items()):
        value = sum(given) / len(given)
        better, worse = (first, second) if value >= 0.5 else (second, first)
        texts = [answers[question, name][1] for name in (better, worse)]
        row = {
            "prompt": [{"role": "user", "content": answers[question, first][0]}],
            "chosen": assistant(texts[0][:MAX_CHARACTERS]),
            "rejected": assistant(texts[1][:MAX_CHARACTERS]),
            "label": max(value, 1 - value),
            "margin": abs(2 * value - 1),
            "tie": value == 0.5,
        }
        pairs[question in held].append(row)
        if question in held and value != 0.5:
            lengths.append((len(texts[0]), len(texts[1])))
        if question not in held:
            shares[question][first].append(value)
            shares[question][second].append(1 - value)
    files = {"pairs": pairs[False], **rank_answers(shares, answers)}
    return Data(files, [row for row in pairs[True] if not row["tie"]], lengths)


def rank_answers(
    shares: dict[int, dict[str, list[float]]], answers: dict[tuple[int, str], tuple[str, str]]
) -> dict[str, list[Row]]:
    """Rankings and ratings of each question's answers by their mean share of the votes."""
    files: dict[str, list[Row]] = {"rankings": [], "ratings": []}
    for question, found in shares.items():
        means = {name: sum(values) / len(values) for name, values in found.items()}
        prompt = [{"role": "user", "content": answers[question, next(iter(means))][0]}]
        texts = {name: assistant(answers[question, name][1][:MAX_CHARACTERS]) for name in means}
        ranks = [1 + sum(other > mean for other in means.values()) for mean in means.values()]
        files["rankings"].append({"prompt": prompt, "completions": list(texts.values()), "ranks": ranks})
        files["ratings"] += [
            {"prompt": prompt, "completion": texts[name], "rating": mean} for name, mean in means.items()
        ]
    return files


def without(rows: list[Row], *columns: str) -> list[Row]:
    """Rows without some of their columns."""
    return [{name: value for name, value in row.items() if name not in columns} for row in rows]


def plan_hh(data: Data) -> dict[str, tuple[Row, list[Row]]]:
    """What is fitted: the spec's own fields and the rows, by a name for the table."""
    pairs, ratings = data.files["pairs"], data.files["ratings"]
    return {
        "Bradley-Terry": ({"recipe": "reward"}, pairs),
        "Bradley-Terry, centred (0.01)": ({"recipe": "reward", "center_coefficient": 0.01}, pairs),
        "ensemble of 4 heads": ({"recipe": "reward", "ensemble": 4}, pairs),
        "regression on chosen 1, rejected 0": ({"recipe": "reward_rating"}, ratings),
        "ordinal, 2 levels": ({"recipe": "reward_rating", "loss": "ordinal", "levels": 2}, ratings),
    }


def plan_mt_bench(data: Data) -> dict[str, tuple[Row, list[Row]]]:
    """The same for MT-Bench, whose votes have ties and shares."""
    pairs, rankings, ratings = data.files["pairs"], data.files["rankings"], data.files["ratings"]
    hard, reward = without(pairs, "label"), {"recipe": "reward"}
    return {
        "Bradley-Terry, majority": (reward | {"margins": "none"}, hard),
        "with the votes' lead as margin": (reward, hard),
        "scaled by the votes' lead": (reward | {"loss": "scaled"}, hard),
        "soft labels, ties left out": (reward | {"margins": "none"}, pairs),
        "Davidson, with ties": (reward | {"loss": "davidson"}, without(hard, "margin")),
        "Rao-Kupper, with ties": (reward | {"loss": "rao_kupper"}, without(hard, "margin")),
        "rankings": ({"recipe": "reward_ranking", "batch_size": 2, "epochs": 4}, rankings),
        "rankings, Davidson": (
            {"recipe": "reward_ranking", "batch_size": 2, "epochs": 4, "loss": "davidson"},
            rankings,
        ),
        "regression on the share of wins": ({"recipe": "reward_rating", "epochs": 4}, ratings),
        "ordinal on it, 5 levels": ({"recipe": "reward_rating", "loss": "ordinal", "epochs": 4}, ratings),
    }


def fit(directory: Path, spec: Row, rows: list[Row]) -> Path:
    """Run the recipe in this process, which has torch already; the folder of its model."""
    from training.recipes.run import main as run_spec

    write_rows(directory / "data/train.jsonl", rows)
    (directory / "spec.json").write_text(json.dumps({"data": {"train": "data/train.jsonl"}, **spec}))
    with (
        (directory / "log.txt").open("w") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        run_spec([str(directory / "spec.json")])
    result = json.loads((directory / "result.json").read_text())
    if result["status"] != "succeeded":
        raise SystemExit(f"{directory.name} {result['status']}: {result['error']}")
    return directory / "output"


def open_run(directory: Path, model: Path) -> tuple[Any, Any]:
    """A run that only judges, for the recipes' own loading, and the model's tokenizer."""
    from training.recipes.models import load_tokenizer
    from training.recipes.rundir import Run
    from training.recipes.spec import parse_spec

    raw = {"recipe": "reward", "data": {"train": "none"}, "model": str(model), "threads": 1}
    run = Run(directory, parse_spec(raw))
    return run, load_tokenizer(run, str(model))


def keep_fitting(home: Path, data: Data, model: Path) -> Data:
    """Held-out pairs, their prompts cut to what the model can read; those too long even so are dropped."""
    from training.recipes.data import fit_prompt

    _, tokenizer = open_run(home, model)
    kept = []
    for row, lengths in zip(data.held_out, data.lengths, strict=True):
        prompt = fit_prompt(tokenizer, row["prompt"], [row["chosen"], row["rejected"]], MAX_LENGTH)
        if prompt is not None:
            kept.append((row | {"prompt": prompt}, lengths))
    return Data(data.files, [row for row, _ in kept], [lengths for _, lengths in kept])


def judge(model: Path, held_out: list[Row]) -> dict[str, Any]:
    """What the model says of the held-out pairs."""
    from training.recipes.data import Preference
    from training.recipes.models import load_heads
    from training.recipes.reward_report import report_comparisons

    run, tokenizer = open_run(model.parent, model)
    rows = [Preference(row["prompt"], row["chosen"], row["rejected"], None) for row in held_out]
    report: dict[str, Any] = report_comparisons(
        load_heads(run, str(model), tokenizer), tokenizer, rows, MAX_LENGTH, None
    )
    return report


def compare(home: Path, name: str, data: Data, plan: dict[str, tuple[Row, list[Row]]], base: Path) -> str:
    """The table of a data set."""
    home.mkdir(parents=True, exist_ok=True)
    data = keep_fitting(home, data, base)
    count = len(data.held_out)
    found = []
    for number, (title, (spec, rows)) in enumerate(plan.items()):
        began = time.process_time()
        model = fit(home / f"{name}-{number}", COMMON | {"batch_size": 8, "model": str(base)} | spec, rows)
        report = judge(model, data.held_out)
        cells = [title, len(rows), share(report["accuracy"] * count, count)]
        cells += [f"{report['calibration_error']:.3f}", f"{report['loss']:.3f}"]
        print(f"{name}: {title}: {cells[2]}, {time.process_time() - began:.0f} s of CPU", flush=True)
        found.append(cells)
    hits = sum(0.5 + 0.5 * ((a > b) - (a < b)) for a, b in data.lengths)
    found.append(["the longer response", "", share(hits, count), "", ""])
    accuracy = f"accuracy on {count} held-out pairs [95%]"
    head = ["loss", "rows", accuracy, "calibration error", "log loss, nats"]
    return table(head, found)


def main() -> None:
    """Read, fit, judge, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="hh-rlhf/ and mt-bench-human/")
    parser.add_argument("--model", type=Path, default=SHARED / "models/tinystories-260k", help="the model")
    parser.add_argument("--pairs", type=int, default=600, help="pairs of HH-RLHF: to train on, to hold out")
    parser.add_argument("--home", type=Path, help="keep everything here (default: a temporary directory)")
    options = parser.parse_args()
    if not options.data.is_dir() or not options.model.is_dir():
        raise SystemExit(
            f"{options.data} or {options.model} is not there: name them with --data and --model."
        )
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    began = time.process_time()
    with scratch(options.home) as home:
        hh = read_hh(options.data / "hh-rlhf", options.pairs)
        mt = read_mt_bench(options.data / "mt-bench-human")
        tables = {
            "HH-RLHF, helpful": compare(home, "hh", hh, plan_hh(hh), options.model),
            "MT-Bench, human votes": compare(home, "mt", mt, plan_mt_bench(mt), options.model),
        }
    print(f"\n`python -m benchmarks.reward_losses --pairs {options.pairs}`")
    for title, text in tables.items():
        print(f"\n{title}\n\n{text}")
    print(f"\n{time.process_time() - began:.0f} s of CPU")


if __name__ == "__main__":
    main()
