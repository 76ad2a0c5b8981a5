"""Storing checked rows, a batch at a time, each text and item once. Runs inside the import's transaction."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from django.db.models import F

from rating.models import Completion, Item, ItemCompletion, Judgment, Project, Prompt, Rater
from rating.services.bulk import insert_rows
from rating.services.imports.reports import ImportReport
from rating.services.imports.rows import ImportRow, Response
from rating.services.items import item_hash, queue_key
from rating.services.texts import split_of

# SQLite takes 32,766 variables in a query; the widest of ours names two per row.
MAX_IN = 10_000
T = TypeVar("T")

JUDGMENT_FIELDS = (
    "public_id",
    "item_id",
    "rater_id",
    "idempotency_key",
    "choice",
    "preferred_id",
    "judged_at",
)
CompletionKey = tuple[int, str, str]
"""Prompt id, text hash, the maker's name."""


@dataclass
class Writer:
    """What stays the same from batch to batch.

    Attributes:
        rater: who judged the rows that come judged.
        last_prompt, last_item: the highest ids before the import: higher ones come from this file.
    """

    project: Project
    report: ImportReport
    source: str
    rater: Rater | None
    judged_at: datetime
    last_prompt: int
    last_item: int


@dataclass
class Batch:
    """The ids of what a batch needs, old and new; `taken` are the lines that brought something."""

    rows: Sequence[ImportRow]
    taken: set[int] = field(default_factory=set)
    prompts: dict[str, int] = field(default_factory=dict)
    new_prompts: set[str] = field(default_factory=set)
    completions: dict[CompletionKey, int] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    new_items: set[str] = field(default_factory=set)

    def item_hashes(self, row: ImportRow) -> list[str]:
        """The identities of the row's items."""
        prompt = self.prompts[row.prompt_hash]
        return [item_hash(Item.Purpose.COLLECT, prompt, self.completion_ids(row, item)) for item in row.items]

    def completion_ids(self, row: ImportRow, item: list[int]) -> list[int]:
        """The ids of the completions of one of the row's items, in canonical order."""
        prompt = self.prompts[row.prompt_hash]
        return [self.completions[key_of(prompt, row.responses[place])] for place in item]


def key_of(prompt: int, response: Response) -> CompletionKey:
    return prompt, response.text_hash, response.model


def pieces(values: Sequence[T], size: int = MAX_IN) -> Iterator[Sequence[T]]:
    """The values in runs of at most `size`."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def write_rows(writer: Writer, rows: Sequence[ImportRow]) -> None:
    """Store a batch of rows and count them in the report."""
    batch = Batch(rows)
    store_prompts(writer, batch)
    store_completions(writer, batch)
    store_items(writer, batch)
    judged = store_judgments(writer, batch)
    count_rows(writer, batch, judged)


def store_prompts(writer: Writer, batch: Batch) -> None:
    """Find the batch's prompts by their hashes, and make those that are missing."""
    first: dict[str, ImportRow] = {}
    for row in batch.rows:
        first.setdefault(row.prompt_hash, row)
    for hashes in pieces(list(first)):
        known = Prompt.objects.filter(project=writer.project, text_hash__in=hashes)
        batch.prompts.update(known.values_list("text_hash", "pk"))
    missing = [row for text_hash, row in first.items() if text_hash not in batch.prompts]
    made = insert_rows(
        Prompt,
        ("project_id", "messages", "text_hash", "split", "metadata", "source"),
        (
            (
                writer.project.pk,
                row.messages,
                row.prompt_hash,
                split_of(row.messages, writer.project.eval_percent).value,
                row.metadata,
                writer.source,
            )
            for row in missing
        ),
    )
    batch.prompts.update(zip((row.prompt_hash for row in missing), made, strict=True))
    batch.new_prompts = {row.prompt_hash for row in missing}
    batch.taken.update(row.line for row in missing if not row.items)
    writer.report.prompts += len(made)


def store_completions(writer: Writer, batch: Batch) -> None:
    """Find the batch's completions, and make those that are missing."""
    wanted: dict[CompletionKey, Response] = {}
    asked: dict[int, set[str]] = {}
    for row in batch.rows:
        prompt = batch.prompts[row.prompt_hash]
        for response in row.responses:
            wanted.setdefault(key_of(prompt, response), response)
            if row.prompt_hash not in batch.new_prompts:
                asked.setdefault(prompt, set()).add(response.text_hash)
    for prompts in pieces(list(asked)):
        hashes = {text_hash for prompt in prompts for text_hash in asked[prompt]}
        for some in pieces(list(hashes)):
            known = Completion.objects.filter(
                prompt__in=prompts, text_hash__in=some, model_version=None, author=None
            )
            rows = known.values_list("prompt_id", "text_hash", "source_model", "pk")
            batch.completions.update(((prompt, text, model), pk) for prompt, text, model, pk in rows)
    missing = [key for key in wanted if key not in batch.completions]
    made = insert_rows(
        Completion,
        ("prompt_id", "text", "text_hash", "source_model", "names_maker"),
        ((key[0], wanted[key].text, key[1], key[2], wanted[key].names_maker) for key in missing),
    )
    batch.completions.update(zip(missing, made, strict=True))
    writer.report.completions += len(made)


def store_items(writer: Writer, batch: Batch) -> None:
    """Find the batch's items, and make those that are missing; judged ones ask for no more raters."""
    wanted: dict[str, tuple[ImportRow, list[int]]] = {}
    for row in batch.rows:
        for content_hash, item in zip(batch.item_hashes(row), row.items, strict=True):
            wanted.setdefault(content_hash, (row, item))
    old = [key for key, (row, _) in wanted.items() if row.prompt_hash not in batch.new_prompts]
    for hashes in pieces(old):
        known = Item.objects.filter(project=writer.project, content_hash__in=hashes)
        batch.items.update(known.values_list("content_hash", "pk"))
    missing = [key for key in wanted if key not in batch.items]
    made = insert_rows(
        Item,
        ("project_id", "prompt_id", "content_hash", "queue_key", "overlap", "open_slots"),
        (new_item(writer, batch, key, wanted[key][0]) for key in missing),
    )
    batch.items.update(zip(missing, made, strict=True))
    batch.new_items = set(missing)
    batch.taken.update(wanted[key][0].line for key in missing if wanted[key][0].preferred is None)
    insert_rows(
        ItemCompletion,
        ("item_id", "completion_id", "position"),
        (
            (batch.items[key], completion, position)
            for key in missing
            for position, completion in enumerate(batch.completion_ids(*wanted[key]))
        ),
    )
    writer.report.items += len(made)


def new_item(writer: Writer, batch: Batch, content_hash: str, row: ImportRow) -> tuple[Any, ...]:
    judged = row.preferred is not None
    overlap, open_slots = (1, 0) if judged else (writer.project.overlap, writer.project.overlap)
    prompt = batch.prompts[row.prompt_hash]
    return writer.project.pk, prompt, content_hash, queue_key(writer.project), overlap, open_slots


def store_judgments(writer: Writer, batch: Batch) -> dict[int, int]:
    """Store what the imported rater preferred, once per item; returns what stood there before, by item id.

    An item that was in the project unjudged by this rater keeps its open slots: its overlap grows by one.
    """
    judged = [row for row in batch.rows if row.preferred is not None]
    if not judged:
        return {}
    hashes = {row.line: batch.item_hashes(row)[0] for row in judged}
    old = [batch.items[key] for key in set(hashes.values()) - batch.new_items]
    before: dict[int, int] = {}
    places: dict[tuple[int, int], int] = {}
    for items in pieces(old):
        said = Judgment.objects.in_force().filter(rater=writer.rater, item__in=items)
        before.update(said.values_list("item_id", "preferred_id"))
        found = ItemCompletion.objects.filter(item__in=items)
        places.update(((i, c), p) for i, c, p in found.values_list("item_id", "completion_id", "position"))
    said_now: dict[int, int] = {}
    judgments = []
    for row in judged:
        assert row.preferred is not None
        item = batch.items[hashes[row.line]]
        if item in before or item in said_now:
            continue
        completion = batch.completion_ids(row, [row.preferred])[0]
        said_now[item] = completion
        batch.taken.add(row.line)
        judgments.append(
            new_judgment(writer, item, completion, places.get((item, completion), row.preferred))
        )
    insert_rows(Judgment, JUDGMENT_FIELDS, judgments)
    grown = [item for item in old if item in said_now]
    for items in pieces(grown):
        Item.objects.filter(pk__in=items).update(overlap=F("overlap") + 1)
    writer.report.judgments += len(judgments)
    return before | said_now


def new_judgment(writer: Writer, item: int, completion: int, position: int) -> tuple[Any, ...]:
    assert writer.rater is not None
    choice = Judgment.Choice.A if position == 0 else Judgment.Choice.B
    return uuid.uuid4(), item, writer.rater.pk, uuid.uuid4(), choice.value, completion, writer.judged_at


def count_rows(writer: Writer, batch: Batch, judged: dict[int, int]) -> None:
    """Say of each row whether it was taken, and if not why."""
    report = writer.report
    for row in batch.rows:
        if row.line in batch.taken:
            report.taken += 1
            for remark in row.noted:
                report.note(remark, row.line)
            if any(response.names_maker for response in row.responses):
                report.note("names_maker", row.line)
            continue
        items = [batch.items[key] for key in batch.item_hashes(row)]
        if row.preferred is not None and judged[items[0]] not in batch.completion_ids(row, [row.preferred]):
            report.leave_out("contradiction", row.line)
        elif max(items, default=0) > writer.last_item or batch.prompts[row.prompt_hash] > writer.last_prompt:
            report.leave_out("repeated", row.line)
        else:
            report.leave_out("known", row.line)
