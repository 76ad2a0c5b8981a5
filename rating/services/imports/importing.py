"""One import from beginning to end: check every line, then store everything in one transaction."""

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from rating.models import Item, Project, Prompt, Rater
from rating.services.imports import hh_rlhf
from rating.services.imports.hh_rlhf import parse_transcripts
from rating.services.imports.reading import read_rows
from rating.services.imports.reports import MAX_ERRORS, ImportFailed, ImportReport, LineError
from rating.services.imports.responses import parse_responses
from rating.services.imports.rows import ImportRow, LeftOut
from rating.services.imports.writing import Writer, write_rows
from rating.services.texts import TextError

BATCH_ROWS = 2000
BATCH_CHARACTERS = 8_000_000

Parser = Callable[[int, dict[str, Any]], ImportRow | LeftOut]
PARSERS: dict[str, Parser] = {"hh-rlhf": parse_transcripts, "responses": parse_responses}
FORMATS = ("auto", *PARSERS)


def import_file(
    project: Project,
    file: BinaryIO,
    *,
    format: str = "auto",  # noqa: A002  # the word of the command and the page
    source: str = "",
    dry_run: bool = False,
    max_bytes: int | None = None,
) -> ImportReport:
    """Import a JSONL file, plain or gzip, whole or not at all; importing it again adds nothing.

    The file is read twice: a file with an error never takes the database's write lock.

    Args:
        file: seekable and binary.
        format: one of FORMATS; `auto` looks at the first row.
        source: where the prompts came from, kept on each new one (at most 200 characters).
        dry_run: do everything, report it, and keep nothing.
        max_bytes: how much may come out of a packed file.

    Raises:
        ImportFailed: with the first 20 errors; nothing was imported.
    """
    if format not in FORMATS:
        raise ValueError(f"format: {format!r} is unknown; use one of {', '.join(FORMATS)}.")
    try:
        format = find_format(file, max_bytes) if format == "auto" else format  # noqa: A001
        check_file(file, PARSERS[format], max_bytes)
        report = ImportReport(format, dry_run)
        with transaction.atomic():
            store_file(project, file, PARSERS[format], report, source[:200], max_bytes)
            if dry_run:
                transaction.set_rollback(True)
    except LineError as error:
        raise ImportFailed([error]) from error
    except IntegrityError as error:
        words = "The project changed during the import, and nothing was imported: import the file again."
        raise ImportFailed([LineError(None, words)]) from error
    return report


def find_format(file: BinaryIO, max_bytes: int | None) -> str:
    """The format that the first readable row is in."""
    for _, row in read_rows(file, max_bytes):
        if not isinstance(row, LineError):
            return "hh-rlhf" if {"chosen", "rejected"} & row.keys() else "responses"
    return "responses"


def check_file(file: BinaryIO, parse: Parser, max_bytes: int | None) -> None:
    """Read every line without storing any. Raises ImportFailed with the first errors, if there are any."""
    errors: list[LineError] = []
    try:
        for row in parse_file(file, parse, max_bytes):
            if isinstance(row, LineError):
                errors.append(row)
            if len(errors) >= MAX_ERRORS:
                break
    except LineError as error:
        errors.append(error)
    if errors:
        raise ImportFailed(errors)


def parse_file(
    file: BinaryIO, parse: Parser, max_bytes: int | None
) -> Iterator[ImportRow | LeftOut | LineError]:
    """Each row in the file's order, checked, or the error in its place."""
    for line, row in read_rows(file, max_bytes):
        if isinstance(row, LineError):
            yield row
            continue
        try:
            yield parse(line, row)
        except TextError as error:
            yield LineError(line, str(error))


def store_file(
    project: Project, file: BinaryIO, parse: Parser, report: ImportReport, source: str, max_bytes: int | None
) -> None:
    """Store the file's rows in batches; the caller's transaction holds them together."""
    # Two imports into one project take turns; NO KEY leaves raters' answers, which refer to it, alone.
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    rater = None
    if report.format == "hh-rlhf":
        rater, _ = Rater.objects.get_or_create(project=project, external_id=hh_rlhf.RATER)
    writer = Writer(
        project=project,
        report=report,
        source=source,
        rater=rater,
        judged_at=timezone.now(),
        last_prompt=Prompt.objects.aggregate(last=Max("pk"))["last"] or 0,
        last_item=Item.objects.aggregate(last=Max("pk"))["last"] or 0,
    )
    batch: list[ImportRow] = []
    characters = 0
    for row in parse_file(file, parse, max_bytes):
        if isinstance(row, LineError):
            raise row  # the file changed since it was checked
        report.rows += 1
        if isinstance(row, LeftOut):
            report.leave_out(row.reason, row.line)
            continue
        report.ignore_fields(row.ignored, row.line)
        batch.append(row)
        characters += sum(len(response.text) for response in row.responses)
        if len(batch) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
            write_rows(writer, batch)
            batch, characters = [], 0
    if batch:
        write_rows(writer, batch)
