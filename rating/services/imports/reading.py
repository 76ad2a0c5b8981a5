"""Lines of a file that somebody else made: JSONL, plain or gzip, read in constant memory."""

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

from rating.services.imports.reports import LineError

MAX_LINE = 16 * 1024 * 1024
GZIP_MAGIC = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"
ONE_OBJECT = "each line must hold one whole JSON object"
OTHER_FILES = {
    b"PK\x03\x04": "This is a ZIP archive: unpack it, and give the JSONL file in it.",
    b"BZh": "This file is packed with bzip2: give it plain or packed with gzip.",
    b"\xfd7zX": "This file is packed with xz: give it plain or packed with gzip.",
    b"\x28\xb5\x2f\xfd": "This file is packed with zstd: give it plain or packed with gzip.",
    b"PAR1": "This is a Parquet file: give JSONL, one object per line.",
    b"\xff\xfe": "This file is written in UTF-16: save it as UTF-8.",
    b"\xfe\xff": "This file is written in UTF-16: save it as UTF-8.",
}


def read_rows(
    file: BinaryIO, max_bytes: int | None = None
) -> Iterator[tuple[int, dict[str, Any] | LineError]]:
    """Each row as (line number from 1, object), or the error in its place; blank lines are skipped.

    Args:
        file: seekable, read from its beginning.
        max_bytes: how much may come out of a packed file.

    Raises:
        LineError: the file cannot be read any further (cut off, of another kind, too big when unpacked).
    """
    first = True
    for line, raw in read_lines(file, max_bytes):
        if isinstance(raw, LineError):
            yield line, raw
            continue
        try:
            row = parse_row(line, raw, first=first)
        except LineError as error:
            if first and isinstance(error, NotLines):
                raise
            yield line, error
        else:
            yield line, row
        first = False
    if first:
        raise LineError(None, f"The file has no rows; {ONE_OBJECT}.")


def read_lines(file: BinaryIO, max_bytes: int | None = None) -> Iterator[tuple[int, bytes | LineError]]:
    """Each non-blank line's number and bytes, without a byte-order mark."""
    file.seek(0)
    head = file.read(4)
    file.seek(0)
    for magic, words in OTHER_FILES.items():
        if head.startswith(magic):
            raise LineError(None, words)
    if not head.startswith(GZIP_MAGIC):
        yield from split_lines(file, max_bytes)
        return
    line = 0
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
            for line, raw in split_lines(unpacked, max_bytes):
                yield line, raw
    except EOFError:
        raise LineError(line + 1, "the gzip file is cut off here; get the whole file again.") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise LineError(line + 1, f"the gzip file is damaged near here ({error}); get it again.") from error


def split_lines(file: Any, max_bytes: int | None) -> Iterator[tuple[int, bytes | LineError]]:
    line, total = 0, 0
    while raw := file.readline(MAX_LINE + 1):
        line += 1
        total += len(raw)
        if max_bytes is not None and total > max_bytes:
            raise LineError(
                line, f"the file is over {max_bytes:,} bytes when unpacked; split it, or use import_data."
            )
        if line == 1:
            raw = raw.removeprefix(BOM)
        if len(raw) > MAX_LINE and not raw.endswith(b"\n"):
            total += skip_line(file)
            yield line, LineError(line, f"is longer than {MAX_LINE:,} bytes; split what it holds into rows.")
        elif raw.strip():
            yield line, raw


def skip_line(file: Any) -> int:
    """Read to the end of the line, a piece at a time; returns the number of bytes."""
    total = 0
    while piece := file.readline(1 << 20):
        total += len(piece)
        if piece.endswith(b"\n"):
            break
    return total


class NotLines(LineError):
    """The file is JSON, but not one object per line: the lines after the first say nothing more."""


def parse_row(line: int, raw: bytes, *, first: bool) -> dict[str, Any]:
    """The JSON object on a line. Raises LineError."""
    if b"\x00" in raw:
        raise LineError(line, f"holds a NUL byte (byte {raw.index(0) + 1}); remove it.")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise LineError(
            line,
            f"is not UTF-8 (byte {error.start + 1} is 0x{raw[error.start]:02x}); save the file so.",
        ) from None
    if first and text.lstrip().startswith("["):
        raise NotLines(
            line, "the file is a JSON array; write JSONL instead, one object per line without [ ] and commas."
        )
    try:
        row = json.loads(text, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        if first and text.strip() == "{":
            raise NotLines(line, f"the object goes on over several lines; {ONE_OBJECT}.") from None
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
