"""Parquet, a few rows at a time; pyarrow is loaded when the first such file comes."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Any, BinaryIO

from rating.services.imports.jsonl import Rows
from rating.services.imports.opening import Bounds, Unpacked, open_unpacked
from rating.services.imports.reports import LineError

BATCH_ROWS = 64
COPY_BYTES = 1 << 20


def read_parquet(file: BinaryIO, bounds: Bounds) -> Rows:
    """Each row as (row number from 1, object). Raises LineError when the file cannot be read."""
    import pyarrow
    import pyarrow.parquet

    with seekable(file, bounds) as plain:
        row = 0
        try:
            table = pyarrow.parquet.ParquetFile(plain, pre_buffer=False, memory_map=False)
            taken = 0
            for batch in table.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
                taken += batch.nbytes
                if taken > bounds.limit:
                    raise LineError(
                        row + 1,
                        f"the file is over {bounds.limit:,} bytes unpacked; split it, or use import_data.",
                        unit="row",
                    )
                for values in batch.to_pylist():
                    row += 1
                    yield row, {name: to_plain(value) for name, value in values.items()}
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
            words = str(error).split("\n")[0][:200].rstrip(".")
            raise LineError(
                row + 1, f"the Parquet file is cut off or damaged ({words}); get it again.", unit="row"
            ) from None


@contextmanager
def seekable(file: BinaryIO, bounds: Bounds) -> Iterator[BinaryIO]:
    """The file itself or, when it is packed, what comes out of it, on disk."""
    raw = Unpacked(file, bounds)
    if not raw.packed:
        file.seek(0)
        yield file
        return
    _, stream = open_unpacked(file, bounds)
    with tempfile.TemporaryFile() as copy:
        while piece := stream.read(COPY_BYTES):
            copy.write(piece)
        copy.seek(0)
        yield copy


def to_plain(value: Any) -> Any:
    """The value as JSON would have it."""
    if isinstance(value, dict):
        # A column of objects has all fields in every row: those without a value were not there.
        return {key: to_plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [to_plain(inner) for inner in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return value
