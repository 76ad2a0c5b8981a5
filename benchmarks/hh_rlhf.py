"""Real preferences on a real small model: HH-RLHF imported, a reward model, DPO and PPO on TinyStories 260K.

    python -m benchmarks.hh_rlhf [--data DIR] [--model DIR]

Prints what the import said, the reward model's held-out accuracy beside the length-only baseline, and what
short runs of DPO and PPO did. The model knows nothing but simple stories, and the figures say so.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, SHARED, prepare_installation, run_recipe, scratch, share, table

HELPFUL = ("helpful-base", "helpful-online", "helpful-rejection-sampled")
HARMLESS = ("harmless-base",)
EVAL_PERCENT = 20
MAX_LENGTH = 384
MAX_NEW_TOKENS = 64
SAMPLED_PROMPTS = 64
THREADS = 1


def import_files(data: Path) -> dict[str, Any]:
    """Import the four files into two projects, through the command, and freeze a snapshot of each."""
    from rating.services.projects import create_project
    from training.services.snapshots import freeze_snapshot

    snapshots = {}
    for slug, names in {"helpful": HELPFUL, "harmless": HARMLESS}.items():
        project = create_project(None, name=slug.capitalize(), slug=slug, eval_percent=EVAL_PERCENT)
        for name in names:
            path = data / f"{name}.test.jsonl.gz"
            print(f"\n{path.name}", flush=True)
            subprocess.run(
                [sys.executable, "manage.py", "import_data", "--project", slug, str(path)],
                cwd=ROOT,
                check=True,
            )
        snapshots[slug] = freeze_snapshot(project)
        print(f"\nsnapshot of {slug}: {snapshots[slug].counts}", flush=True)
    return snapshots


def learning(directory: Path, snapshot: Path, rows: str) -> dict[str, Any]:
    """The fields that the learning runs share; the rows are copied into the run directory."""
    (directory / "data").mkdir(parents=True, exist_ok=True)
    spec: dict[str, Any] = {"threads": THREADS, "max_length": MAX_LENGTH, "data": {}, "seed": 0}
    for split in ("train", "eval"):
        shutil.copy(snapshot / f"{rows}.{split}.jsonl", directory / "data")
        spec["data"][split] = f"data/{rows}.{split}.jsonl"
    return spec


def fit_reward(home: Path, snapshot: Path, model: Path) -> tuple[dict[str, Any], Path]:
    """A reward model of every weight, one pass; its metrics and its directory."""
    directory = home / "reward"
    spec = learning(directory, snapshot, "preference")
    spec |= {"recipe": "reward", "model": str(model), "train": {"kind": "all"}, "epochs": 1, "batch_size": 16}
    result = run_recipe(directory, spec | {"learning_rate": 3e-4})
    print(f"reward: {result['seconds']:.0f} s, {result['metrics']}", flush=True)
    return result["metrics"], directory / result["model"]


def fit_dpo(home: Path, snapshot: Path, model: Path) -> Path:
    """A short run of DPO over every weight."""
    directory = home / "dpo"
    spec = learning(directory, snapshot, "preference")
    spec |= {
        "recipe": "dpo",
        "model": str(model),
        "train": {"kind": "all"},
        "batch_size": 16,
        "learning_rate": 1e-4,
    }
    spec |= {"max_steps": 40}
    result = run_recipe(directory, spec)
    print(f"dpo: {result['seconds']:.0f} s, {result['metrics']}", flush=True)
    return directory / str(result["model"])


def fit_ppo(home: Path, snapshot: Path, model: Path, reward: Path) -> Path:
    """A short run of PPO against the reward model."""
    directory = home / "ppo"
    spec = learning(directory, snapshot, "prompts")
    spec |= {"recipe": "ppo", "model": str(model), "reward_model": str(reward), "steps": 8}
    spec |= {"learning_rate": 3e-4, "value_learning_rate": 3e-4, "max_new_tokens": MAX_NEW_TOKENS}
    spec |= {"rollout_batch_size": 32, "minibatch_size": 16, "unfinished_penalty": None}
    result = run_recipe(directory, spec)
    print(f"ppo: {result['seconds']:.0f} s, {result['metrics']}", flush=True)
    return directory / str(result["model"])


def compare(home: Path, snapshot: Path, models: dict[str, Path], reward: Path) -> str:
    """The same held-out prompts, answered by each model: mean score, KL to the first, length."""
    directory = home / "compared"
    (directory / "data").mkdir(parents=True, exist_ok=True)
    shutil.copy(snapshot / "prompts.eval.jsonl", directory / "data")
    spec: dict[str, Any] = {
        "recipe": "sample",
        "threads": THREADS,
        "data": {"prompts": "data/prompts.eval.jsonl"},
        "models": {name: str(path) for name, path in models.items()},
        "limit": SAMPLED_PROMPTS,
        "temperature": 1.0,
        "max_new_tokens": MAX_NEW_TOKENS,
        "max_length": MAX_LENGTH,
        "reward_model": str(reward),
        "reference": str(models["base"]),
    }
    metrics = run_recipe(directory, spec)["metrics"]
    rows = [
        [name, *(f"{metrics[f'{name}/{measure}']:.2f}" for measure in ("reward", "kl", "tokens"))]
        for name in models
    ]
    return table(["model", "mean score", "mean KL to base, nats", "mean tokens"], rows)


def main() -> None:
    """Import, fit, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED / "data/hh-rlhf", help="the four files")
    parser.add_argument("--model", type=Path, default=SHARED / "models/tinystories-260k", help="the model")
    parser.add_argument("--home", type=Path, help="keep everything here (default: a temporary directory)")
    options = parser.parse_args()
    if not options.data.is_dir() or not options.model.is_dir():
        raise SystemExit(
            f"{options.data} or {options.model} is not there: name them with --data and --model."
        )
    began = time.monotonic()
    with scratch(options.home) as home:
        prepare_installation(home)
        snapshot = import_files(options.data)["helpful"].directory
        metrics, reward = fit_reward(home, snapshot, options.model)
        n = int(metrics["eval/pairs"])
        rows = [
            ["reward model", share(metrics["eval/accuracy"] * n, n)],
            ["the longer response", share(metrics["eval/length_accuracy"] * n, n)],
        ]
        print(f"\n{table([f'held-out accuracy, {n} pairs that fit', '[95% interval]'], rows)}\n", flush=True)
        models = {"base": options.model}
        models["dpo"] = fit_dpo(home, snapshot, options.model)
        models["ppo"] = fit_ppo(home, snapshot, options.model, reward)
        print(f"\n{compare(home, snapshot, models, reward)}\n\n{time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
