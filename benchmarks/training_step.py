"""Is a recipe's step as fast as plain TRL's, and what do PPO's four models cost?

    python -m benchmarks.training_step [--steps 12] [--rounds 3] [--skip-ppo] [--layers 8] [--width 448]

First each recipe on one of TRL's trainers runs beside a plain script for the same work, in turns, in this
process, on one thread; what is compared is the processor time between the ends of steps. Then PPO runs over
one backbone with adapters, as separate models with adapters, and with every weight trained, each as a process
of its own, on a model with random weights. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, run_recipe, scratch, table, write_rows

MODEL = ROOT / "training/demo/model"
RECIPES = ("sft", "reward", "dpo", "rloo", "grpo", "online_dpo")
PROMPTS = 48
NEW_TOKENS = 24
WARM_UP = 2


def write_data(home: Path) -> None:
    """The demo's prompts, with two made-up responses each."""
    from training.demo.corpus import demo_prompts

    prompts = [[{"role": "user", "content": prompt.text}] for prompt in demo_prompts()[:PROMPTS]]
    pairs = []
    for number, prompt in enumerate(prompts):
        better = f"Gladly: here is what I know of it, in {number} words and a little more than that."
        sides = {"chosen": better, "rejected": f"No. Look for it elsewhere, {number} times."}
        said = {side: [{"role": "assistant", "content": text}] for side, text in sides.items()}
        pairs.append({"prompt": prompt, **said})
    demonstrations = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in pairs]
    write_rows(home / "data/sft.jsonl", demonstrations)
    write_rows(home / "data/pairs.jsonl", pairs)
    write_rows(
        home / "data/prompts.jsonl", [{"id": str(i), "prompt": prompt} for i, prompt in enumerate(prompts)]
    )


def settings(recipe: str, steps: int, reward: Path) -> dict[str, Any]:
    """The specification of a recipe's run."""
    rows = {"sft": "sft", "reward": "pairs", "dpo": "pairs"}.get(recipe, "prompts")
    spec: dict[str, Any] = {
        "recipe": recipe,
        "model": str(MODEL),
        "threads": 1,
        "train": {"kind": "all"},
        "seed": 0,
    }
    spec |= {"data": {"train": f"data/{rows}.jsonl"}, "max_length": 192, "save_every": 1_000_000}
    if rows != "prompts":
        return spec | {"max_steps": steps, "batch_size": 8, "warmup_ratio": 0, "learning_rate": 1e-5}
    spec |= {"reward_model": str(reward), "steps": steps, "max_new_tokens": NEW_TOKENS}
    spec |= {"prompts_per_step": 8, "unfinished_penalty": None, "learning_rate": 1e-5, "warmup_ratio": 0}
    return spec | ({"batch_size": 8} if recipe == "online_dpo" else {"samples_per_prompt": 2})


def time_recipe(home: Path, name: str, spec: dict[str, Any]) -> list[float]:
    """Processor time at the end of each step of a run of ours."""
    from training.recipes import run as runner
    from training.recipes.rundir import Run

    directory = home / name
    directory.mkdir()
    (directory / "data").symlink_to(home / "data")
    (directory / "spec.json").write_text(json.dumps(spec))
    times: list[float] = []
    emit = Run.emit

    def watched(self: Run, kind: Any, **fields: Any) -> None:
        emit(self, kind, **fields)
        if kind == "progress":
            times.append(time.process_time())

    Run.emit = watched  # type: ignore[method-assign]
    try:
        if runner.main([str(directory / "spec.json")]):
            raise SystemExit((directory / "result.json").read_text())
    finally:
        Run.emit = emit  # type: ignore[method-assign]
    return times


def time_plain(home: Path, recipe: str, steps: int, reward: Path) -> list[float]:
    """Processor time at the end of each step of a plain script."""
    import torch
    from transformers import PrinterCallback, TrainerCallback

    torch.use_deterministic_algorithms(False)  # a run of ours before has asked for them
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *arguments: Any, **named: Any) -> None:
            times.append(time.process_time())

    trainer = PLAIN[recipe](home, steps, str(reward))
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Clock())
    trainer.train()
    return times


def arguments(home: Path, steps: int, batch: int) -> dict[str, Any]:
    given = {"output_dir": str(home / "plain"), "use_cpu": True, "bf16": False, "max_steps": steps}
    given |= {"per_device_train_batch_size": batch, "learning_rate": 1e-5, "gradient_checkpointing": False}
    given |= {"save_strategy": "no", "report_to": "none", "disable_tqdm": True, "logging_steps": 1}
    return given | {"seed": 0, "data_seed": 0}  # the same batches as ours


def rows(home: Path, name: str) -> Any:
    from datasets import load_dataset

    return load_dataset("json", data_files=str(home / f"data/{name}.jsonl"), split="train")


def plain_sft(home: Path, steps: int, reward: str) -> Any:
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(**arguments(home, steps, 8), max_length=192, completion_only_loss=True)
    return SFTTrainer(model=str(MODEL), args=config, train_dataset=rows(home, "sft"))


def plain_reward(home: Path, steps: int, reward: str) -> Any:
    from trl import RewardConfig, RewardTrainer

    config = RewardConfig(**arguments(home, steps, 8), max_length=192)
    return RewardTrainer(model=str(MODEL), args=config, train_dataset=rows(home, "pairs"))


def plain_dpo(home: Path, steps: int, reward: str) -> Any:
    from trl import DPOConfig, DPOTrainer

    config = DPOConfig(**arguments(home, steps, 8), max_length=192, precompute_ref_log_probs=True)
    return DPOTrainer(model=str(MODEL), args=config, train_dataset=rows(home, "pairs"))


def plain_rloo(home: Path, steps: int, reward: str) -> Any:
    from trl import RLOOConfig, RLOOTrainer

    config = RLOOConfig(
        **arguments(home, steps, 16), num_generations=2, max_completion_length=NEW_TOKENS, beta=0.05
    )
    return RLOOTrainer(
        model=str(MODEL), reward_funcs=reward, args=config, train_dataset=rows(home, "prompts")
    )


def plain_grpo(home: Path, steps: int, reward: str) -> Any:
    from trl import GRPOConfig, GRPOTrainer

    config = GRPOConfig(
        **arguments(home, steps, 16), num_generations=2, max_completion_length=NEW_TOKENS, beta=0.04
    )
    return GRPOTrainer(
        model=str(MODEL), reward_funcs=reward, args=config, train_dataset=rows(home, "prompts")
    )


def plain_online_dpo(home: Path, steps: int, reward: str) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    config = OnlineDPOConfig(**arguments(home, steps, 8), max_new_tokens=NEW_TOKENS, max_length=192)
    return OnlineDPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(MODEL, dtype="float32"),
        ref_model=AutoModelForCausalLM.from_pretrained(MODEL, dtype="float32"),
        reward_funcs=AutoModelForSequenceClassification.from_pretrained(
            reward, num_labels=1, dtype="float32"
        ),
        args=config,
        train_dataset=rows(home, "prompts"),
        processing_class=AutoTokenizer.from_pretrained(MODEL),
        reward_processing_classes=AutoTokenizer.from_pretrained(reward),
    )


PLAIN: dict[str, Callable[[Path, int, str], Any]] = {
    "sft": plain_sft,
    "reward": plain_reward,
    "dpo": plain_dpo,
    "rloo": plain_rloo,
    "grpo": plain_grpo,
    "online_dpo": plain_online_dpo,
}


def per_step(times: list[float]) -> float:
    """Processor seconds of a step, the first ones left out."""
    steps = [after - before for before, after in pairwise(times)]
    return statistics.median(steps[WARM_UP:])


def compare(home: Path, recipes: Sequence[str], steps: int, rounds: int) -> str:
    """Plain and ours in turns; the ratio is plain over ours: 1.0 or more is what is wanted."""
    reward = home / "reward-model/output"
    spec = settings("reward", 2, reward) | {"train": {"kind": "lora", "r": 4}}
    (home / "reward-model").mkdir()
    (home / "reward-model/data").symlink_to(home / "data")
    run_recipe(home / "reward-model", spec)
    lines = []
    for recipe in recipes:
        ours, plain = [], []
        for number in range(rounds):
            plain.append(per_step(time_plain(home, recipe, steps, reward)))
            name = f"{recipe}-{number}"
            ours.append(per_step(time_recipe(home, name, settings(recipe, steps, reward))))
        ratios = [theirs / own for theirs, own in zip(plain, ours, strict=True)]
        middle = statistics.median
        figures = [f"{1000 * middle(plain):.0f}", f"{1000 * middle(ours):.0f}", f"{middle(ratios):.2f}"]
        lines.append([recipe, *figures, f"{min(ratios):.2f} to {max(ratios):.2f}"])
        print(f"  {recipe}: {middle(ratios):.2f}", flush=True)
    head = ["recipe", "plain TRL, ms a step", "ours, ms a step", "ratio", "of the rounds"]
    return table(head, lines)


def write_model(home: Path, layers: int, width: int) -> Path:
    """A model with random weights and the demo's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=8,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(home / "random")
    tokenizer.save_pretrained(home / "random")
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(f"\nPPO on a model of {millions:.0f} million random weights in float32", flush=True)
    return home / "random"


def measure_ppo(home: Path, layers: int, width: int) -> str:
    """Tokens per second and peak memory of three ways to keep PPO's models."""
    model = write_model(home, layers, width)
    base: dict[str, Any] = {"model": str(model), "threads": 1, "max_length": 96, "learning_rate": 1e-5}
    reward = {"recipe": "reward", "max_steps": 1, "batch_size": 2, "data": {"train": "data/pairs.jsonl"}}
    reward |= {"train": {"kind": "lora", "r": 8}}
    directory = home / "random-reward"
    measure_process(home, directory, base | reward)
    ppo = {"recipe": "ppo", "reward_model": str(directory / "output"), "steps": 3, "ppo_epochs": 1}
    ppo |= {"rollout_batch_size": 8, "minibatch_size": 4, "max_new_tokens": 24}
    ppo |= {"unfinished_penalty": None, "data": {"train": "data/prompts.jsonl"}}
    ways: dict[str, dict[str, Any]] = {
        "one backbone, three adapters": {"backbone": "shared", "train": {"kind": "lora", "r": 8}},
        "three models, two adapters (reference: the adapter off)": {"train": {"kind": "lora", "r": 8}},
        "four models, every weight trained": {"train": {"kind": "all"}},
    }
    lines = []
    for number, (label, change) in enumerate(ways.items()):
        directory = home / f"ppo-{number}"
        megabytes = measure_process(home, directory, base | ppo | change)
        speed = tokens_per_second(home, f"speed-{number}", base | ppo | change)
        lines.append([label, f"{speed:.1f}", f"{megabytes:.0f}"])
    head = ["PPO's models", "tokens per second of processor time", "peak memory of the process, MB"]
    return table(head, lines)


def tokens_per_second(home: Path, name: str, spec: dict[str, Any]) -> float:
    """Response tokens of a step over the processor time of the quickest step but the first."""
    times = time_recipe(home, name, spec)
    lines = (home / name / "events.jsonl").read_text().splitlines()
    values = [event["values"] for event in map(json.loads, lines) if event["event"] == "metrics"]
    tokens: float = values[-1]["response_length"] * spec["rollout_batch_size"]
    return tokens / min(after - before for before, after in pairwise(times))


def measure_process(home: Path, directory: Path, spec: dict[str, Any]) -> float:
    """Run a recipe as a process; its peak resident memory in MB."""
    directory.mkdir()
    (directory / "data").symlink_to(home / "data")
    (directory / "spec.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "training.recipes.run", str(directory / "spec.json")]
    with (directory / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        raise SystemExit((directory / "log.txt").read_text())
    assert isinstance(usage, resource.struct_rusage)
    return usage.ru_maxrss / 1024


def main() -> None:
    """Compare, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=12, help="steps of each run")
    parser.add_argument("--rounds", type=int, default=3, help="turns of plain and ours")
    parser.add_argument("--recipes", nargs="*", default=RECIPES, choices=RECIPES, help="which to compare")
    parser.add_argument("--skip-ppo", action="store_true", help="only the comparison with plain TRL")
    parser.add_argument("--skip-trl", action="store_true", help="only PPO")
    parser.add_argument("--layers", type=int, default=12, help="of PPO's model")
    parser.add_argument("--width", type=int, default=512, help="of PPO's model")
    options = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1", "TQDM_DISABLE": "1"}
    with scratch(None) as home:
        write_data(home)
        if not options.skip_trl:
            import torch

            torch.set_num_threads(1)
            print(f"\n{compare(home, options.recipes, options.steps, options.rounds)}\n", flush=True)
        if not options.skip_ppo:
            print(f"\n{measure_ppo(home, options.layers, options.width)}\n")


if __name__ == "__main__":
    main()
