"""Lines as bytes of a file: JSON Lines, CSV or Parquet, plain or gzip; always the same for the same lines."""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import orjson
from django.utils.translation import gettext as _

from training.services import formats
from training.services.formats import Data

BATCH = 1000
ROW_GROUP = 10_000
FILE_KINDS = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "'")


class EncodingError(ValueError):
    """A kind of file that cannot be written here; says what would help."""


def encode_lines(
    lines: Iterable[Data], columns: dict[str, str], kind: str, *, compressed: bool = False
) -> Iterator[bytes]:
    """The file in pieces, each as soon as it is ready; empty pieces are left out.

    Args:
        columns: the lines' fields and what they hold, see training.services.formats.
        kind: a key of FILE_KINDS.
        compressed: as gzip, without a time or name in its header. Parquet is compressed inside instead.

    Raises:
        EncodingError: Parquet is asked for and pyarrow is not installed; raised at the call.
    """
    if kind == "parquet":
        return encode_parquet(lines, columns, "zstd" if compressed else "snappy")
    pieces = encode_csv(lines, columns) if kind == "csv" else encode_jsonl(lines)
    return compress(pieces) if compressed else pieces


def batches(lines: Iterable[Data], size: int) -> Iterator[list[Data]]:
    source = iter(lines)
    while batch := list(islice(source, size)):
        yield batch


def encode_jsonl(lines: Iterable[Data]) -> Iterator[bytes]:
    """One JSON object per line, in UTF-8."""
    for batch in batches(lines, BATCH):
        yield b"".join([orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in batch])


def encode_csv(lines: Iterable[Data], columns: dict[str, str]) -> Iterator[bytes]:
    """A header and a record per line (RFC 4180, UTF-8); see `to_cell` for what a cell holds."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(columns)
    for batch in batches(lines, BATCH):
        writer.writerows([to_cell(line[name], holds) for name, holds in columns.items()] for line in batch)
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()
    if header := buffer.getvalue():  # there was no line at all
        yield header.encode()


def to_cell(value: Any, holds: str) -> str:
    """A value as the text of a cell, harmless in a spreadsheet, from which `from_cell` gets it back.

    Null is an empty cell. A text is itself, but one that is empty or begins with a sign that makes a formula
    (= + - @, tab, carriage return) or with an apostrophe gets an apostrophe in front. All else is JSON.
    """
    if value is None:
        return ""
    if holds == formats.TEXT:
        text = str(value)
        return f"'{text}" if not text or text.startswith(FORMULA_SIGNS) else text
    return orjson.dumps(value).decode()


def from_cell(cell: str, holds: str) -> Any:
    """The value of a cell that `to_cell` wrote."""
    if not cell:
        return None
    if holds == formats.TEXT:
        return cell.removeprefix("'")
    return orjson.loads(cell)


def compress(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces as one gzip file."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)  # 31: a gzip header, whose time is 0
    for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()


def encode_parquet(lines: Iterable[Data], columns: dict[str, str], codec: str) -> Iterator[bytes]:
    """A Parquet file of row groups of 10,000 lines; fields that hold any JSON are JSON texts."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise EncodingError(
            _("Parquet needs pyarrow, which is not installed: pip install pyarrow, or take another file.")
        ) from None
    return write_parquet(lines, columns, codec)


def write_parquet(lines: Iterable[Data], columns: dict[str, str], codec: str) -> Iterator[bytes]:
    import pyarrow
    from pyarrow import parquet

    schema = parquet_schema(columns)
    jsons = [name for name, holds in columns.items() if holds == formats.JSON]
    sink = Drain()
    with parquet.ParquetWriter(sink, schema, compression=codec, store_schema=False) as writer:
        for batch in batches(lines, ROW_GROUP):
            for name in jsons:
                batch = [line | {name: orjson.dumps(line[name]).decode()} for line in batch]
            writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))
            if piece := sink.take():
                yield piece
    yield sink.take()


def parquet_schema(columns: dict[str, str]) -> Any:
    """The columns as pyarrow's types."""
    import pyarrow

    messages = pyarrow.list_(pyarrow.struct({"role": pyarrow.string(), "content": pyarrow.string()}))
    types = {
        formats.MESSAGES: messages,
        formats.MESSAGE_LISTS: pyarrow.list_(messages),
        formats.TEXT: pyarrow.string(),
        formats.TEXTS: pyarrow.list_(pyarrow.string()),
        formats.NUMBER: pyarrow.float64(),
        formats.INTEGER: pyarrow.int64(),
        formats.INTEGERS: pyarrow.list_(pyarrow.int64()),
        formats.BOOLEAN: pyarrow.bool_(),
        formats.JSON: pyarrow.string(),
    }
    return pyarrow.schema([(name, types[holds]) for name, holds in columns.items()])


class Drain(io.RawIOBase):
    """A file that is written to and emptied again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.written

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self.pieces.append(piece)
        self.written += len(piece)
        return len(piece)

    def take(self) -> bytes:
        """What was written since the last time."""
        pieces, self.pieces = self.pieces, []
        return b"".join(pieces)
