"""Rows of any file that can be taken: JSON Lines, JSON, CSV, Parquet, each plain or packed with gzip."""

import io
import json
from collections.abc import Callable
from typing import Any, BinaryIO

from rating.services.imports.csv_files import read_csv
from rating.services.imports.formats import recognise
from rating.services.imports.json_files import LIST_OF_ROWS, read_json
from rating.services.imports.jsonl import MAX_LINE, ONE_OBJECT, Rows, read_jsonl
from rating.services.imports.opening import PARQUET_MAGIC, Bounds, open_unpacked
from rating.services.imports.parquet_files import read_parquet
from rating.services.imports.reports import LineError

KINDS = {"jsonl": "JSON Lines", "json": "JSON", "csv": "CSV", "parquet": "Parquet"}
Progress = Callable[[int], None]
NO_ROWS = f"The file has no rows; {ONE_OBJECT}, or give JSON, CSV or Parquet."
PROGRESS_ROWS = 500
# Characters of the first rows, which the web server holds while it shows some of them.
MAX_LOOKED_AT = 20_000_000


def read_rows(
    file: BinaryIO,
    bounds: Bounds | None = None,
    progress: Progress | None = None,
    mine: Callable[[int], bool] | None = None,
) -> Rows:
    """Each row as (number from 1, object), or the error in its place, in constant memory.

    Args:
        file: seekable, read from its beginning.
        bounds: how much may come out of a packed file.
        progress: told now and then how many bytes of the file have been read.
        mine: whether a row of this number is wanted; the others are read and passed over.

    Raises:
        LineError: the file cannot be read any further (cut off, of another kind, too big when unpacked).
    """
    bounds = bounds or Bounds()
    kind = find_kind(file, bounds)
    count = 0
    rows = read_parquet(file, bounds) if kind == "parquet" else read_text(file, kind, bounds, mine)
    for count, (number, row) in enumerate(rows, start=1):
        if mine is None or mine(number):
            yield number, row
        if progress and count % PROGRESS_ROWS == 0:
            progress(file.tell())
    if not count and mine is None:
        raise LineError(None, NO_ROWS)


def read_text(file: BinaryIO, kind: str, bounds: Bounds, mine: Callable[[int], bool] | None = None) -> Rows:
    """The rows of a file that is text."""
    _, stream = open_unpacked(file, bounds)
    if kind == "jsonl":
        return read_jsonl(stream, mine)
    return read_json(stream) if kind == "json" else read_csv(stream)


def find_kind(file: BinaryIO, bounds: Bounds) -> str:
    """The key in KINDS of what the file is, by its beginning. Raises LineError."""
    _, stream = open_unpacked(file, bounds)
    try:
        head = stream.peek(4)[:4]
        if head == PARQUET_MAGIC:
            return "parquet"
        line = first_line(stream)
    except LineError as error:
        if error.line is None and "over" not in error.message and error.message.startswith("the gzip"):
            raise LineError(1, error.message) from error
        raise
    text = line.lstrip()
    if not text:
        raise LineError(None, NO_ROWS)
    if text.startswith(b"["):
        return "json"
    if not text.startswith(b"{"):
        return "csv" if looks_like_heading(text) else "jsonl"
    return "json" if is_document(line, stream) else "jsonl"


def first_line(stream: io.BufferedReader) -> bytes:
    """The first line that is not blank."""
    while line := stream.readline(MAX_LINE + 1):
        if line.strip():
            return line
    return b""


def looks_like_heading(line: bytes) -> bool:
    """Whether the line names columns: words with separators between them, or a single word."""
    try:
        text = line.decode().strip()
    except UnicodeDecodeError:
        return False
    return text[:1] not in {"]", "}", "\x00"} and (
        any(mark in text for mark in ",;\t") or text.isidentifier()
    )


def is_document(line: bytes, stream: io.BufferedReader) -> bool:
    """Whether an object that begins on this line is the whole document, with a list of rows in it."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        # A first line that stops in the middle of an object, as in a file that was written to be read.
        return is_open(line) and bool(first_line(stream))
    if first_line(stream):
        return False
    if not isinstance(row, dict) or recognise([row]) is not None:
        return False
    lists = [value for value in row.values() if isinstance(value, list) and value]
    return any(all(isinstance(inner, dict) for inner in value) for value in lists)


def is_open(line: bytes) -> bool:
    """Whether more brackets are opened on the line than closed: the object goes on below."""
    text = line.decode(errors="replace")
    return text.strip() == "{" or text.rstrip().endswith((",", "[", "{"))


def first_rows(file: BinaryIO, count: int, bounds: Bounds | None = None) -> list[tuple[int, dict[str, Any]]]:
    """The first rows that can be read, fewer when the file is shorter; errors are passed over."""
    found: list[tuple[int, dict[str, Any]]] = []
    characters = 0
    try:
        for number, row in read_rows(file, bounds):
            if not isinstance(row, LineError):
                found.append((number, row))
                characters += sum(len(value) for value in row.values() if isinstance(value, str))
            if len(found) >= count or number > count * 10 or characters > MAX_LOOKED_AT:
                break
    except LineError:
        pass  # what is wrong with the file is told when it is checked
    return found


__all__ = ["KINDS", "LIST_OF_ROWS", "find_kind", "first_rows", "read_rows"]
