"""JSON Lines: one object on each line."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from rating.services.imports.reports import LineError

MAX_LINE = 16 * 1024 * 1024
ONE_OBJECT = "each line must hold one whole JSON object"
Rows = Iterator[tuple[int, dict[str, Any] | LineError]]


def read_jsonl(stream: io.BufferedReader, mine: Callable[[int], bool] | None = None) -> Rows:
    """Each row as (line number from 1, object), or the error in its place; blank lines are skipped.

    Lines that are not `mine`, by their number, are skipped unread.

    Raises:
        LineError: the file cannot be read any further (cut off, too big when unpacked).
    """
    line = 0
    while True:
        try:
            raw = stream.readline(MAX_LINE + 1)
            if not raw:
                return
            line += 1
            if len(raw) > MAX_LINE and not raw.endswith(b"\n"):
                skip_line(stream)
                yield (
                    line,
                    LineError(line, f"is longer than {MAX_LINE:,} bytes; split what it holds into rows."),
                )
                continue
        except LineError as error:
            raise LineError(line + 1, f"from here on {error.message}") from error
        if not raw.isspace() and (mine is None or mine(line)):
            try:
                row: dict[str, Any] | LineError = parse_row(line, raw)
            except LineError as error:
                error.raw = raw
                row = error
            yield line, row


def skip_line(stream: io.BufferedReader) -> None:
    """Read to the end of the line, a piece at a time."""
    while piece := stream.readline(1 << 20):
        if piece.endswith(b"\n"):
            break


def parse_row(line: int, raw: bytes) -> dict[str, Any]:
    """The JSON object on a line. Raises LineError."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise LineError(
            line,
            f"is not UTF-8 (byte {error.start + 1} is 0x{raw[error.start]:02x}); save the file so.",
        ) from None
    if "\x00" in text:
        raise LineError(line, f"holds a NUL byte (byte {raw.index(0) + 1}); remove it.")
    try:
        row = DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise LineError(
            line, f"is not valid JSON ({error.msg}, column {error.colno}); {ONE_OBJECT}."
        ) from None
    except (ValueError, RecursionError) as error:
        raise LineError(line, f"is not valid JSON ({error}); {ONE_OBJECT}.") from None
    if not isinstance(row, dict):
        raise LineError(line, f"holds {type(row).__name__}; {ONE_OBJECT}.")
    return row


def refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


DECODER = json.JSONDecoder(parse_constant=refuse_constant)
