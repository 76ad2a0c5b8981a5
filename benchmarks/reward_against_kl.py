"""Every method against the same reward model: how much reward for how much KL, on HH-RLHF and a tiny model.

    python -m benchmarks.reward_against_kl [--data DIR] [--model DIR] [--plot FILE] [--home DIR]

A reward model is fitted to the helpful files of HH-RLHF; each method then trains the same base model at a
strong and at a weak hold on it, and all of them answer the same held-out prompts at temperature 1. Printed is
a table, drawn is reward against the exact KL to the base model. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import time
from pathlib import Path
from typing import Any

from benchmarks.common import SHARED, read_rows, scratch, table, write_rows
from benchmarks.scatter import Group, draw_scatter
from training.recipes.alarms import distinct_share, length_controlled_mean
from training.recipes.run import main as run_recipe
from training.recipes.spec import RECIPES

FILES = ("helpful-base", "helpful-online", "helpful-rejection-sampled")
TURN = re.compile(r"\n\n(Human|Assistant): ?")
HELD_OUT = 64
MAX_NEW_TOKENS = 32
MAX_LENGTH = 96  # of prompt and response where the response is written; of pairs twice that
SHAPE: dict[str, Any] = {"threads": 1, "seed": 0, "max_length": 2 * MAX_LENGTH, "train": {"kind": "all"}}
ROLLOUT: dict[str, Any] = {
    "max_new_tokens": MAX_NEW_TOKENS,
    "max_length": MAX_LENGTH,
    "unfinished_penalty": None,
}
GROUPS: dict[str, Any] = {"prompts_per_step": 8, "samples_per_prompt": 4, "batch_size": 32}
# Per method: what it always has, then the strong hold and the weak one.
METHODS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "ppo": (
        ROLLOUT
        | {"learning_rate": 3e-4, "value_learning_rate": 3e-4, "steps": 20, "rollout_batch_size": 32}
        | {"minibatch_size": 16, "ppo_epochs": 2},
        [{"kl_coefficient": 0.1}, {"kl_coefficient": 0.01}],
    ),
    "rloo": (
        ROLLOUT | GROUPS | {"learning_rate": 5e-4, "steps": 30},
        [{"beta": 0.1}, {"beta": 0.01}],
    ),
    "grpo": (
        ROLLOUT | GROUPS | {"learning_rate": 5e-4, "steps": 30},
        [{"beta": 0.5}, {"beta": 0.04}],
    ),
    "online_dpo": (
        ROLLOUT | {"prompts_per_step": 16, "batch_size": 16, "learning_rate": 2e-4, "steps": 30},
        [{"beta": 0.5}, {"beta": 0.1}],
    ),
    "dpo": ({"batch_size": 16, "learning_rate": 1e-4, "max_steps": 40}, [{"beta": 0.5}, {"beta": 0.1}]),
    "kto": ({"batch_size": 16, "learning_rate": 1e-4, "max_steps": 40}, [{"beta": 0.5}, {"beta": 0.1}]),
    "rejection": (
        ROLLOUT | {"temperature": 1.0, "learning_rate": 5e-4, "epochs": 3, "batch_size": 16},
        [{"samples_per_prompt": 4}, {"samples_per_prompt": 16}],
    ),
}
NAMES = {"ppo": "PPO", "rloo": "RLOO", "grpo": "GRPO", "online_dpo": "online DPO", "dpo": "DPO", "kto": "KTO"}
NAMES |= {"rejection": "rejection sampling"}
REJECTION_PROMPTS = 48


def read_pairs(data: Path) -> list[dict[str, Any]]:
    """HH-RLHF's rows as preferences, where both sides share all but a last response that is not empty."""
    pairs = []
    for name in FILES:
        with gzip.open(data / f"{name}.test.jsonl.gz", "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        for row in rows:
            chosen, rejected = (messages(row[side]) for side in ("chosen", "rejected"))
            last = [turns[-1] for turns in (chosen, rejected) if turns]
            whole = len(last) == 2 and all(m["role"] == "assistant" and m["content"] for m in last)
            if whole and len(chosen) > 1 and chosen[:-1] == rejected[:-1] and chosen != rejected:
                pairs.append({"prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]})
    return pairs


def messages(text: str) -> list[dict[str, str]]:
    """The transcript as chat messages."""
    _, *parts = TURN.split(text)
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[who], "content": said.strip()}
        for who, said in zip(parts[::2], parts[1::2], strict=True)
    ]


def write_data(home: Path, data: Path) -> None:
    """data/ for all runs: pairs and prompts, the held-out prompts apart."""
    pairs = read_pairs(data)
    for start, row in enumerate(pairs):
        row["id"] = str(start)
    held_out, train = pairs[::8], [row for place, row in enumerate(pairs) if place % 8]
    prompts = [{"id": row["id"], "prompt": row["prompt"]} for row in train]
    write_rows(home / "data/pairs.jsonl", [{k: v for k, v in row.items() if k != "id"} for row in train])
    write_rows(home / "data/eval.jsonl", [{k: v for k, v in row.items() if k != "id"} for row in held_out])
    write_rows(home / "data/prompts.jsonl", prompts)
    write_rows(home / "data/few.jsonl", prompts[:: len(prompts) // REJECTION_PROMPTS][:REJECTION_PROMPTS])
    few = held_out[:: len(held_out) // HELD_OUT][:HELD_OUT]
    write_rows(home / "data/held-out.jsonl", [{"id": row["id"], "prompt": row["prompt"]} for row in few])
    print(f"{len(train)} pairs to learn from, {len(held_out)} held out", flush=True)


def run_in(home: Path, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A run beside the shared data/, in this process: most of a short one would be the import of torch."""
    directory = home / name
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "data").exists():
        (directory / "data").symlink_to(home / "data")
    (directory / "spec.json").write_text(json.dumps(spec))
    status = run_recipe([str(directory / "spec.json")])
    result: dict[str, Any] = json.loads((directory / "result.json").read_text())
    if status or result["status"] != "succeeded":
        raise SystemExit(f"{name}: {result['error']}")
    print(f"  {name}: {result['seconds']:.0f} s", flush=True)
    return result


def rows_of(recipe: str) -> str:
    return {"dpo": "pairs", "kto": "ratings", "rejection": "few"}.get(recipe, "prompts")


def train_all(home: Path, model: Path, reward: Path) -> dict[str, dict[str, Any]]:
    """Every method at every hold: {name: {"recipe", "change", "seconds", "path"}}."""
    made: dict[str, dict[str, Any]] = {}
    if "kto" in RECIPES:
        pairs = read_rows(home / "data/pairs.jsonl")
        sides = [(pair, side) for pair in pairs for side in ("chosen", "rejected")]
        rated = [
            {"prompt": pair["prompt"], "completion": pair[side], "label": side == "chosen"}
            for pair, side in sides
        ]
        write_rows(home / "data/ratings.jsonl", rated)
    for recipe, (shared, holds) in METHODS.items():
        if recipe not in RECIPES:
            continue
        for number, change in enumerate(holds, start=1):
            name = f"{recipe}-{number}"
            spec = SHAPE | shared | change | {"recipe": recipe, "model": str(model)}
            spec["data"] = {"train": f"data/{rows_of(recipe)}.jsonl"}
            if "reward_model" in RECIPES[recipe].model_fields:
                spec["reward_model"] = str(reward)
            result = run_in(home, name, spec)
            made[name] = {"recipe": recipe, "change": change, "seconds": result["seconds"]}
    return made


def measure(home: Path, model: Path, reward: Path, names: list[str]) -> dict[str, dict[str, float]]:
    """The same held-out prompts, answered by all: means per model, and the standard error of the reward."""
    spec = {
        "recipe": "sample",
        "threads": 1,
        "data": {"prompts": "data/held-out.jsonl"},
        "models": {"base": str(model)} | {name: str(home / name / "output") for name in names},
        "reward_model": str(reward),
        "reference": str(model),
        "temperature": 1.0,
        "max_new_tokens": MAX_NEW_TOKENS,
        "max_length": MAX_LENGTH,
        "batch_size": 32,
        "samples_per_prompt": 2,
    }
    run_in(home, "measured", spec)
    rows = read_rows(home / "measured/output/samples.jsonl")
    found: dict[str, dict[str, float]] = {}
    start = sum(row["tokens"] for row in rows if row["model"] == "base") / (2 * HELD_OUT)
    for name in ("base", *names):
        own = [row for row in rows if row["model"] == name]
        rewards, lengths = [row["reward"] for row in own], [float(row["tokens"]) for row in own]
        mean = sum(rewards) / len(own)
        variance = sum((value - mean) ** 2 for value in rewards) / (len(own) - 1)
        found[name] = {
            "reward": mean,
            "error": (variance / len(own)) ** 0.5,
            "controlled": length_controlled_mean(rewards, lengths, start),
            "kl": sum(row["kl"] for row in own) / len(own),
            "tokens": sum(lengths) / len(own),
            "distinct": distinct_share([[hash(word) for word in row["response"].split()] for row in own], 2),
        }
    return found


def training_path(home: Path, name: str) -> list[tuple[float, float]]:
    """(KL, reward) of the training steps, five averaged; none where a method does not sample as it goes."""
    events = [json.loads(line) for line in (home / name / "events.jsonl").read_text().splitlines()]
    steps = [event["values"] for event in events if event["event"] == "metrics"]
    steps = [values for values in steps if "kl" in values and "reward" in values]
    parts = [steps[start : start + 5] for start in range(0, len(steps) - 4, 5)]
    return [(max(0.0, sum(v["kl"] for v in part) / 5), sum(v["reward"] for v in part) / 5) for part in parts]


def draw(home: Path, made: dict[str, dict[str, Any]], found: dict[str, dict[str, float]]) -> str:
    """The picture: per method the base and its measured models by KL, over the path of its weak hold."""
    groups = []
    for recipe in METHODS:
        names = sorted((n for n in made if made[n]["recipe"] == recipe), key=lambda n: found[n]["kl"])
        if names:
            rows = [found["base"], *(found[name] for name in names)]
            points = [(row["kl"], row["reward"]) for row in rows]
            path = training_path(home, f"{recipe}-2")
            groups.append(Group(NAMES[recipe], points, [row["error"] for row in rows], path))
    title = "Reward on held-out prompts against the KL to the base model, by method"
    return draw_scatter(title, "KL to the base model, nats per response", "mean reward", groups)


def report(made: dict[str, dict[str, Any]], found: dict[str, dict[str, float]]) -> str:
    """The table, base first."""
    rows = []
    for name in ("base", *made):
        row, run = found[name], made.get(name)
        setting = ", ".join(f"{key} {value:g}" for key, value in run["change"].items()) if run else ""
        rows.append(
            [
                NAMES[run["recipe"]] if run else "base model",
                setting,
                f"{row['reward']:.2f} ± {row['error']:.2f}",
                f"{row['controlled']:.2f}",
                f"{row['kl']:.2f}",
                f"{row['tokens']:.1f}",
                f"{row['distinct']:.2f}",
                f"{run['seconds']:.0f}" if run else "",
            ]
        )
    head = ["method", "setting", "mean reward ± s.e.", "at the base's length", "KL, nats", "tokens"]
    return table([*head, "distinct pairs of words", "seconds"], rows)


def main() -> None:
    """Fit, train, measure, print, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED / "data/hh-rlhf", help="the HH-RLHF files")
    parser.add_argument("--model", type=Path, default=SHARED / "models/tinystories-260k", help="the model")
    parser.add_argument("--plot", type=Path, help="write the picture here, as SVG")
    parser.add_argument("--home", type=Path, help="keep everything here (default: a temporary directory)")
    options = parser.parse_args()
    if not options.data.is_dir() or not options.model.is_dir():
        raise SystemExit(
            f"{options.data} or {options.model} is not there: name them with --data and --model."
        )
    began = time.monotonic()
    with scratch(options.home) as home:
        write_data(home.resolve(), options.data)
        home, model = home.resolve(), options.model.resolve()
        spec = SHAPE | {"recipe": "reward", "model": str(model), "max_steps": 60, "batch_size": 16}
        spec |= {"learning_rate": 3e-4, "data": {"train": "data/pairs.jsonl", "eval": "data/eval.jsonl"}}
        metrics = run_in(home, "reward", spec)["metrics"]
        pairs, accuracy = metrics["eval/pairs"], metrics["eval/accuracy"]
        print(f"reward model: {accuracy:.1%} of {pairs:.0f} held-out pairs", flush=True)
        reward = home / "reward/output"
        made = train_all(home, model, reward)
        found = measure(home, model, reward, list(made))
        print(f"\n{report(made, found)}\n")
        if options.plot:
            options.plot.write_text(draw(home, made, found))
        print(f"{time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
