"""Reading what was said for rows: prompt by prompt, in short queries, as plain values."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from django.db import connection
from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast

from rating.models import Completion, ItemCompletion, Judgment, Project, Prompt, Rating
from training.services.queries import (
    SnapshotQuery,
    cap_raters,
    collected_judgments,
    flags_fit,
    last_judgment,
    narrow_choices,
    narrow_time,
)

CHUNK = 4000
"""Prompts that are read at once."""

MAX_IN = 10_000
"""Ids in one list; SQLite takes 32,766 variables in a query."""

Messages = list[dict[str, str]]


JUDGMENT = (
    "item__prompt_id",
    "pk",
    Cast("public_id", TextField()),
    "rater_id",
    "item_id",
    "choice",
    "preferred_id",
    "strength",
    Cast("ranking", TextField()),
    "none_good",
    "rewrite_id",
    "seconds",
)
FLAGS = Cast("flags", TextField())


class Said(NamedTuple):
    """A judgment as read for rows.

    Attributes:
        public_id: as the database writes it; `name` is the same with its dashes.
        ranking: as JSON, see `order`.
    """

    pk: int
    public_id: str
    rater: int
    item: int
    choice: str
    preferred: int | None
    strength: str
    ranking: str | None
    none_good: bool
    rewrite: int | None
    seconds: float | None

    @property
    def name(self) -> str:
        """The public id as everybody knows it."""
        return dashed(self.public_id)

    @property
    def order(self) -> list[list[int]]:
        """The ranking: groups of completion ids, best first."""
        order: list[list[int]] = orjson.loads(self.ranking or "[]")
        return order

    @property
    def is_rating(self) -> bool:
        """Whether it rates a single response: ratings beside a choice or a ranking make no rows."""
        return not self.choice and self.ranking is None and not self.none_good


@dataclass(frozen=True, slots=True)
class Shared:
    """What the judgments of a page of prompts are about.

    Attributes:
        places: the completions of each item in canonical order.
        texts: the completions' texts; empty texts where only ids were asked for.
        values: by judgment of a single response: its completion, and its value from 0 to 1.
    """

    places: dict[int, list[int]] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    values: dict[int, tuple[int, float]] = field(default_factory=dict)


@dataclass(slots=True)
class Group:
    """A prompt with what was said of its items, in the order of the judgments' ids."""

    prompt: int
    text_hash: str
    split: str
    messages: Messages
    shared: Shared
    judgments: list[Said] = field(default_factory=list)


def iter_groups(
    project: Project, query: SnapshotQuery, *, texts: bool = True, split: str | None = None
) -> Iterator[Group]:
    """Every prompt of the project in the order of their ids, each with the judgments that the query lets in.

    At most six queries for each 4,000 prompts, however many judgments there are.

    Args:
        texts: without them, where only ids are needed, messages and texts are empty.
        split: the prompts of one split alone.

    Raises:
        QueryError: `up_to` names none of the project's judgments.
    """
    last = last_judgment(project, query)
    edges = cap_raters(narrow_choices(collected_judgments(project, last), query), query)
    for page in iter_prompts(project, query):
        shared = Shared()
        groups = {
            pk: Group(pk, text_hash, side, orjson.loads(messages) if texts else [], shared)
            for pk, text_hash, side, messages in page
            if split in (None, side)
        }
        if not groups:
            continue
        read_judgments(groups, query, last, edges)
        if judgments := [said for group in groups.values() for said in group.judgments]:
            read_places(shared, judgments, texts)
            read_values(project, shared, judgments)
        yield from groups.values()


def iter_prompts(project: Project, query: SnapshotQuery) -> Iterator[list[tuple[Any, ...]]]:
    """Pages of (id, hash, split, messages as JSON)."""
    last, left = 0, query.prompts
    prompts = Prompt.objects.filter(project=project).order_by("pk")
    while left != 0:
        size = CHUNK if left is None else min(CHUNK, left)
        rows = prompts.filter(pk__gt=last).values_list(
            "pk", "text_hash", "split", Cast("messages", TextField())
        )
        page = fetch_plain(rows[:size])
        if not page:
            return
        yield page
        last = page[-1][0]
        left = None if left is None else left - len(page)


def among(name: str, ids: Collection[int]) -> Q:
    """`name` is one of the ids, or between the first and the last where they lie close together or are many.

    A range is read in one go, a list looked up one by one. The caller passes over what it did not ask for.
    """
    low, high = min(ids), max(ids)
    if high - low < 2 * len(ids) or len(ids) > MAX_IN:
        return Q(**{f"{name}__gte": low, f"{name}__lte": high})
    return Q(**{f"{name}__in": ids})


def fetch_plain(values: QuerySet[Any, Any]) -> list[tuple[Any, ...]]:
    """The rows as the database gives them, without Django's conversions, in a third of the time.

    UUIDs and JSON are to be cast to texts; truth is 0 or 1 on SQLite.
    """
    sql, parameters = values.query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def read_judgments(
    groups: dict[int, Group], query: SnapshotQuery, last: int, edges: dict[int, uuid.UUID]
) -> None:
    """Put the judgments that the query lets in on their prompts' groups."""
    # No filter by project: the prompts say it already, and SQLite would read the whole project for each page.
    judgments = narrow_time(Judgment.objects.filter(item__purpose="collect"), last)
    judgments = narrow_choices(judgments.filter(among("item__prompt", groups)), query).order_by("pk")
    by_flags = bool(query.with_flags or query.without_flags)
    for row in fetch_plain(judgments.values_list(*JUDGMENT, *([FLAGS] if by_flags else []))):
        group = groups.get(row[0])
        if group is None or (by_flags and not flags_fit(query, orjson.loads(row[-1]))):
            continue
        said = Said._make(row[1:12])
        if edges and said.rater in edges and said.public_id.replace("-", "") > edges[said.rater].hex:
            continue
        group.judgments.append(said)
    if not query.plain:
        ratings = read_ratings([s.pk for group in groups.values() for s in group.judgments if s.is_rating])
        for group in groups.values():
            keep_agreed(group, query, ratings)


def dashed(public_id: str) -> str:
    """A UUID with its dashes; SQLite stores it without."""
    if len(public_id) == 36:
        return public_id
    i = public_id
    return f"{i[:8]}-{i[8:12]}-{i[12:16]}-{i[16:20]}-{i[20:]}"


def keep_agreed(group: Group, query: SnapshotQuery, ratings: dict[int, list[tuple[Any, ...]]]) -> None:
    """Leave out the judgments of items with too few judgments, or whose raters agree too little."""
    items: dict[int, list[Said]] = defaultdict(list)
    for said in group.judgments:
        items[said.item].append(said)
    kept = set()
    for item, judgments in items.items():
        verdicts = [
            repr((said.choice, said.ranking, said.none_good, ratings.get(said.pk))) for said in judgments
        ]
        most = max(verdicts.count(verdict) for verdict in verdicts)
        if len(judgments) >= query.min_raters and most / len(judgments) >= query.min_agreement:
            kept.add(item)
    group.judgments = [said for said in group.judgments if said.item in kept]


def read_ratings(judgments: Sequence[int]) -> dict[int, list[tuple[Any, ...]]]:
    """What each judgment rated, by its id."""
    found: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    if judgments:
        rows = Rating.objects.filter(among("judgment", judgments)).order_by("completion_id", "dimension_id")
        for row in rows.values_list("judgment_id", "completion_id", "dimension_id", "value"):
            found[row[0]].append(row[1:])
    return found


def read_places(shared: Shared, judgments: Sequence[Said], texts: bool) -> None:
    """The completions of the judgments' items with their texts, and the texts of rewrites."""
    places = ItemCompletion.objects.filter(among("item", {said.item for said in judgments}))
    wanted = ("item_id", "completion_id", *(("completion__text",) if texts else ()))
    found, known = shared.places, shared.texts
    for row in fetch_plain(places.order_by("item_id", "position").values_list(*wanted)):
        item, completion = row[:2]
        if item in found:
            found[item].append(completion)
        else:
            found[item] = [completion]
        known[completion] = row[2] if texts else ""
    if rewrites := {said.rewrite for said in judgments if said.rewrite}:
        written = Completion.objects.filter(pk__in=rewrites).values_list("pk", "text")
        known.update((pk, text if texts else "") for pk, text in written)


def read_values(project: Project, shared: Shared, judgments: Sequence[Said]) -> None:
    """The ratings of single responses.

    A rating without a dimension is the overall one and counts alone; else the mean of the dimensions does.
    """
    owners = {said.pk for said in judgments if said.is_rating}
    if not owners:
        return
    ratings = Rating.objects.filter(among("judgment", owners)).order_by("judgment_id", "pk")
    shares: dict[tuple[int, int], list[tuple[bool, float]]] = defaultdict(list)
    for pk, completion, low, high, value in ratings.values_list(
        "judgment_id", "completion_id", "dimension__low", "dimension__high", "value"
    ):
        if pk in owners:
            bottom, top = (project.scale_min, project.scale_max) if low is None else (low, high)
            shares[pk, completion].append((low is None, (value - bottom) / (top - bottom)))
    for (pk, completion), given in shares.items():
        counted = [share for overall, share in given if overall] or [share for _, share in given]
        shared.values[pk] = (completion, sum(counted) / len(counted))
