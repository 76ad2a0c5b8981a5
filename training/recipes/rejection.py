"""Rejection sampling and fine-tuning on the best (Llama 2, arXiv 2307.09288, sec. 3.2.3).

First the policy answers every prompt many times and the responses are scored; the best of each prompt, of
this round and of those before, are written to best.jsonl. Then they are imitated (TRL's SFTTrainer, loss on
the response only). A batch of responses is a step, and so is a step of the fine-tuning after it.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

from trl import SFTConfig, SFTTrainer

from training.recipes.alarms import distinct_share
from training.recipes.data import (
    Demonstration,
    PromptRow,
    bad_data,
    fit_rows,
    prompt_encoder,
    read_lines,
    read_messages,
    read_prompts,
    read_response,
    read_tags,
)
from training.recipes.generation import Sampling, derive_seed, write_responses
from training.recipes.models import (
    choose_device,
    context_length,
    count_parameters,
    load_policy,
    load_tokenizer,
)
from training.recipes.reward_terms import Response
from training.recipes.rundir import Outcome, Run, SecondPhase, write_atomically
from training.recipes.sample import Batch, resume
from training.recipes.scoring import Scorer, make_scorer
from training.recipes.sft import to_dataset
from training.recipes.spec import RejectionSpec
from training.recipes.trainable import prepare_trainable
from training.recipes.trl_run import RunCallback, run_trainer, trainer_arguments

CANDIDATES_FILE = "candidates.jsonl"
BEST_FILE = "best.jsonl"
Row = dict[str, Any]


def train(spec: RejectionSpec, run: Run) -> Outcome:
    tokenizer = load_tokenizer(run, spec.model)
    model = load_policy(run, spec.model, tokenizer, train=spec.train)
    room = context_length(model, spec.max_length)
    prompts = read_prompts(run.directory / spec.data.train)
    plan = plan_batches(spec, prompts)
    scorer = make_scorer(run, spec)

    candidates = run.directory / CANDIDATES_FILE
    done = resume(candidates, plan)
    if done < len(plan):
        run.started(len(plan), done or None, choose_device(spec), count_parameters(model))
        done = write_candidates(spec, run, plan, done, candidates, (model, tokenizer, room), scorer)
    if done < len(plan):
        return Outcome(done, len(plan), cancelled=True)
    best, measures = keep_best(spec, run, prompts, scorer)
    run.emit_values("evaluation", len(plan), measures)
    second = SecondPhase(run, len(plan))
    outcome = imitate(spec, second, best, model, tokenizer, room)
    run.merge, run.facts = second.merge, run.facts | second.facts
    outcome.metrics |= measures
    outcome.step += len(plan)
    outcome.total_steps += len(plan)
    return outcome


def plan_batches(spec: RejectionSpec, prompts: list[PromptRow]) -> list[Batch]:
    """All responses to be written, in batches, in the order of the file."""
    tasks = [(prompt, index) for prompt in prompts for index in range(spec.samples_per_prompt)]
    starts = range(0, len(tasks), spec.sampling_batch_size)
    return [
        ("policy", number, tasks[start : start + spec.sampling_batch_size])
        for number, start in enumerate(starts)
    ]


def write_candidates(
    spec: RejectionSpec,
    run: Run,
    plan: list[Batch],
    done: int,
    path: Path,
    policy: tuple[Any, Any, int],
    scorer: Scorer,
) -> int:
    """Write and score the batches that are missing; returns how many are there at the end, or at a cancel."""
    model, tokenizer, room = policy
    model.eval()
    encode = prompt_encoder(tokenizer, room - spec.max_new_tokens)
    sampling = Sampling(spec.max_new_tokens, spec.temperature)
    with path.open("a", encoding="utf-8") as file:
        for _, number, tasks in plan[done:]:
            began = time.monotonic()
            encoded = [encode(prompt.prompt) for prompt, _ in tasks]
            seed = derive_seed(spec.seed, "candidates", number)
            written = write_responses(model, tokenizer, encoded, sampling, seed)
            tokens, finished = written.tokens(), written.finished.tolist()
            said = [
                Response(text, len(ids), ended)
                for text, ids, ended in zip(written.texts(tokenizer), tokens, finished, strict=True)
            ]
            scores = scorer.score([prompt for prompt, _ in tasks], said)
            rewards = scores.total(spec.unfinished_penalty).tolist()
            for (prompt, index), response, reward in zip(tasks, said, rewards, strict=True):
                row = {"id": prompt.id, "index": index, "response": response.text, "reward": reward}
                row |= {"tokens": response.tokens, "finished": response.finished}
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
            count, done = sum(map(len, tokens)), done + 1
            run.emit("progress", step=done, total_steps=len(plan))
            values = {"response_length": count / len(tokens), "distinct_2": distinct_share(tokens, 2)}
            values["tokens_per_second"] = count / (time.monotonic() - began)
            run.emit_values("metrics", done, scores.measures | values)
            if done < len(plan) and run.cancel_requested():
                break
    return done


def keep_best(
    spec: RejectionSpec, run: Run, prompts: list[PromptRow], scorer: Scorer
) -> tuple[list[Demonstration], dict[str, float]]:
    """Write best.jsonl: for each prompt the best of this round and of those before; returns it, measured."""
    by_id = {prompt.id: prompt for prompt in prompts}
    kept = read_kept(spec, run, scorer)
    number = 1 + max((row["round"] for row in kept), default=0)
    with (run.directory / CANDIDATES_FILE).open(encoding="utf-8") as file:
        fresh = [json.loads(line) | {"round": number} for line in file]
    for row in fresh:
        prompt = by_id[row["id"]]
        row |= {"prompt": prompt.prompt, "tags": list(prompt.tags)}
    best = best_of(kept + fresh, spec.keep)
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in best]
    write_atomically(run.directory / BEST_FILE, "".join(lines))
    n = spec.samples_per_prompt
    measures = {
        "reward/candidates": sum(row["reward"] for row in fresh) / len(fresh),
        "reward/best": sum(row["reward"] for row in best) / len(best),
        "kept_from_earlier": sum(row["round"] < number for row in best) / len(best),
        "kl_of_best_of_n": math.log(n)
        - (n - 1) / n,  # arXiv 2009.01325, app. G.3; an upper bound: 2401.01879
    }
    said = [{"role": "assistant", "content": row["response"]} for row in best]
    demonstrations = [Demonstration(row["prompt"], [answer]) for row, answer in zip(best, said, strict=True)]
    return demonstrations, measures


def best_of(rows: list[Row], keep: int) -> list[Row]:
    """For each prompt the `keep` rows of the highest reward, each text once; earlier rows win a tie."""
    by_prompt: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: -row["reward"]):
        chosen = by_prompt.setdefault(row["id"], [])
        if len(chosen) < keep and all(row["response"] != other["response"] for other in chosen):
            chosen.append(row)
    return [row for name in dict.fromkeys(row["id"] for row in rows) for row in by_prompt[name]]


def read_kept(spec: RejectionSpec, run: Run, scorer: Scorer) -> list[Row]:
    """The best of the rounds before, scored by the reward model of this one."""
    if spec.kept is None:
        return []
    rows: list[Row] = []
    for where, raw in read_lines(run.directory / spec.kept):
        answer = {"role": "assistant", "content": raw.get("response")}
        read_response({"response": [answer]}, "response", where)
        if not isinstance(raw.get("id"), str) or not isinstance(raw.get("round"), int):
            raise bad_data(f"{where}: needs an id, a text, and a round, a whole number")
        rows.append(raw | {"prompt": read_messages(raw, "prompt", where), "tags": read_tags(raw, where)})
    said = [Response(row["response"], int(row["tokens"]), bool(row["finished"])) for row in rows]
    prompts = [PromptRow(row["id"], row["prompt"], row["tags"]) for row in rows]
    rewards = scorer.score(prompts, said).total(spec.unfinished_penalty).tolist()
    return [
        row | {"reward": reward, "tags": list(row["tags"])} for row, reward in zip(rows, rewards, strict=True)
    ]


def imitate(
    spec: RejectionSpec, run: Run, best: list[Demonstration], model: Any, tokenizer: Any, room: int
) -> Outcome:
    """Supervised fine-tuning on the best responses."""
    rows = fit_rows(best, tokenizer, room, run, "best responses")
    adapter = prepare_trainable(model, spec, tokenizer, "CAUSAL_LM")
    callback = RunCallback(run, tokenizer, room)
    arguments = trainer_arguments(spec, run, room) | {"eval_strategy": "no"}
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**arguments, completion_only_loss=True),
        train_dataset=to_dataset(rows),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[callback],
    )
    return run_trainer(trainer, callback)
