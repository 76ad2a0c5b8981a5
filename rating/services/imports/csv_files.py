"""CSV with a heading: comma, semicolon or tab; every cell is a text, formulas too."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from rating.services.imports.jsonl import MAX_LINE, Rows
from rating.services.imports.reports import LineError

SEPARATORS = ",\t;"
MAX_COLUMNS = 1000


def read_csv(stream: io.BufferedReader) -> Rows:
    """Each record as (number of its first line, object of texts), or the error in its place.

    A cell that holds chat messages as JSON becomes these; a cell that the record lacks is not in the object.

    Raises:
        LineError: the file cannot be read any further.
    """
    lines = Lines(stream)
    head = lines.heading()
    csv.field_size_limit(MAX_LINE)
    reader = csv.reader(lines, delimiter=separator_of(head), strict=True)
    names: list[str] = []
    while True:
        line = lines.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            words = str(error)
            if "unexpected end of data" in words:
                words = "a quotation mark is opened and never closed, or the file is cut off"
            raise LineError(line, f"is not valid CSV ({words}).") from None
        if not names:
            names = check_heading(line, cells)
        elif cells:
            yield line, to_row(line, names, cells)


class Lines(Iterator[str]):
    """The decoded lines of the file; `number` is that of the last one given out."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self.stream = stream
        self.number = 0
        self.first: str | None = None

    def heading(self) -> str:
        """The first line, which is given out once more."""
        self.first = next(self, "")
        self.number = 0
        return self.first

    def __next__(self) -> str:
        if self.first is not None:
            line, self.first = self.first, None
            self.number += 1
            if not line:
                raise StopIteration
            return line
        try:
            raw = self.stream.readline(MAX_LINE + 1)
        except LineError as error:
            raise LineError(self.number + 1, f"from here on {error.message}") from error
        if not raw:
            raise StopIteration
        self.number += 1
        if len(raw) > MAX_LINE:
            raise LineError(self.number, f"is longer than {MAX_LINE:,} bytes; split what it holds into rows.")
        if b"\x00" in raw:
            raise LineError(self.number, f"holds a NUL byte (byte {raw.index(0) + 1}); remove it.")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            words = f"is not UTF-8 (byte {error.start + 1} is 0x{raw[error.start]:02x}); save the file so."
            raise LineError(self.number, words) from None


def separator_of(heading: str) -> str:
    """The separator that stands in the heading most often; the comma when none does."""
    return max(SEPARATORS, key=heading.count)


def check_heading(line: int, names: list[str]) -> list[str]:
    """The names of the columns. Raises LineError."""
    names = [name.strip() for name in names]
    if len(names) > MAX_COLUMNS:
        raise LineError(line, f"the heading has {len(names):,} columns; at most {MAX_COLUMNS:,} are taken.")
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise LineError(line, f"the heading names the column {twice[0][:60]!r} twice; rename one.")
    if not any(names):
        raise LineError(line, "the heading is empty; the first line of a CSV file names the columns.")
    return names


def to_row(line: int, names: list[str], cells: list[str]) -> dict[str, Any] | LineError:
    if len(cells) > len(names):
        return LineError(
            line,
            f"has {len(cells):,} cells, and the heading names {len(names):,}; quote texts with separators.",
        )
    return {name: read_cell(cell) for name, cell in zip(names, cells, strict=False) if name}


def read_cell(cell: str) -> Any:
    """The text, or the chat messages that it holds as JSON."""
    if cell.startswith("[{") and ('"role"' in cell or '"from"' in cell):
        try:
            value = json.loads(cell)
        except (ValueError, RecursionError):
            return cell
        if all(isinstance(message, dict) for message in value):
            return value
    return cell
