"""One turn of the wheel with a simulated rater: how often the model answers in the preferred manner.

    python -m benchmarks.one_turn [--judgments 160] [--seed 0]

The rater prefers warm answers and errs one time in ten. Its judgments go through the real services into
a real installation; the real trainer fits the reward model, DPO and PPO. Measured are responses to prompts
that were neither trained on nor rated. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import random
import time
import uuid
from pathlib import Path
from typing import Any

from benchmarks.common import (
    prepare_installation,
    read_rows,
    run_recipe,
    scratch,
    share,
    table,
    work_queue,
    write_rows,
)
from training.demo.corpus import demo_prompts
from training.demo.manners import Manner, classify_manner

NOISE = 0.1
MEASURED_FROM = 460  # the demo project has the held-out prompts before it
MAX_NEW_TOKENS = 120
NAMES = {"base": "before (base model)", "dpo": "after DPO", "ppo": "after PPO"}


def judge(project: Any, rater: Any, rng: random.Random) -> bool:
    """Lease the next item and answer it by taste; False when there is none."""
    from rating.models import Completion
    from rating.services.judgments import record_judgment
    from rating.services.leases import lease_next_item

    assignment = lease_next_item(project, rater)
    if assignment is None:
        return False
    texts = Completion.objects.in_bulk(assignment.order_shown)
    warm = [classify_manner(texts[pk].text) is Manner.WARM for pk in assignment.order_shown]
    record_judgment(assignment, choose(warm, rng), idempotency_key=uuid.uuid4())
    return True


def choose(warm: list[bool], rng: random.Random) -> Any:
    """The answer of a rater who likes warm responses; with probability NOISE the opposite, or a preference at
    random where there is none."""
    from rating.services.judgments import JudgmentAnswer

    errs = rng.random() < NOISE
    if len(warm) == 1:
        return JudgmentAnswer(rating=5 if warm[0] != errs else rng.choice([1, 2]))
    if warm[0] == warm[1]:
        if errs:
            return JudgmentAnswer(choice=rng.choice(["1", "2"]))
        return JudgmentAnswer(choice="tie" if warm[0] else "both_bad")
    return JudgmentAnswer(choice="1" if warm[0] != errs else "2")


def train(judgments: int, seed: int) -> dict[str, Path]:
    """Rate, freeze, fit; the model directories by name, and the reward model's as `reward`."""
    from rating.models import ModelVersion, User
    from rating.services.projects import rater_for
    from training.demo.settings import DEMO_DPO, DEMO_PPO, DEMO_REWARD
    from training.models import TrainingRun, Trigger
    from training.services.demo import seed_demo
    from training.services.runs import queue_plan, queue_run
    from training.services.versions import user_model

    project = seed_demo()
    Trigger.objects.filter(project=project).update(enabled=False)
    rater, rng = rater_for(project, User.objects.get(username="rater")), random.Random(seed)
    judged = sum(judge(project, rater, rng) for _ in range(judgments))
    base = user_model(project)
    plan = [
        {"recipe": "reward", "settings": DEMO_REWARD | {"seed": seed}},
        {"recipe": "dpo", "settings": DEMO_DPO | {"seed": seed}},
    ]
    runs = queue_plan(project, plan)
    snapshot = runs[0].snapshot
    assert base is not None
    assert snapshot is not None
    print(f"seed {seed}: {judged} judgments, rows: {snapshot.counts['rows']}", flush=True)
    work_queue()
    settings = DEMO_PPO | {"seed": seed}
    runs.append(queue_run(project, "ppo", settings, snapshot=snapshot, policy=base))
    work_queue()
    for run in TrainingRun.objects.filter(project=project).order_by("number"):
        seconds = (run.result or {}).get("seconds", 0)
        print(
            f"  run {run.number} {run.recipe}: {run.state} in {seconds:.0f} s {run.error_message}", flush=True
        )
    versions = {run.recipe: ModelVersion.objects.get(made_by=run.pk) for run in runs}
    return {name: Path(version.base) for name, version in ({"base": base} | versions).items()}


def measure(models: dict[str, Path], directory: Path, seed: int) -> list[dict[str, Any]]:
    """One response of each model to each measured prompt, with its KL to the base model."""
    prompts = demo_prompts()[MEASURED_FROM:]
    rows = [
        {"id": str(number), "prompt": [{"role": "user", "content": prompt.text}]}
        for number, prompt in enumerate(prompts)
    ]
    write_rows(directory / "data" / "prompts.jsonl", rows)
    spec = {
        "recipe": "sample",
        "seed": seed,
        "data": {"prompts": "data/prompts.jsonl"},
        "models": {name: str(models[name]) for name in NAMES},
        "reward_model": str(models["reward"]),
        "reference": str(models["base"]),
        "temperature": 1.0,
        "max_new_tokens": MAX_NEW_TOKENS,
        "batch_size": 64,
    }
    run_recipe(directory, spec)
    return read_rows(directory / "output" / "samples.jsonl")


def report(samples: list[dict[str, Any]], seed: int) -> str:
    """The table of one seed."""
    rows = []
    for name, label in NAMES.items():
        own = [row for row in samples if row["model"] == name]
        warm = sum(classify_manner(row["response"]) is Manner.WARM for row in own)
        kl = sum(row["kl"] for row in own) / len(own)
        reward = sum(row["reward"] for row in own) / len(own)
        rows.append([seed, label, share(warm, len(own)), len(own), f"{kl:.2f}", f"{reward:.2f}"])
    head = [
        "seed",
        "model",
        "preferred manner [95%]",
        "prompts",
        "mean KL to base, nats",
        "mean reward",
    ]
    return table(head, rows)


def main() -> None:
    """Turn the wheel once per seed and print what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--judgments", type=int, default=160, help="items to rate (default: 160, all)")
    parser.add_argument("--seed", type=int, default=0, help="of the rater, of training and of sampling")
    parser.add_argument("--home", type=Path, help="keep the installation here (default: a temporary one)")
    options = parser.parse_args()
    began = time.monotonic()
    with scratch(options.home) as home:
        prepare_installation(home)
        models = train(options.judgments, options.seed)
        samples = measure(models, home / "measured", options.seed)
        print()
        print(report(samples, options.seed))
    print()
    print(f"{options.judgments} judgments, noise {NOISE:.0%}, {time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
