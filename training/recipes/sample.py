"""Write responses with one or several models, score them and measure their KL.

Every batch is seeded by the run's seed, the model's name and the batch's number, so that a run that was
interrupted ends with the same file as one that was not.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.recipes.adapters import swap_adapter
from training.recipes.data import PromptRow, prompt_encoder, read_prompts
from training.recipes.errors import RecipeError
from training.recipes.generation import (
    Sampling,
    answer,
    derive_seed,
    exact_kl,
    write_responses,
)
from training.recipes.heads import Scores, score_heads
from training.recipes.models import (
    choose_device,
    context_length,
    count_parameters,
    load_heads,
    load_policy,
    load_tokenizer,
)
from training.recipes.rundir import Outcome, Run, keep_whole_lines
from training.recipes.spec import SAMPLES_FILE, SampleSpec

Task = tuple[PromptRow, int]
Batch = tuple[str, int, list[Task]]


@dataclass
class Writer:
    """One of the models that answer."""

    name: str
    tokenizer: Any
    model: Any
    room: int


@dataclass
class Measures:
    """What the responses are measured with, where the specification names it."""

    scorer: Any = None
    scorer_tokenizer: Any = None
    reference: Any = None


def train(spec: SampleSpec, run: Run) -> Outcome:
    """Answer every prompt with every model; called train as in the other recipes."""
    prompts = read_prompts(run.directory / spec.data.prompts)[: spec.limit]
    plan = plan_batches(spec, prompts)
    path = run.output / SAMPLES_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    done = resume(path, plan)
    measures = load_measures(run, spec)
    writer = load_writer(run, spec, plan[min(done, len(plan) - 1)][0], measures)
    run.started(len(plan), done or None, choose_device(spec), count_parameters(writer.model))
    cancelled = False
    with path.open("a", encoding="utf-8") as file:
        for name, number, tasks in plan[done:]:
            if writer.name != name:
                writer = next_writer(run, spec, writer, name, measures)
            for row in write_rows(spec, writer, measures, tasks, derive_seed(spec.seed, name, number)):
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
            done += 1
            run.emit("progress", step=done, total_steps=len(plan))
            cancelled = done < len(plan) and run.cancel_requested()
            if cancelled:
                break
    return Outcome(done, len(plan), cancelled, metrics=summarise(path))


def plan_batches(spec: SampleSpec, prompts: list[PromptRow]) -> list[Batch]:
    """(model name, number of the batch, prompts with their sample index) in the order of the file."""
    tasks = [(prompt, index) for prompt in prompts for index in range(spec.samples_per_prompt)]
    starts = range(0, len(tasks), spec.batch_size)
    batches = [tasks[start : start + spec.batch_size] for start in starts]
    return [(name, number, batch) for name in spec.models for number, batch in enumerate(batches)]


def resume(path: Path, plan: list[Batch]) -> int:
    """How many batches the file holds whole; what a kill left of another is removed from it."""
    if not path.is_file():
        return 0
    lines = keep_whole_lines(path)
    kept = whole = 0
    for _, _, tasks in plan:
        if kept + len(tasks) > len(lines):
            break
        kept += len(tasks)
        whole += 1
    os.truncate(path, sum(len(line.encode()) + 1 for line in lines[:kept]))
    return whole


def load_measures(run: Run, spec: SampleSpec) -> Measures:
    measures = Measures()
    if spec.reward_model:
        measures.scorer_tokenizer = load_tokenizer(run, spec.reward_model)
        measures.scorer = load_heads(run, spec.reward_model, measures.scorer_tokenizer).eval()
    if spec.reference:
        measures.reference = load_policy(run, spec.reference, load_tokenizer(run, spec.reference)).eval()
    return measures


def load_writer(run: Run, spec: SampleSpec, name: str, measures: Measures) -> Writer:
    tokenizer = load_tokenizer(run, spec.models[name])
    model = load_policy(run, spec.models[name], tokenizer, whole=False).eval()
    reference = measures.reference
    if reference is not None and reference.config.vocab_size != model.config.vocab_size:
        message = f"{spec.reference}: must have the vocabulary of {spec.models[name]} to have a KL from it"
        raise RecipeError("bad_model", message)
    room = context_length(model, spec.max_length)
    if room <= spec.max_new_tokens:
        message = f"{spec.models[name]}: holds {room} tokens: no room for a prompt; lower max_new_tokens"
        raise RecipeError("bad_model", message)
    return Writer(name, tokenizer, model, room)


def next_writer(run: Run, spec: SampleSpec, writer: Writer, name: str, measures: Measures) -> Writer:
    """The next model that answers; of two adapters over one base only the adapter is changed."""
    if swap_adapter(run, writer.model, spec.models[writer.name], spec.models[name]):
        return Writer(name, load_tokenizer(run, spec.models[name]), writer.model.eval(), writer.room)
    return load_writer(run, spec, name, measures)


def write_rows(
    spec: SampleSpec, writer: Writer, measures: Measures, tasks: list[Task], seed: int
) -> list[dict[str, Any]]:
    """One batch: responses, and what was measured of each."""
    encode = prompt_encoder(writer.tokenizer, writer.room - spec.max_new_tokens)
    sampling = Sampling(spec.max_new_tokens, spec.temperature, spec.top_p)
    encoded = [encode(prompt.prompt) for prompt, _ in tasks]
    written = write_responses(writer.model, writer.tokenizer, encoded, sampling, seed)
    texts = written.texts(writer.tokenizer)
    rows: list[dict[str, Any]] = [
        {
            "model": writer.name,
            "prompt_id": prompt.id,
            "prompt": prompt.prompt,
            "response": text,
            "index": index,
            "temperature": spec.temperature,
            "top_p": spec.top_p,
            "seed": seed,
            "tokens": tokens,
            "finished": finished,
        }
        for (prompt, index), text, tokens, finished in zip(
            tasks, texts, written.response_mask.sum(1).tolist(), written.finished.tolist(), strict=True
        )
    ]
    if measures.scorer is not None:
        room = context_length(measures.scorer, spec.max_length)
        conversations = [answer(prompt.prompt, text) for (prompt, _), text in zip(tasks, texts, strict=True)]
        scores = score_heads(measures.scorer, measures.scorer_tokenizer, conversations, room)
        rows = [row | told for row, told in zip(rows, tell_scores(scores), strict=True)]
    if measures.reference is not None:
        divergences = exact_kl(writer.model, measures.reference, written)
        rows = [row | {"kl": kl} for row, kl in zip(rows, divergences, strict=True)]
    return rows


def tell_scores(scores: Scores) -> list[dict[str, Any]]:
    """Per response: `reward`, its deviation where an ensemble gave it, and every score by name where it
    has them.
    """
    told: list[dict[str, Any]] = [{"reward": row[0]} for row in scores.mean.tolist()]
    if scores.heads.members > 1:
        deviations = scores.deviation.tolist()
        told = [row | {"reward_deviation": one[0]} for row, one in zip(told, deviations, strict=True)]
    if scores.heads.names != ("",):
        named = [dict(zip(scores.heads.names, row, strict=True)) for row in scores.mean.tolist()]
        told = [row | {"rewards": one} for row, one in zip(told, named, strict=True)]
    return told


def summarise(path: Path) -> dict[str, float]:
    """Per model, the means of what the rows say, as "model/measure"."""
    sums: dict[str, list[float]] = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            for measure in ("tokens", "finished", "reward", "reward_deviation", "kl"):
                if measure in row:
                    sums.setdefault(f"{row['model']}/{measure}", []).append(float(row[measure]))
    return {name: sum(values) / len(values) for name, values in sums.items()}
