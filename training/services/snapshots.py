"""Freezing judgments into a DatasetSnapshot: hashed files, a manifest, and a row for every judgment in it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from rating.models import Guidelines, Project, Split, User, Webhook
from rating.services.audit import record_event
from rating.services.bulk import insert_rows
from rating.services.webhooks import announce
from training.agreement import Agreement
from training.models import DatasetSnapshot, SnapshotJudgment
from training.services.cards import CardCounts, make_card
from training.services.files import hash_file
from training.services.making import count_set_aside, iter_rows
from training.services.queries import QueryError, SnapshotQuery, bind_query
from training.services.rows import KINDS, LEFT_OUT, Row

MANIFEST = "manifest.json"
QUERY = "query.json"
DATA_FILES = tuple(f"{kind}.{split}.jsonl" for kind in KINDS for split in Split.values)
SPLIT_RULE = "by a hash of the first user message; decided once, when the prompt is stored"
NAMED = 20_000
"""Judgments that are named in one insertion, so that memory does not grow with the snapshot."""
NOTHING_PREFERRED = ("tie", "both_bad", "none_good", "undecided")


class SnapshotError(Exception):
    """Nothing can be frozen; says why, and what would help."""


@dataclass
class Frozen:
    """What was written: rows and hash by file name, judgments by split, and what was left out."""

    rows: Counter[str] = field(default_factory=Counter)
    hashes: dict[str, str] = field(default_factory=dict)
    judgments: dict[str, list[str]] = field(default_factory=lambda: {split: [] for split in Split.values})
    judgment_ids: list[int] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def content_hash(self) -> str:
        """sha256 over the files' names and hashes, sorted."""
        pairs = json.dumps(sorted(self.hashes.items()), separators=(",", ":"))
        return hashlib.sha256(pairs.encode()).hexdigest()

    @property
    def counts(self) -> dict[str, Any]:
        """What the snapshot's row says of it."""
        return {
            "rows": {name: self.rows[name] for name in DATA_FILES},
            "judgments": {split: len(ids) for split, ids in self.judgments.items()},
            "left_out": {reason: count for reason, count in sorted(self.left_out.items()) if count},
            "card": self.card,
        }


class Writer:
    """The data files of a snapshot while they are written."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.files: dict[str, BinaryIO] = {
            name: stack.enter_context((directory / name).open("wb")) for name in DATA_FILES
        }
        self.digests = {name: hashlib.sha256() for name in DATA_FILES}
        self.rows: Counter[str] = Counter()

    def add(self, row: Row) -> None:
        """Write one row to the file it belongs to."""
        name = f"{row.kind}.{row.split}.jsonl"
        line = row.line()
        self.files[name].write(line)
        self.digests[name].update(line)
        self.rows[name] += 1

    def sync(self) -> None:
        """Make sure that the disk has what was written."""
        for file in self.files.values():
            file.flush()
            os.fsync(file.fileno())


def freeze_snapshot(
    project: Project, query: SnapshotQuery | None = None, *, user: User | None = None
) -> DatasetSnapshot:
    """Freeze what the query lets in; a snapshot with the same query and rows is returned as it is.

    One whose files were lost or changed is frozen anew under the next number.

    The files are written beside their place and moved there in the transaction that makes the rows, so that a
    failure leaves neither.

    Args:
        query: without one, every judgment, a row for each vote.

    Raises:
        SnapshotError: there is nothing to learn from.
    """
    query = bind_query(project, query or SnapshotQuery())
    parent: Path = settings.SNAPSHOTS_DIR / project.slug
    parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".freezing-", dir=parent))
    try:
        frozen = write_files(project, temporary, query)
        check_worth(frozen)
        write_manifest(project, temporary, frozen, query)
        return keep_snapshot(project, temporary, frozen, query, user)
    except QueryError as error:
        raise SnapshotError(str(error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # gone already when it became the snapshot


def write_files(project: Project, directory: Path, query: SnapshotQuery) -> Frozen:
    """Write the data files, synced to disk."""
    frozen, counts, agreement = Frozen(), CardCounts(), Agreement()
    with ExitStack() as stack:
        writer = Writer(directory, stack)
        for result in iter_rows(project, query, agreement=agreement):
            for row in result.rows:
                writer.add(row)
            frozen.judgments[result.split] += [said.name for said in result.used]
            frozen.judgment_ids += [said.pk for said in result.used]
            frozen.left_out.update(result.left_out)
            counts.add(result)
        writer.sync()
    frozen.rows = writer.rows
    frozen.hashes = {name: digest.hexdigest() for name, digest in writer.digests.items()}
    frozen.hashes[QUERY] = write_query(directory, query)
    counted = len(frozen.judgment_ids) + frozen.left_out.total()
    ties = sum(frozen.left_out[reason] for reason in NOTHING_PREFERRED)
    splits = {split: len(ids) for split, ids in frozen.judgments.items()}
    frozen.left_out.update(count_set_aside(project, query, counted))
    frozen.card = make_card(project, counts, agreement, splits, ties)
    return frozen


def write_query(directory: Path, query: SnapshotQuery) -> str:
    """Write what was chosen; returns the file's sha256, which makes the choices part of the content hash."""
    (directory / QUERY).write_text(json.dumps(query.choices, sort_keys=True, indent=1) + "\n", "utf-8")
    return hash_file(directory / QUERY)


def check_worth(frozen: Frozen) -> None:
    """Refuse a snapshot that nothing could be trained on. Raises SnapshotError."""
    if not frozen.judgment_ids:
        left_out = frozen.counts["left_out"].items()
        reasons = "; ".join(f"{count} × {str(LEFT_OUT[reason]).lower()}" for reason, count in left_out)
        if not reasons:
            raise SnapshotError(
                _(
                    "There is nothing to freeze: no judgment of this project prefers or rates a response "
                    "yet. Rate some items first."
                )
            )
        words = _(
            "There is nothing to freeze: no judgment that was chosen prefers or rates a response "
            "(left out: %(reasons)s)."
        )
        raise SnapshotError(words % {"reasons": reasons})
    if not frozen.judgments[Split.TRAIN]:
        words = _(
            "There is nothing to train on: all %(count)s judgments are of prompts held out for evaluation. "
            "Rate items of other prompts first."
        )
        raise SnapshotError(words % {"count": len(frozen.judgment_ids)})


def write_manifest(project: Project, directory: Path, frozen: Frozen, query: SnapshotQuery) -> None:
    """Write manifest.json, synced to disk."""
    guidelines = Guidelines.objects.filter(project=project).order_by("number")
    manifest = {
        "project": project.slug,
        "created": timezone.now().isoformat(timespec="seconds"),
        "content_hash": frozen.content_hash,
        "query": describe_query(project, query),
        "split_rule": {"rule": SPLIT_RULE, "eval_percent": project.eval_percent},
        "files": {
            name: {"rows": frozen.rows[name], "sha256": frozen.hashes[name]} for name in (*DATA_FILES, QUERY)
        },
        "left_out": frozen.counts["left_out"],
        "guidelines": list(guidelines.values_list("number", flat=True)),
        "raters": sorted(entry["rater"] for entry in frozen.card["raters"]),
        "card": frozen.card,
        "judgments": frozen.judgments,
    }
    with (directory / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(manifest, file, ensure_ascii=False, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    sync_directory(directory)


def describe_query(project: Project, query: SnapshotQuery) -> dict[str, Any]:
    """What was asked for, and what a rating was measured with."""
    return {
        "asked": query.model_dump(mode="json"),
        "scale": [project.scale_min, project.scale_max],
        "dimensions": {one.key: [one.low, one.high] for one in project.dimensions.all()},
    }


def query_of(snapshot: DatasetSnapshot) -> SnapshotQuery:
    """The query that the snapshot was made with, its bounds in time too."""
    asked = snapshot.query.get("asked", {"up_to": snapshot.query.get("up_to")})
    return SnapshotQuery.model_validate(asked)


def keep_snapshot(
    project: Project, temporary: Path, frozen: Frozen, query: SnapshotQuery, user: User | None
) -> DatasetSnapshot:
    """Give the files their number, place and rows; or return the snapshot that is the same."""
    target: Path | None = None
    try:
        with transaction.atomic():
            Project.objects.select_for_update(no_key=True).get(pk=project.pk)
            snapshots = DatasetSnapshot.objects.filter(project=project).order_by("-number")
            same = snapshots.filter(content_hash=frozen.content_hash).first()
            if same and snapshot_files_ok(same):
                return same
            latest = snapshots.first()
            snapshot = DatasetSnapshot.objects.create(
                project=project,
                number=latest.number + 1 if latest else 1,
                content_hash=frozen.content_hash,
                query=describe_query(project, query),
                counts=frozen.counts,
                created_by=user,
            )
            for start in range(0, len(frozen.judgment_ids), NAMED):
                named = ((snapshot.pk, pk) for pk in frozen.judgment_ids[start : start + NAMED])
                insert_rows(SnapshotJudgment, ("snapshot_id", "judgment_id"), named)
            record_event("snapshot.frozen", project, snapshot.number, content_hash=snapshot.content_hash)
            told = {"number": snapshot.number, "content_hash": snapshot.content_hash}
            announce(project, Webhook.Event.SNAPSHOT_FROZEN, told)
            if snapshot.directory.exists():
                shutil.rmtree(snapshot.directory)  # a crash before the commit left it: no row names it
            target = temporary.rename(snapshot.directory)
            sync_directory(target.parent)
        return snapshot
    except BaseException:  # even Ctrl-C leaves no directory without its rows
        if target is not None:
            shutil.rmtree(target, ignore_errors=True)
        raise


def sync_directory(directory: Path) -> None:
    """Make sure that the disk knows the directory's entries."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_manifest(snapshot: DatasetSnapshot) -> dict[str, Any]:
    """The snapshot's manifest.

    Raises:
        SnapshotError: it is missing or unreadable.
    """
    try:
        manifest: dict[str, Any] = json.loads((snapshot.directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SnapshotError(f"The manifest of snapshot {snapshot.number} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise SnapshotError(f"The manifest of snapshot {snapshot.number} is damaged: it names no files.")
    return manifest


def snapshot_files_ok(snapshot: DatasetSnapshot) -> bool:
    """Whether every file of the snapshot is there with the bytes that were frozen."""
    try:
        manifest = read_manifest(snapshot)
        hashes = {name: hash_file(snapshot.directory / name) for name in manifest["files"]}
    except (OSError, SnapshotError):
        return False
    told = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    return told == hashes and Frozen(hashes=hashes).content_hash == snapshot.content_hash
