"""One import from beginning to end: check every row, then store the rows batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO

from django.db import IntegrityError, connection, transaction

from rating.models import Assignment, Project
from rating.services.imports.checking import check_file
from rating.services.imports.formats import BY_NAME, recognise
from rating.services.imports.formats.base import Row
from rating.services.imports.formats.columns import NAME as COLUMNS
from rating.services.imports.formats.columns import Columns, reader_of
from rating.services.imports.opening import Bounds
from rating.services.imports.reading import Progress, first_rows
from rating.services.imports.reports import ImportFailed, ImportReport, LineError
from rating.services.imports.rows import Read
from rating.services.imports.staging import Staged, Staging
from rating.services.imports.writing import Writer, open_writer, pieces, write_rows

# A batch is a transaction: on SQLite nobody else writes meanwhile, so it is to be short.
BATCH_ROWS = 1000
DRY_BATCHES = 20
LOOKED_AT = 20
ATTEMPTS = 3
# SQLite: who waits for the lock looks for it now and then, at first after 1, 3, 8, 18 and 33 milliseconds.
# While people rate, it is left open for this share of the time that it was held.
PAUSE_SHARE = 0.5

FORMATS = ("auto", *BY_NAME, COLUMNS)


@dataclass
class Position:
    """How far the second pass came; kept by whoever wants to go on after a stop.

    Attributes:
        rows: checked rows that are stored.
        report: what became of them.
        last_prompt, last_item: the highest ids before the import: higher ones come from this file.
    """

    rows: int = 0
    report: dict[str, Any] = field(default_factory=dict)
    last_prompt: int = -1
    last_item: int = -1


Keep = Callable[[Position, int], None]
"""Called with the position after each batch, within its transaction, and the number of checked rows."""


def import_file(
    project: Project,
    file: BinaryIO,
    *,
    format: str = "auto",  # noqa: A002  # the word of the command and the page
    columns: Columns | None = None,
    source: str = "",
    dry_run: bool = False,
    max_bytes: int | None = None,
    rejects: BinaryIO | None = None,
    progress: Progress | None = None,
    position: Position | None = None,
    keep: Keep | None = None,
) -> ImportReport:
    """Import a file of JSON Lines, JSON, CSV or Parquet, plain or gzip; importing it again adds nothing.

    The file is read and checked as a whole before anything is stored, so that a file with a fault leaves
    nothing behind. Then it is stored in short transactions, so that raters go on meanwhile; what is stored
    when the process is killed is found again when the file is imported once more.

    Args:
        file: seekable and binary.
        format: one of FORMATS; `auto` looks at the first rows.
        columns: which column is what, for the format `columns`.
        source: where the prompts came from, kept on each new one (at most 200 characters).
        dry_run: do everything, report it, and keep nothing.
        max_bytes: how much may come out of a packed file.
        rejects: where bad rows are written to; with it, the good ones are taken nevertheless.
        progress: told now and then how many bytes of the file were read.
        position: where an earlier attempt stopped.
        keep: stores the position, in the transaction of the batch that leads there.

    Raises:
        ImportFailed: with the first 20 errors; nothing was imported.
    """
    if format not in FORMATS:
        raise ValueError(f"format: {format!r} is unknown; use one of {', '.join(FORMATS)}.")
    bounds = Bounds(max_bytes)
    name, read = find_reader(file, format, columns, bounds)
    report = ImportReport(name, dry_run)
    stage = check_file(project, file, read, report, bounds=bounds, rejects=rejects, progress=progress)
    try:
        if dry_run:
            stored = try_stage(project, stage, source[:200], keep)
        else:
            stored = store_stage(project, stage, source[:200], position or Position(), keep)
    finally:
        stage.close()
    report.add(stored)
    return report


def find_reader(
    file: BinaryIO, format_name: str, columns: Columns | None, bounds: Bounds
) -> tuple[str, Callable[[int, Row], Read]]:
    """The format's name and what reads its rows. Raises ImportFailed when the file is in none of ours."""
    if format_name == COLUMNS or (columns is not None and format_name == "auto"):
        return COLUMNS, reader_of(columns or Columns())
    if format_name != "auto":
        return format_name, BY_NAME[format_name].read
    rows = [row for _, row in first_rows(file, LOOKED_AT, bounds)]
    found = recognise(rows)
    if found is None and rows:
        names = ", ".join(sorted(str(name)[:40] for name in rows[0])[:20])
        found_none = f"the rows are in no format that is known (their fields: {names}); "
        found_none += "a row has `prompt`; prompt: is missing. Name the format, or which column is what."
        raise ImportFailed([LineError(None, found_none)])
    # Nothing could be read: reading it once more says why.
    known = found or BY_NAME["responses"]
    return known.name, known.read


def store_stage(
    project: Project, stage: Staging, source: str, position: Position, keep: Keep | None
) -> ImportReport:
    """Store the checked rows from the position on, in batches, each a transaction of its own."""
    writer = open_writer(project, source, position.last_prompt, position.last_item)
    position.last_prompt, position.last_item = writer.last_prompt, writer.last_item
    if position.report:
        writer.report = ImportReport.from_json(position.report)
    for batch in batches(stage, position.rows):
        began = time.monotonic()
        writer = store_batch(writer, batch, position, keep, stage.count)
        if connection.vendor == "sqlite" and Assignment.objects.live().exists():
            time.sleep(PAUSE_SHARE * (time.monotonic() - began))
    return writer.report


def try_stage(project: Project, stage: Staging, source: str, keep: Keep | None) -> ImportReport:
    """What storing the checked rows would do; all is undone, in parts, so that raters wait for one at most.

    A row that repeats one of an earlier part, of 20,000 rows, counts as new: what would show it is undone.
    """
    writer, position = open_writer(project, source), Position()
    rest = batches(stage, 0)
    while tried := list(islice(rest, DRY_BATCHES)):
        with transaction.atomic():
            for batch in tried:
                write_rows(writer, batch)
            transaction.set_rollback(True)
        writer.raters.clear()
        position.rows += sum(map(len, tried))
        if keep:
            keep(position, stage.count)
    return writer.report


def store_batch(
    writer: Writer, batch: Sequence[Staged], position: Position, keep: Keep | None, total: int
) -> Writer:
    """Store a batch and the position after it; tried again when somebody else stored the same text first."""
    before = writer.report.to_json()
    for attempt in range(1, ATTEMPTS + 1):
        writer.report = ImportReport.from_json(before)
        try:
            with transaction.atomic():
                write_rows(writer, batch)
                position.report = writer.report.to_json()
                position.rows += len(batch)
                if keep:
                    keep(position, total)
        except IntegrityError as error:
            writer.raters.clear()
            if attempt == ATTEMPTS or connection.in_atomic_block:
                words = (
                    "The project changed during the import, which stopped: import the file again to go on."
                )
                raise ImportFailed([LineError(None, words)]) from error
        else:
            return writer
    raise AssertionError("the last attempt returns or raises")


def batches(stage: Staging, skip: int) -> Iterator[Sequence[Staged]]:
    """The checked rows after the first `skip`, in runs that are stored together."""
    for piece in stage.pieces():
        if skip >= len(piece):
            skip -= len(piece)
            continue
        yield from pieces(piece[skip:], BATCH_ROWS)
        skip = 0
