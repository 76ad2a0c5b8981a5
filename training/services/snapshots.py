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

from rating.models import Guidelines, Judgment, Project, Rater, Split, User
from rating.services.bulk import insert_rows
from training.models import DatasetSnapshot, SnapshotJudgment
from training.services.files import hash_file
from training.services.rows import (
    KINDS,
    LEFT_OUT,
    Row,
    count_set_aside,
    iter_judgment_rows,
    iter_prompt_rows,
    last_judgment,
)

MANIFEST = "manifest.json"
DATA_FILES = tuple(f"{kind}.{split}.jsonl" for kind in KINDS for split in Split.values)
SPLIT_RULE = "by a hash of the first user message; decided once, when the prompt is stored"


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


def freeze_snapshot(project: Project, *, user: User | None = None) -> DatasetSnapshot:
    """Freeze the project's trainable judgments; the latest snapshot is returned when nothing has changed.

    A latest one whose files were lost or changed is frozen anew under the next number.

    The files are written beside their place and moved there in the transaction that makes the rows, so that a
    failure leaves neither.

    Raises:
        SnapshotError: there is nothing to learn from.
    """
    up_to = last_judgment(project)
    parent: Path = settings.SNAPSHOTS_DIR / project.slug
    parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".freezing-", dir=parent))
    try:
        frozen = write_files(project, temporary, up_to)
        check_worth(frozen)
        write_manifest(project, temporary, frozen, up_to)
        return keep_snapshot(project, temporary, frozen, up_to, user)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # gone already when it became the snapshot


def write_files(project: Project, directory: Path, up_to: int) -> Frozen:
    """Write the data files, synced to disk."""
    frozen = Frozen()
    with ExitStack() as stack:
        writer = Writer(directory, stack)
        for result in iter_judgment_rows(project, up_to=up_to):
            for row in result.rows:
                writer.add(row)
            if result.rows:
                frozen.judgments[result.split].append(str(result.public_id))
                frozen.judgment_ids.append(result.pk)
            else:
                frozen.left_out[result.left_out] += 1
        for row in iter_prompt_rows(project):
            writer.add(row)
        writer.sync()
    frozen.rows = writer.rows
    frozen.hashes = {name: digest.hexdigest() for name, digest in writer.digests.items()}
    frozen.left_out.update(count_set_aside(project, up_to))
    return frozen


def check_worth(frozen: Frozen) -> None:
    """Refuse a snapshot that nothing could be trained on. Raises SnapshotError."""
    if not frozen.judgment_ids:
        left_out = frozen.counts["left_out"].items()
        reasons = "; ".join(f"{count} × {LEFT_OUT[reason].lower()}" for reason, count in left_out)
        raise SnapshotError(
            "There is nothing to freeze: no judgment of this project prefers or rates a response"
            + (f" (left out: {reasons})." if reasons else " yet. Rate some items first.")
        )
    if not frozen.judgments[Split.TRAIN]:
        raise SnapshotError(
            f"There is nothing to train on: all {len(frozen.judgment_ids)} judgments are of prompts held out "
            "for evaluation. Rate items of other prompts first."
        )


def write_manifest(project: Project, directory: Path, frozen: Frozen, up_to: int) -> None:
    """Write manifest.json, synced to disk."""
    guidelines = Guidelines.objects.filter(project=project).order_by("number")
    raters = Rater.objects.filter(project=project, judgments__pk__lte=up_to).distinct().order_by("pseudonym")
    manifest = {
        "project": project.slug,
        "created": timezone.now().isoformat(timespec="seconds"),
        "content_hash": frozen.content_hash,
        "query": describe_query(project, up_to),
        "split_rule": {"rule": SPLIT_RULE, "eval_percent": project.eval_percent},
        "files": {name: {"rows": frozen.rows[name], "sha256": frozen.hashes[name]} for name in DATA_FILES},
        "left_out": frozen.counts["left_out"],
        "guidelines": list(guidelines.values_list("number", flat=True)),
        "raters": list(raters.values_list("pseudonym", flat=True)),
        "judgments": frozen.judgments,
    }
    with (directory / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(manifest, file, ensure_ascii=False, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    sync_directory(directory)


def describe_query(project: Project, up_to: int) -> dict[str, Any]:
    """Which judgments were asked for, and what a rating was measured with."""
    last = Judgment.objects.filter(pk=up_to).values_list("public_id", flat=True).first()
    return {
        "judgments": "in force, of items collected to learn from",
        "up_to": str(last) if last else None,
        "scale": [project.scale_min, project.scale_max],
        "dimensions": {one.key: [one.low, one.high] for one in project.dimensions.all()},
    }


def keep_snapshot(
    project: Project, temporary: Path, frozen: Frozen, up_to: int, user: User | None
) -> DatasetSnapshot:
    """Give the files their number, place and rows; or return the latest snapshot when it is the same."""
    target: Path | None = None
    try:
        with transaction.atomic():
            Project.objects.select_for_update(no_key=True).get(pk=project.pk)
            latest = DatasetSnapshot.objects.filter(project=project).order_by("-number").first()
            if latest and latest.content_hash == frozen.content_hash and snapshot_files_ok(latest):
                return latest
            snapshot = DatasetSnapshot.objects.create(
                project=project,
                number=latest.number + 1 if latest else 1,
                content_hash=frozen.content_hash,
                query=describe_query(project, up_to),
                counts=frozen.counts,
                created_by=user,
            )
            named = ((snapshot.pk, judgment) for judgment in frozen.judgment_ids)
            insert_rows(SnapshotJudgment, ("snapshot_id", "judgment_id"), named)
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
        hashes = {name: hash_file(snapshot.directory / name) for name in DATA_FILES}
        manifest = read_manifest(snapshot)
    except (OSError, SnapshotError):
        return False
    told = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    return told == hashes and Frozen(hashes=hashes).content_hash == snapshot.content_hash
