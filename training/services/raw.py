"""Raw judgments, a line each with all that was said, in the order of their ids: enough to import them again.

Responses are named by their place in the item, `a` to `i`; raters by a keyed hash of their pseudonym.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from django.db.models import F, Min, QuerySet, TextField
from django.db.models.functions import Cast
from django.utils.crypto import salted_hmac

from rating.models import Answer, ItemCompletion, Judgment, Project, Prompt, Rater, Rating, SpanMark
from training.models import DatasetSnapshot, SnapshotJudgment
from training.services.formats import Data
from training.services.queries import SnapshotQuery, last_judgment
from training.services.reading import among, dashed, fetch_plain
from training.services.snapshots import query_of

CHUNK = 2000
KEYS = "abcdefghi"
RATER_ID = re.compile(r"r-[0-9a-f]{20}")
FIELDS = (
    "pk",
    "item_id",
    "rater_id",
    "rater__model_version__name",
    Cast("public_id", TextField()),
    Cast("idempotency_key", TextField()),
    "judged_at",
    "seconds",
    Cast("supersedes__public_id", TextField()),
    "superseded_by__pk",
    "item__purpose",
    "item__prompt_id",
    "assignment__leased_at",
    Cast("assignment__order_shown", TextField()),
    "choice",
    "preferred_id",
    "strength",
    Cast("ranking", TextField()),
    "none_good",
    "asked",
    "safety",
    "intent",
    "rewrite__text",
    Cast("flags", TextField()),
    "rationale",
    "guidelines__number",
)
Keys = dict[int, str]


def rater_id(project: Project, pseudonym: str, external_id: str) -> str:
    """The rater in exports: the same in all exports of an installation, and nobody's name.

    HMAC-SHA256 with a key from SECRET_KEY. A rater that came with such an id from elsewhere keeps it.
    """
    if RATER_ID.fullmatch(external_id):
        return external_id
    value = f"{project.slug}:{pseudonym}"
    return f"r-{salted_hmac('ratchet.export.rater', value, algorithm='sha256').hexdigest()[:20]}"


def rater_ids(project: Project) -> dict[int, str]:
    """All raters of the project as exports name them, by key."""
    raters = Rater.objects.filter(project=project).values_list("pk", "pseudonym", "external_id")
    return {pk: rater_id(project, pseudonym, external) for pk, pseudonym, external in raters}


def iter_judgments(
    project: Project, *, split: str | None = None, snapshot: DatasetSnapshot | None = None
) -> Iterator[Data]:
    """Every judgment, superseded and evaluation ones too, or those in the snapshot; read page by page."""
    up_to = last_judgment(project, query_of(snapshot) if snapshot else SnapshotQuery())
    raters = rater_ids(project)
    for page in iter_ids(project, split, snapshot, up_to):
        rows = Judgment.objects.filter(pk__in=page).order_by("pk").values_list(*FIELDS)
        yield from Page([Raw(*row) for row in fetch_plain(rows)], raters, up_to).lines()


def iter_ids(
    project: Project, split: str | None, snapshot: DatasetSnapshot | None, up_to: int
) -> Iterator[list[int]]:
    """The judgments' ids in pages, each found where the last one ended."""
    ids: QuerySet[Any, Any]
    if snapshot is not None:
        ids = SnapshotJudgment.objects.filter(snapshot=snapshot)
        key, prompt = "judgment", "judgment__item__prompt"
    else:
        # As a sum no index serves it: SQLite would read and sort the whole project for each page.
        ids = Judgment.objects.annotate(owner=F("item__project") + 0).filter(owner=project.pk)
        key, prompt = "pk", "item__prompt"
    if split is not None:
        ids = ids.filter(**{f"{prompt}__split": split})
    ids = ids.filter(**{f"{key}__lte": up_to}).order_by(key).values_list(key, flat=True)
    last = first_judgment(project) - 1
    while page := list(ids.filter(**{f"{key}__gt": last})[:CHUNK]):
        yield page
        last = page[-1]


def first_judgment(project: Project) -> int:
    """The lowest id among the project's judgments, 1 without any."""
    first: int | None = Judgment.objects.of_project(project.pk).aggregate(first=Min("pk"))["first"]
    return first or 1


class Raw(NamedTuple):
    """A judgment as FIELDS read it."""

    pk: int
    item: int
    rater: int
    rater_model: str | None
    public_id: str
    idempotency_key: str
    judged_at: datetime
    seconds: float | None
    supersedes: str | None
    superseded_by: int | None
    purpose: str
    prompt: int
    leased_at: datetime | None
    order_shown: str | None
    choice: str
    preferred: int | None
    strength: str
    ranking: str | None
    none_good: bool
    asked: str
    safety: str
    intent: str
    rewrite: str | None
    flags: str
    rationale: str
    guidelines: int | None


class Page:
    """Some judgments, with all that belongs to them.

    Args:
        up_to: the last judgment there was: one that a later one supersedes is in force.
    """

    def __init__(self, rows: Sequence[Raw], raters: dict[int, str], up_to: int) -> None:
        self.rows, self.raters, self.up_to = rows, raters, up_to
        self.keys, self.completions = read_completions({row.item for row in rows}, raters)
        self.prompts = read_prompts({row.prompt for row in rows})
        self.ratings = read_said(Rating, rows, "completion_id", "dimension__key", "value")
        self.answers = read_said(Answer, rows, "completion_id", "question__key", Cast("value", TextField()))
        self.marks = read_said(SpanMark, rows, "completion_id", "start", "end", "verdict", "reason")

    def lines(self) -> Iterator[Data]:
        """The judgments as they are exported."""
        for row in self.rows:
            prompt, completions = self.prompts[row.prompt], self.completions[row.item]
            yield {
                "judgment": dashed(row.public_id),
                "idempotency_key": dashed(row.idempotency_key),
                "rater": self.raters[row.rater],
                "rater_model": row.rater_model,
                "judged_at": stamp(row.judged_at),
                "seconds": row.seconds,
                "in_force": row.superseded_by is None or row.superseded_by > self.up_to,
                "supersedes": dashed(row.supersedes) if row.supersedes else None,
                "purpose": row.purpose,
                "item": item_key(row.purpose, prompt["hash"], completions),
                **prompt["columns"],
                "completions": completions,
                **self.describe_answer(row),
                "asked": row.asked,
                "safety": row.safety or None,
                "intent": row.intent,
                "rewrite": row.rewrite,
                **self.describe_details(row),
                "flags": orjson.loads(row.flags),
                "rationale": row.rationale,
                "guidelines": row.guidelines,
            }

    def describe_answer(self, row: Raw) -> Data:
        """The verdict, and the order in which the responses were shown."""
        keys = self.keys[row.item]
        shown = orjson.loads(row.order_shown) if row.order_shown else None
        ranking = orjson.loads(row.ranking) if row.ranking else None
        return {
            "leased_at": stamp(row.leased_at) if row.leased_at else None,
            "order_shown": [keys[pk] for pk in shown] if shown is not None else None,
            "choice": row.choice or None,
            "preferred": keys[row.preferred] if row.preferred else None,
            "strength": row.strength or None,
            "ranking": [[keys[pk] for pk in tied] for tied in ranking] if ranking is not None else None,
            "none_good": row.none_good,
        }

    def describe_details(self, row: Raw) -> Data:
        """The ratings, the answers to questions and the marked passages."""
        keys, pk = self.keys[row.item], row.pk
        return {
            "ratings": [
                {"completion": keys[about], "dimension": dimension, "value": value}
                for about, dimension, value in self.ratings.get(pk, ())
            ],
            "answers": [
                {
                    "question": question,
                    "completion": keys[about] if about else None,
                    "value": orjson.loads(value),
                }
                for about, question, value in self.answers.get(pk, ())
            ],
            "marks": [
                {"completion": keys[about], "start": start, "end": end, "verdict": verdict, "reason": reason}
                for about, start, end, verdict, reason in self.marks.get(pk, ())
            ],
        }


def read_completions(
    items: set[int], raters: dict[int, str]
) -> tuple[dict[int, Keys], dict[int, list[Data]]]:
    """The keys of each item's completions by id, and the completions in canonical order."""
    keys: dict[int, Keys] = defaultdict(dict)
    found: dict[int, list[Data]] = defaultdict(list)
    places = ItemCompletion.objects.filter(among("item", items)).order_by("item_id", "position")
    fields = (
        "item_id",
        "completion_id",
        "completion__text",
        "completion__model_version__name",
        "completion__source_model",
        "completion__author_id",
        Cast("completion__sampling", TextField()),
    )
    for item, pk, text, version, model, author, sampling in fetch_plain(places.values_list(*fields)):
        key = KEYS[len(found[item])]
        keys[item][pk] = key
        found[item].append(
            {
                "key": key,
                "text": text,
                "version": version,
                "model": model or None,
                "author": raters[author] if author else None,
                "sampling": orjson.loads(sampling),
            }
        )
    return keys, found


def read_prompts(prompts: set[int]) -> dict[int, Data]:
    """The prompts' hashes, and the columns that each gives to a line."""
    rows = Prompt.objects.filter(among("pk", prompts)).values_list(
        "pk",
        "text_hash",
        "split",
        Cast("messages", TextField()),
        "source",
        Cast("metadata", TextField()),
    )
    return {
        pk: {
            "hash": text_hash,
            "columns": {
                "split": split,
                "prompt": orjson.loads(messages),
                "prompt_source": source or None,
                "prompt_metadata": orjson.loads(metadata),
            },
        }
        for pk, text_hash, split, messages, source, metadata in fetch_plain(rows)
    }


def read_said(model: Any, rows: Sequence[Raw], *fields: Any) -> dict[int, list[tuple[Any, ...]]]:
    """The model's rows that belong to the judgments, by judgment."""
    found: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    said = model.objects.filter(among("judgment", {row.pk for row in rows})).order_by("judgment_id", "pk")
    for row in fetch_plain(said.values_list("judgment_id", *fields)):
        found[row[0]].append(row[1:])
    return found


def item_key(purpose: str, prompt_hash: str, completions: list[Data]) -> str:
    """The same for the same item in every installation: what its judgments have in common."""
    digest = hashlib.sha256(f"{purpose}:{prompt_hash}".encode())
    for completion in completions:
        writer = completion["version"] or completion["model"] or completion["author"] or ""
        digest.update(f":{len(writer)}:{writer}:{len(completion['text'])}:{completion['text']}".encode())
    return digest.hexdigest()[:20]


def stamp(moment: datetime) -> str:
    """The moment in UTC, to the microsecond; SQLite gives it without its zone."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()
