"""What differs between two snapshots: choices, judgments, raters and rows."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from django.db.models import Exists, OuterRef

from training.models import DatasetSnapshot, SnapshotJudgment
from training.services.rows import KINDS
from training.services.snapshots import query_of

MOST_ROWS = 200_000
"""Rows of a file up to which rows are compared one by one; above it would take a web page too long."""

Line = tuple[bytes, bytes]
"""What a row is about, and all of it, as hashes."""


@dataclass(frozen=True)
class RowChanges:
    """The rows of one file: `changed` are about the same responses and say something else of them."""

    name: str
    before: int
    after: int
    added: int | None = None
    removed: int | None = None
    changed: int | None = None


@dataclass(frozen=True)
class Difference:
    """From one snapshot to another.

    Attributes:
        choices: (field, before, after) of what was asked differently.
        raters_added, raters_removed: pseudonyms.
        rows: the files that have rows; counted by themselves where they are too many to compare.
    """

    choices: list[tuple[str, Any, Any]]
    judgments_added: int
    judgments_removed: int
    raters_added: list[str]
    raters_removed: list[str]
    rows: list[RowChanges]

    @property
    def compared(self) -> bool:
        """Whether the rows were compared one by one."""
        return all(entry.added is not None for entry in self.rows)


def compare_snapshots(before: DatasetSnapshot, after: DatasetSnapshot) -> Difference:
    """What differs in `after`.

    Raises:
        OSError: a file of one of them is gone.
    """
    old, new = query_of(before).choices, query_of(after).choices
    raters = [
        {entry["rater"] for entry in snapshot.counts.get("card", {}).get("raters", [])}
        for snapshot in (before, after)
    ]
    return Difference(
        [
            (name, old.get(name), new.get(name))
            for name in sorted(old | new)
            if old.get(name) != new.get(name)
        ],
        count_missing(after, before),
        count_missing(before, after),
        sorted(raters[1] - raters[0]),
        sorted(raters[0] - raters[1]),
        [changes for kind in KINDS for changes in compare_kind(before, after, kind)],
    )


def count_missing(here: DatasetSnapshot, there: DatasetSnapshot) -> int:
    """How many judgments are in the first and not in the second."""
    both = SnapshotJudgment.objects.filter(snapshot=there, judgment=OuterRef("judgment"))
    return SnapshotJudgment.objects.filter(~Exists(both), snapshot=here).count()


def compare_kind(before: DatasetSnapshot, after: DatasetSnapshot, kind: str) -> Iterator[RowChanges]:
    """The changes in each of the kind's files that has rows in either."""
    for split in ("train", "eval"):
        name = f"{kind}.{split}.jsonl"
        counts = [snapshot.counts["rows"].get(name, 0) for snapshot in (before, after)]
        if not any(counts):
            continue
        if max(counts) > MOST_ROWS:
            yield RowChanges(name, counts[0], counts[1])
            continue
        lines = [
            read_rows(snapshot.directory / name, kind) if n else Counter[Line]()
            for snapshot, n in zip((before, after), counts, strict=True)
        ]
        yield RowChanges(name, counts[0], counts[1], *compare_rows(*lines))


def read_rows(path: Path, kind: str) -> Counter[Line]:
    """The file's rows, each as often as it is there."""
    with path.open("rb") as file:
        return Counter((digest(subject_of(orjson.loads(line), kind)), digest(line)) for line in file)


def compare_rows(before: Counter[Line], after: Counter[Line]) -> tuple[int, int, int]:
    """How many rows were added, removed, and changed."""
    added, removed = Counter[bytes](), Counter[bytes]()
    for (subject, _), n in (after - before).items():
        added[subject] += n
    for (subject, _), n in (before - after).items():
        removed[subject] += n
    changed = (added & removed).total()
    return added.total() - changed, removed.total() - changed, changed


def subject_of(row: dict[str, Any], kind: str) -> bytes:
    """What a row is about: the prompt and its responses, whichever was preferred."""
    if kind == "preference":
        responses = sorted(orjson.dumps(row[name]) for name in ("chosen", "rejected"))
    elif kind == "ranking":
        responses = sorted(orjson.dumps(response) for response in row["completions"])
    elif kind == "prompts":
        responses = []
    else:
        responses = [orjson.dumps(row["completion"])]
    return orjson.dumps(row["prompt"]) + b"".join(responses)


def digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=10).digest()
