"""Responses that model versions write: asked for, stored as completions, put up for rating."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import Count, Max, Q, QuerySet
from django.utils.translation import gettext

from rating.models import Completion, Item, ModelVersion, Project, Prompt, User
from rating.services.items import create_item
from rating.services.texts import TextError, check_text, hash_text
from training.models import TrainingRun
from training.numbers import localize_count
from training.recipes.spec import SAMPLES_FILE
from training.services.runs import Purpose, RunError, queue_run
from training.services.sentences import Sentence, counted

RESPONSES_PER_PROMPT = 2
RESPONSE_TEMPERATURE = 1.0
MAX_NEW_TOKENS = 256
MAX_PROMPTS_PER_RUN = 10_000
# Items of an evaluation come before everything else; newer responses before older ones, below that.
EVALUATION_PRIORITY = 1000


@dataclass(frozen=True)
class Stored:
    """What became of a run's responses: pairs that are now items, and what was left out and why."""

    items: int
    same: int
    unfit: int

    @property
    def sentences(self) -> list[Sentence]:
        """The same in words, for the run's page."""
        told = [
            counted(
                "%(count)s pair of responses was put up for rating.",
                "%(count)s pairs of responses were put up for rating.",
                count=self.items,
            ),
            counted(
                "%(count)s prompt was answered alike twice and left out.",
                "%(count)s prompts were answered alike twice and left out.",
                count=self.same,
            ),
            counted(
                "%(count)s prompt had a response that cannot be stored and was left out.",
                "%(count)s prompts had a response that cannot be stored and were left out.",
                count=self.unfit,
            ),
        ]
        return told[:1] + [sentence for sentence in told[1:] if sentence.values["count"]]


def fit_new_tokens(*versions: ModelVersion) -> int:
    """The longest response that leaves half of each model's context for the prompt, at most 256 tokens."""
    rooms = [context_of(Path(version.base)) for version in versions]
    return max(1, min([MAX_NEW_TOKENS, *(room // 2 for room in rooms if room)]))


def context_of(directory: Path) -> int | None:
    """Tokens that the model in the directory can hold, as its config.json says; None when it does not say."""
    try:
        config = json.loads((directory / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    room = config.get("max_position_embeddings") if isinstance(config, dict) else None
    return room if isinstance(room, int) and room > 1 else None


def request_responses(
    project: Project,
    version: ModelVersion,
    *,
    count: int,
    temperature: float = RESPONSE_TEMPERATURE,
    user: User | None = None,
) -> TrainingRun:
    """Have the version answer the `count` prompts with the fewest items twice each; the pairs become items.

    Raises:
        RunError: names the field: a count out of range, a version that writes nothing, no prompts.
    """
    if not 1 <= count <= MAX_PROMPTS_PER_RUN:
        wanted = gettext("Use a whole number from 1 to %(most)s.")
        raise RunError([("count", wanted % {"most": localize_count(MAX_PROMPTS_PER_RUN)})])
    if not Prompt.objects.filter(project=project).exists():
        raise RunError([("project", gettext("There are no prompts to answer: import some first."))])
    settings = {
        "samples_per_prompt": RESPONSES_PER_PROMPT,
        "temperature": temperature,
        "max_new_tokens": fit_new_tokens(version),
        "limit": count,
    }
    # The seed differs from run to run, so that a prompt that is asked again gets new answers.
    settings["seed"] = TrainingRun.objects.filter(project=project).count() % 2**32
    return queue_run(project, "sample", settings, purpose=Purpose.COLLECT, policy=version, user=user)


def least_used_prompts(project: Project, purpose: Item.Purpose) -> QuerySet[Prompt]:
    """The project's prompts: those with the fewest items of that purpose first, then by their hash."""
    used = Count("items", filter=Q(items__purpose=purpose))
    return Prompt.objects.filter(project=project).annotate(used=used).order_by("used", "text_hash")


def read_samples(run: TrainingRun) -> Iterator[dict[str, Any]]:
    """The rows that a `sample` run wrote, see training/recipes/sample.py."""
    with (run.directory / "output" / SAMPLES_FILE).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def group_samples(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The rows by prompt id (its text_hash), in the order of the file."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["prompt_id"], []).append(row)
    return groups


def prompts_by_hash(run: TrainingRun, hashes: Iterable[str]) -> dict[str, Prompt]:
    """The project's prompts with these hashes."""
    found = Prompt.objects.filter(project=run.project_id, text_hash__in=list(hashes))
    return {prompt.text_hash: prompt for prompt in found}


def is_storable(row: dict[str, Any]) -> bool:
    """Whether every database takes the response."""
    try:
        check_text(row["response"], "response")
    except TextError:
        return False
    return True


def new_completion(
    prompt: Prompt, row: dict[str, Any], version: ModelVersion, run: TrainingRun
) -> Completion:
    """The row as an unsaved completion, with how it was sampled."""
    sampling = {key: row[key] for key in ("temperature", "top_p", "seed", "index", "tokens", "finished")}
    return Completion(
        prompt=prompt,
        text=row["response"],
        text_hash=hash_text(row["response"]),
        model_version=version,
        sampling=sampling | {"run": run.number},
    )


@transaction.atomic
def store_responses(run: TrainingRun) -> Stored:
    """Turn a finished COLLECT run's responses into completions and items, above all older ones."""
    version = run.policy
    assert version is not None
    groups = group_samples(read_samples(run))
    prompts = prompts_by_hash(run, groups)
    pairs: list[list[Completion]] = []
    same = unfit = 0
    for key, rows in groups.items():
        if key not in prompts or len(rows) < RESPONSES_PER_PROMPT or not all(map(is_storable, rows)):
            unfit += 1
        elif len({row["response"] for row in rows}) < len(rows):
            same += 1
        else:
            pairs.append([new_completion(prompts[key], row, version, run) for row in rows])
    Completion.objects.bulk_create([completion for pair in pairs for completion in pair])
    priority = next_priority(run.project)
    for pair in pairs:
        create_item(run.project, pair[0].prompt, pair, priority=priority)
    return Stored(len(pairs), same, unfit)


def next_priority(project: Project) -> int:
    """One above the items that are there to collect preferences, and below every evaluation."""
    items = Item.objects.filter(project=project, purpose=Item.Purpose.COLLECT)
    highest = items.aggregate(highest=Max("priority"))["highest"]
    return min((highest or 0) + 1, EVALUATION_PRIORITY - 1)
