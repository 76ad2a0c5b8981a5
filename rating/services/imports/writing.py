"""Storing checked rows, a batch at a time, each text, item and judgment once. Runs inside a transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from django.db.models import F, Max
from django.utils import timezone

from rating.models import Completion, Item, ItemCompletion, Judgment, Project, Prompt, Rater, Rating
from rating.models.people import new_pseudonym
from rating.services.bulk import find_hashes, insert_rows, new_uuids
from rating.services.imports.reports import ImportReport
from rating.services.imports.staging import Staged, StagedResponse, StagedVote
from rating.services.items import item_hash, queue_key

# SQLite takes 32,766 variables in a query; the widest of ours names two per row.
MAX_IN = 10_000
T = TypeVar("T")

PROMPT_FIELDS = ("project_id", "text_hash", "split", "messages", "metadata", "source")
COMPLETION_FIELDS = ("prompt_id", "text", "text_hash", "source_model", "names_maker")
ITEM_FIELDS = ("content_hash", "project_id", "prompt_id", "queue_key", "overlap", "open_slots")
JUDGMENT_FIELDS = (
    "public_id",
    "idempotency_key",
    "item_id",
    "rater_id",
    "choice",
    "preferred_id",
    "ranking",
    "judged_at",
)
CompletionKey = tuple[int, str, str]
"""Prompt id, text hash, the maker's name."""
Verdict = tuple[Any, ...]
"""What was said, in ids of completions, so that two can be compared."""


@dataclass
class Writer:
    """What stays the same from batch to batch.

    Attributes:
        raters: ids of the raters met so far, by their name in the source.
        judged_at: the time of votes whose source names none.
        last_prompt, last_item: the highest ids before the import: higher ones come from this file.
    """

    project: Project
    report: ImportReport
    source: str
    judged_at: datetime
    last_prompt: int
    last_item: int
    raters: dict[str, int] = field(default_factory=dict)


class Said(NamedTuple):
    """A vote on its way in: where it comes from, and its item's content hash."""

    line: int
    key: str
    rater: int
    vote: StagedVote
    verdict: Verdict


@dataclass
class Batch:
    """The ids of what a batch needs, old and new; `taken` are the lines that brought something."""

    rows: Sequence[Staged]
    taken: set[int] = field(default_factory=set)
    contradicted: set[int] = field(default_factory=set)
    prompts: dict[str, int] = field(default_factory=dict)
    new_prompts: set[str] = field(default_factory=set)
    completions: dict[CompletionKey, int] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    new_items: set[str] = field(default_factory=set)
    places: dict[str, list[int]] = field(default_factory=dict)
    """By content hash, the item's completions in the order in which it has them."""
    row_items: list[list[str]] = field(default_factory=list)
    """For each row the content hashes of its items."""


def open_writer(project: Project, source: str, last_prompt: int = -1, last_item: int = -1) -> Writer:
    """A writer for one import; ids of -1 mean that it begins now."""
    if last_prompt < 0:
        last_prompt = Prompt.objects.aggregate(last=Max("pk"))["last"] or 0
        last_item = Item.objects.aggregate(last=Max("pk"))["last"] or 0
    return Writer(project, ImportReport(""), source, timezone.now(), last_prompt, last_item)


def pieces(values: Sequence[T], size: int = MAX_IN) -> Iterator[Sequence[T]]:
    """The values in runs of at most `size`."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def write_rows(writer: Writer, rows: Sequence[Staged]) -> None:
    """Store a batch of rows and count them in the report."""
    # Two imports into one project take turns; NO KEY leaves raters' answers, which refer to it, alone.
    Project.objects.select_for_update(no_key=True).only("pk").get(pk=writer.project.pk)
    batch = Batch(rows)
    store_prompts(writer, batch)
    store_completions(writer, batch)
    said = read_votes(writer, batch)
    store_items(writer, batch, said)
    store_judgments(writer, batch, said)
    count_rows(writer, batch)


def store_prompts(writer: Writer, batch: Batch) -> None:
    """Find the batch's prompts by their hashes, and make those that are missing."""
    first: dict[str, Staged] = {}
    for row in batch.rows:
        first.setdefault(row.prompt_hash, row)
    batch.prompts.update(find_hashes(Prompt, "text_hash", writer.project.pk, list(first)))
    missing = [row for text_hash, row in first.items() if text_hash not in batch.prompts]
    project, source = writer.project.pk, writer.source
    made = insert_rows(
        Prompt,
        PROMPT_FIELDS,
        [(project, row.prompt_hash, row.split, row.messages, row.metadata, source) for row in missing],
        ready=("messages", "metadata"),
        write_by="text_hash",
    )
    batch.prompts.update(zip((row.prompt_hash for row in missing), made, strict=True))
    batch.new_prompts = {row.prompt_hash for row in missing}
    batch.taken.update(row.line for row in missing if not row.items)
    writer.report.prompts += len(made)


def store_completions(writer: Writer, batch: Batch) -> None:
    """Find the batch's completions, and make those that are missing."""
    wanted: dict[CompletionKey, StagedResponse] = {}
    asked: dict[int, set[str]] = {}
    for row in batch.rows:
        prompt = batch.prompts[row.prompt_hash]
        for response in row.responses:
            wanted.setdefault((prompt, response[1], response[2]), response)
            if row.prompt_hash not in batch.new_prompts:
                asked.setdefault(prompt, set()).add(response[1])
    for prompts in pieces(list(asked)):
        hashes = {text_hash for prompt in prompts for text_hash in asked[prompt]}
        for some in pieces(list(hashes)):
            known = Completion.objects.filter(
                prompt__in=prompts, text_hash__in=some, model_version=None, author=None
            )
            rows = known.values_list("prompt_id", "text_hash", "source_model", "pk")
            batch.completions.update(((prompt, text, model), pk) for prompt, text, model, pk in rows)
    missing = {key: response for key, response in wanted.items() if key not in batch.completions}
    made = insert_rows(
        Completion,
        COMPLETION_FIELDS,
        [(key[0], one[0], one[1], one[2], one[3]) for key, one in missing.items()],
    )
    batch.completions.update(zip(missing, made, strict=True))
    writer.report.completions += len(made)


def read_votes(writer: Writer, batch: Batch) -> list[Said]:
    """The items' identities and, of the votes on them, the first of each rater on each item."""
    find_raters(writer, batch)
    said: dict[tuple[str, int], Said] = {}
    for row in batch.rows:
        prompt = batch.prompts[row.prompt_hash]
        ids = [batch.completions[prompt, one[1], one[2]] for one in row.responses]
        keys = []
        for item in row.items:
            places = [ids[place] for place in item]
            key = item_hash(Item.Purpose.COLLECT, prompt, places)
            batch.places.setdefault(key, places)
            keys.append(key)
        batch.row_items.append(keys)
        for vote in row.votes:
            rater, key = writer.raters[vote[0]], keys[vote[1]]
            verdict = verdict_of(vote, ids)
            first = said.setdefault((key, rater), Said(row.line, key, rater, vote, verdict))
            if first.verdict != verdict:
                batch.contradicted.add(row.line)
    return list(said.values())


def find_raters(writer: Writer, batch: Batch) -> None:
    """The ids of the batch's raters; new ones are made, each with a pseudonym of its own."""
    names = {vote[0] for row in batch.rows for vote in row.votes} - writer.raters.keys()
    if not names:
        return
    for some in pieces(sorted(names)):
        known = Rater.objects.filter(project=writer.project, external_id__in=some)
        writer.raters.update(known.values_list("external_id", "pk"))
    missing = sorted(names - writer.raters.keys())
    if not missing:
        return
    used = set(Rater.objects.filter(project=writer.project).values_list("pseudonym", flat=True))
    made = []
    for name in missing:
        pseudonym = new_pseudonym()
        while pseudonym in used:
            pseudonym = new_pseudonym()
        used.add(pseudonym)
        made.append(Rater(project=writer.project, external_id=name, pseudonym=pseudonym))
    created = Rater.objects.bulk_create(made, batch_size=1000)
    writer.raters.update({rater.external_id: rater.pk for rater in created})


def verdict_of(vote: StagedVote, ids: Sequence[int]) -> Verdict:
    """What the vote says, in ids."""
    _, _, choice, preferred, ranking, rating, _ = vote
    if preferred is not None:
        return "prefer", ids[preferred]
    if ranking is not None:
        return ("ranking", *(tuple(sorted(ids[place] for place in group)) for group in ranking))
    return (choice,) if choice else ("rating", rating)


def store_items(writer: Writer, batch: Batch, said: Sequence[Said]) -> None:
    """Find the batch's items, and make those that are missing; judged ones ask for no more raters."""
    wanted: dict[str, Staged] = {}
    for row, keys in zip(batch.rows, batch.row_items, strict=True):
        for key in keys:
            wanted.setdefault(key, row)
    old = [key for key, row in wanted.items() if row.prompt_hash not in batch.new_prompts]
    batch.items.update(find_hashes(Item, "content_hash", writer.project.pk, old))
    missing = [key for key in wanted if key not in batch.items]
    votes: dict[str, int] = {}
    for one in said:
        votes[one.key] = votes.get(one.key, 0) + 1
    project, slots = writer.project, writer.project.overlap
    rows = []
    for key in missing:
        count = votes.get(key, 0)
        overlap, open_slots = (count, 0) if count else (slots, slots)
        prompt = batch.prompts[wanted[key].prompt_hash]
        rows.append((key, project.pk, prompt, queue_key(project), overlap, open_slots))
    made = insert_rows(Item, ITEM_FIELDS, rows, write_by="content_hash")
    batch.items.update(zip(missing, made, strict=True))
    batch.new_items = set(missing)
    batch.taken.update(wanted[key].line for key in missing if not votes.get(key))
    places = [
        (item, completion, position)
        for key, item in zip(missing, made, strict=True)
        for position, completion in enumerate(batch.places[key])
    ]
    insert_rows(ItemCompletion, ("item_id", "completion_id", "position"), places)
    writer.report.items += len(made)


def store_judgments(writer: Writer, batch: Batch, said: Sequence[Said]) -> None:
    """Store what imported raters said, once per item and rater.

    An item that was in the project unjudged by this rater keeps its open slots: its overlap grows by one.
    """
    if not said:
        return
    old = {batch.items[one.key]: one.key for one in said if one.key not in batch.new_items}
    before = read_before(batch, old, {one.rater for one in said})
    new: list[Said] = []
    grown: dict[int, int] = {}
    for one in said:
        item = batch.items[one.key]
        earlier = before.get((item, one.rater))
        if earlier is None:
            new.append(one)
            batch.taken.add(one.line)
            if one.key not in batch.new_items:
                grown[item] = grown.get(item, 0) + 1
        elif earlier != one.verdict:
            batch.contradicted.add(one.line)
    made = insert_rows(
        Judgment,
        JUDGMENT_FIELDS,
        [new_judgment(writer, batch, one, ids) for one, ids in with_uuids(new)],
        ready=("public_id", "idempotency_key", "ranking"),
    )
    ratings = [
        (judgment, batch.places[one.key][0], one.vote[5])
        for judgment, one in zip(made, new, strict=True)
        if one.vote[5] is not None
    ]
    insert_rows(Rating, ("judgment_id", "completion_id", "value"), ratings)
    for count in set(grown.values()):
        for items in pieces([item for item, more in grown.items() if more == count]):
            Item.objects.filter(pk__in=items).update(overlap=F("overlap") + count)
    writer.report.judgments += len(new)


def read_before(batch: Batch, old: dict[int, str], raters: set[int]) -> dict[tuple[int, int], Verdict]:
    """What these raters said before of items that were there, by item and rater; their places too."""
    before: dict[tuple[int, int], Verdict] = {}
    for items in pieces(list(old)):
        order: dict[int, list[int]] = {}
        places = ItemCompletion.objects.filter(item__in=items).order_by("item_id", "position")
        for item, completion in places.values_list("item_id", "completion_id"):
            order.setdefault(item, []).append(completion)
        batch.places.update({old[item]: completions for item, completions in order.items()})
        rated = Rating.objects.filter(judgment__item__in=items, dimension=None)
        ratings = dict(rated.values_list("judgment_id", "value"))
        found = Judgment.objects.in_force().filter(item__in=items)
        for pk, item, rater, choice, preferred, ranking in found.values_list(
            "pk", "item_id", "rater_id", "choice", "preferred_id", "ranking"
        ):
            if rater in raters:
                before[item, rater] = stored_verdict(choice, preferred, ranking, ratings.get(pk))
    return before


def stored_verdict(
    choice: str, preferred: int | None, ranking: list[list[int]] | None, rating: int | None
) -> Verdict:
    """A stored judgment in the form of `verdict_of`."""
    if preferred is not None:
        return "prefer", preferred
    if ranking is not None:
        return ("ranking", *(tuple(sorted(group)) for group in ranking))
    return (choice,) if choice else ("rating", rating)


def with_uuids(said: Sequence[Said]) -> Iterator[tuple[Said, tuple[str, str]]]:
    """Each vote with the two identities that its judgment needs."""
    keys = new_uuids(2 * len(said))
    return zip(said, zip(keys[::2], keys[1::2], strict=True), strict=True)


def new_judgment(writer: Writer, batch: Batch, said: Said, ids: tuple[str, str]) -> tuple[Any, ...]:
    """The values of JUDGMENT_FIELDS; `a` is the completion at position 0 of the item."""
    _, _, choice, preferred, ranking, _, at = said.vote
    better: int | None = None
    groups: str | None = None
    if preferred is not None:
        better = said.verdict[1]
        choice = "a" if batch.places[said.key][0] == better else "b"
    elif ranking is not None:
        groups = json.dumps(said.verdict[1:])
    when = writer.judged_at if at is None else datetime.fromtimestamp(at, UTC)
    return *ids, batch.items[said.key], said.rater, choice, better, groups, when


def count_rows(writer: Writer, batch: Batch) -> None:
    """Say of each line whether it was taken, and if not why."""
    report = writer.report
    counted: set[int] = set()
    for row, keys in zip(batch.rows, batch.row_items, strict=True):
        if row.line in batch.taken:
            if row.line not in counted:
                report.taken += 1
            for remark in row.noted:
                report.note(remark, row.line)
        elif row.line in counted:
            pass
        elif row.line in batch.contradicted:
            report.leave_out("contradiction", row.line)
        elif (
            max((batch.items[key] for key in keys), default=0) > writer.last_item
            or batch.prompts[row.prompt_hash] > writer.last_prompt
        ):
            report.leave_out("repeated", row.line)
        else:
            report.leave_out("known", row.line)
        counted.add(row.line)
