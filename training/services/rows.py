"""How judgments become rows to learn from, streamed in the order of the judgments' ids.

Each judgment in force of an item collected to learn from gives the rows that it can:

- a comparison: the preferred response over the other; the preferred response as an example;
- a ranking: each response over each one ranked below it; a sole best one as an example;
- a better response that the rater wrote: over each response of the item, and as an example;
- a rating of a single response: its value from 0 to 1; an example when it is the top of the scale; and a pair
  with each other response to the same prompt that the same rater rated differently before.
"""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.db.models import Max

from rating.models import ItemCompletion, Judgment, Project, Prompt, Rating

CHUNK = 2000
KINDS = ("preference", "sft", "rating", "prompts")
LEFT_OUT = {
    "tie": "Both equally good: nothing was preferred",
    "both_bad": "Both bad: nothing was preferred",
    "none_good": "None is good enough: nothing was preferred",
    "same_text": "The two responses have the same text",
    "out_of_scale": "Rated outside the project's present scale",
    "no_answer": "Neither a preference nor a rating",
    "evaluation": "Compares two model versions; kept apart from training",
    "superseded": "Superseded by a later revision",
}

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a dataset file: `kind` is one of KINDS, `split` is train or eval."""

    kind: str
    split: str
    data: dict[str, Any]

    def line(self) -> bytes:
        """The row as a line of JSONL, always the same bytes for the same row."""
        return (json.dumps(self.data, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


@dataclass(slots=True)
class JudgmentRows:
    """What became of one judgment: its rows or, when there are none, a key of LEFT_OUT."""

    pk: int
    public_id: uuid.UUID
    split: str
    rows: list[Row] = field(default_factory=list)
    left_out: str = ""


class Said(NamedTuple):
    """A judgment as read for rows."""

    pk: int
    public_id: uuid.UUID
    rater: int
    item: int
    prompt: int
    split: str
    choice: str
    preferred: int | None
    strength: str
    ranking: list[list[int]] | None
    none_good: bool
    rewrite: int | None
    rewritten: str | None


class Score(NamedTuple):
    """A rating of a single response: 0 is the bottom of the scale, 1 its top."""

    judgment: int
    public_id: uuid.UUID
    completion: int
    text: str
    value: float


@dataclass
class Chunk:
    """Some judgments, with all that is needed to make rows of them."""

    judgments: list[Said]
    prompts: dict[int, Messages]
    completions: dict[int, dict[int, str]]
    scores: dict[tuple[int, int], list[Score]]


def iter_judgment_rows(project: Project, *, up_to: int | None = None) -> Iterator[JudgmentRows]:
    """The rows of every trainable judgment, in the order of their ids; constant queries for each 2,000.

    Args:
        up_to: the last judgment's id; without one, the last there is when this begins.
    """
    if up_to is None:
        up_to = last_judgment(project)
    examples: set[int] = set()
    for judgments in iter_said(project, up_to):
        chunk = read_chunk(project, judgments)
        for said in judgments:
            result = JudgmentRows(said.pk, said.public_id, said.split)
            add_rows(result, said, chunk, examples)
            yield result


def last_judgment(project: Project) -> int:
    """The highest id among the project's judgments, 0 without any."""
    last: int | None = Judgment.objects.of_project(project.pk).aggregate(last=Max("pk"))["last"]
    return last or 0


def count_set_aside(project: Project, up_to: int) -> dict[str, int]:
    """How many judgments are no training data at all, by reason."""
    judgments = Judgment.objects.of_project(project.pk).filter(pk__lte=up_to)
    in_force = judgments.in_force().count()
    trainable = judgments.trainable().count()
    return {"evaluation": in_force - trainable, "superseded": judgments.count() - in_force}


def iter_prompt_rows(project: Project) -> Iterator[Row]:
    """Every prompt of the project, in the order of their ids."""
    last = 0
    prompts = Prompt.objects.filter(project=project).order_by("pk")
    while page := list(
        prompts.filter(pk__gt=last).values_list("pk", "text_hash", "split", "messages")[:CHUNK]
    ):
        for _, text_hash, split, messages in page:
            yield Row("prompts", split, {"id": text_hash, "prompt": messages})
        last = page[-1][0]


def iter_said(project: Project, up_to: int) -> Iterator[list[Said]]:
    """The trainable judgments in pages: each page is its own short query, so nothing is held open."""
    last = 0
    judgments = Judgment.objects.trainable().of_project(project.pk).filter(pk__lte=up_to).order_by("pk")
    fields = (
        "pk",
        "public_id",
        "rater_id",
        "item_id",
        "item__prompt_id",
        "item__prompt__split",
        "choice",
        "preferred_id",
        "strength",
        "ranking",
        "none_good",
        "rewrite_id",
        "rewrite__text",
    )
    while page := [Said(*row) for row in judgments.filter(pk__gt=last).values_list(*fields)[:CHUNK]]:
        yield page
        last = page[-1].pk


def read_chunk(project: Project, judgments: list[Said]) -> Chunk:
    """Three queries, however many judgments."""
    prompts = {said.prompt for said in judgments}
    completions: dict[int, dict[int, str]] = defaultdict(dict)
    places = ItemCompletion.objects.filter(item__in={said.item for said in judgments}).order_by("position")
    for item, completion, text in places.values_list("item_id", "completion_id", "completion__text"):
        completions[item][completion] = text
    return Chunk(
        judgments,
        dict(Prompt.objects.filter(pk__in=prompts).values_list("pk", "messages")),
        completions,
        read_scores(project, [said for said in judgments if is_rating(said)]),
    )


def is_rating(said: Said) -> bool:
    """Whether it rates a single response: ratings beside a choice or a ranking make no rows."""
    return not said.choice and said.ranking is None and not said.none_good


def read_scores(project: Project, judgments: Sequence[Said]) -> dict[tuple[int, int], list[Score]]:
    """By rater and prompt: these judgments' ratings and the same raters' earlier ones of the same prompts.

    A rating without a dimension is the overall one and counts alone; else the mean of the dimensions does.
    """
    if not judgments:
        return {}
    trainable = Judgment.objects.trainable().filter(
        rater__in={said.rater for said in judgments},
        item__prompt__in={said.prompt for said in judgments},
        choice="",
        ranking__isnull=True,
        none_good=False,
        pk__lte=judgments[-1].pk,
    )
    ratings = Rating.objects.filter(judgment__in=trainable).order_by("judgment_id", "pk")
    found = ratings.values_list(
        "judgment_id",
        "judgment__public_id",
        "judgment__rater_id",
        "judgment__item__prompt_id",
        "completion_id",
        "completion__text",
        "dimension__low",
        "dimension__high",
        "value",
    )
    values: dict[tuple[Any, ...], list[tuple[bool, float]]] = defaultdict(list)
    for *key, low, high, value in found:
        bottom, top = (project.scale_min, project.scale_max) if low is None else (low, high)
        values[tuple(key)].append((low is None, (value - bottom) / (top - bottom)))
    scores: dict[tuple[int, int], list[Score]] = defaultdict(list)
    for (pk, public_id, rater, prompt, completion, text), given in values.items():
        counted = [share for overall, share in given if overall] or [share for _, share in given]
        share = sum(counted) / len(counted)
        scores[rater, prompt].append(Score(pk, public_id, completion, text, share))
    return scores


def add_rows(result: JudgmentRows, said: Said, chunk: Chunk, examples: set[int]) -> None:
    """Put the rows that the judgment gives on `result`, or the reason why there are none.

    Args:
        examples: ids of the completions that are an example already; each becomes one once.
    """
    if said.none_good:
        result.left_out = "none_good"
    elif said.choice:
        add_comparison(result, said, chunk, examples)
    elif said.ranking is not None:
        add_ranking(result, said, chunk, examples)
    else:
        add_rating(result, said, chunk, examples)
    if said.rewrite is not None:
        add_rewrite(result, said, chunk, examples)


def add_rewrite(result: JudgmentRows, said: Said, chunk: Chunk, examples: set[int]) -> None:
    """The response that the rater wrote is better than all that were shown."""
    assert said.rewrite is not None
    assert said.rewritten is not None
    prompt = chunk.prompts[said.prompt]
    for text in chunk.completions[said.item].values():
        if text != said.rewritten:
            pair = (said.rewritten, text)
            result.rows.append(preference(said.split, prompt, pair, "rewrite", [said.public_id]))
    add_example(result, prompt, said.rewrite, said.rewritten, examples)
    if result.rows:
        result.left_out = ""


def add_comparison(result: JudgmentRows, said: Said, chunk: Chunk, examples: set[int]) -> None:
    if said.preferred is None:
        result.left_out = said.choice
        return
    texts = chunk.completions[said.item]
    other = next(text for completion, text in texts.items() if completion != said.preferred)
    if texts[said.preferred] == other:
        result.left_out = "same_text"
        return
    prompt = chunk.prompts[said.prompt]
    pair = (texts[said.preferred], other)
    result.rows.append(preference(said.split, prompt, pair, "comparison", [said.public_id], said.strength))
    add_example(result, prompt, said.preferred, texts[said.preferred], examples)


def add_ranking(result: JudgmentRows, said: Said, chunk: Chunk, examples: set[int]) -> None:
    assert said.ranking is not None
    prompt, texts = chunk.prompts[said.prompt], chunk.completions[said.item]
    result.rows = [
        preference(said.split, prompt, (texts[better], texts[worse]), "ranking", [said.public_id])
        for place, group in enumerate(said.ranking)
        for better in group
        for lower in said.ranking[place + 1 :]
        for worse in lower
        if texts[better] != texts[worse]
    ]
    if not result.rows:
        result.left_out = "tie"
    elif len(said.ranking[0]) == 1:
        add_example(result, prompt, said.ranking[0][0], texts[said.ranking[0][0]], examples)


def add_rating(result: JudgmentRows, said: Said, chunk: Chunk, examples: set[int]) -> None:
    scores = chunk.scores.get((said.rater, said.prompt), [])
    own = next((score for score in scores if score.judgment == said.pk), None)
    if own is None:
        result.left_out = "no_answer"
        return
    if not 0 <= own.value <= 1:
        result.left_out = "out_of_scale"
        return
    prompt = chunk.prompts[said.prompt]
    for other in scores:
        if other.judgment >= said.pk or other.value == own.value or other.text == own.text:
            continue
        if 0 <= other.value <= 1:
            better, worse = (own, other) if own.value > other.value else (other, own)
            ids = [other.public_id, own.public_id]
            result.rows.append(preference(said.split, prompt, (better.text, worse.text), "ratings", ids))
    data = {"prompt": prompt, "completion": assistant(own.text), "rating": own.value}
    result.rows.append(Row("rating", said.split, data))
    if own.value == 1:
        add_example(result, prompt, own.completion, own.text, examples)


def add_example(
    result: JudgmentRows, prompt: Messages, completion: int, text: str, examples: set[int]
) -> None:
    """An sft row, unless the response is empty or was an example before."""
    if text.strip() and completion not in examples:
        examples.add(completion)
        result.rows.append(Row("sft", result.split, {"prompt": prompt, "completion": assistant(text)}))


def preference(
    split: str,
    prompt: Messages,
    pair: tuple[str, str],
    source: str,
    judgments: list[uuid.UUID],
    strength: str = "",
) -> Row:
    """A preference row; `margin` stays null: a recipe decides what a strength is worth."""
    data = {
        "prompt": prompt,
        "chosen": assistant(pair[0]),
        "rejected": assistant(pair[1]),
        "margin": None,
        "strength": strength or None,
        "source": source,
        "judgments": [str(public_id) for public_id in judgments],
    }
    return Row("preference", split, data)


def assistant(text: str) -> Messages:
    return [{"role": "assistant", "content": text}]
