"""Opening a file that somebody else made: what it is by its first bytes, and unpacking within bounds."""

import gzip
import io
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

from rating.services.imports.reports import LineError

GZIP_MAGIC = b"\x1f\x8b"
PARQUET_MAGIC = b"PAR1"
BOM = b"\xef\xbb\xbf"
OTHER_FILES = {
    b"PK\x03\x04": "This is a ZIP archive: unpack it, and give the file in it.",
    b"BZh": "This file is packed with bzip2: give it plain or packed with gzip.",
    b"\xfd7zX": "This file is packed with xz: give it plain or packed with gzip.",
    b"\x28\xb5\x2f\xfd": "This file is packed with zstd: give it plain or packed with gzip.",
    b"\xff\xfe": "This file is written in UTF-16: save it as UTF-8.",
    b"\xfe\xff": "This file is written in UTF-16: save it as UTF-8.",
}
# Text seldom packs to less than a fiftieth. What packs better, and is large, was made to fill the disk.
MAX_RATIO = 200
RATIO_FROM = 256 * 1024 * 1024
MAX_UNPACKED = 1 << 40


@dataclass
class Bounds:
    """How much may come out of a packed file.

    Attributes:
        max_bytes: the most bytes, unpacked; MAX_UNPACKED without one.
    """

    max_bytes: int | None = None

    @property
    def limit(self) -> int:
        """The most bytes that are read."""
        return MAX_UNPACKED if self.max_bytes is None else self.max_bytes


class Unpacked(io.RawIOBase):
    """The bytes of a file, plain or unpacked, without a byte-order mark, never more than the bounds allow.

    `taken` counts the bytes that came out; `position` is how far the file itself was read, for progress.
    """

    def __init__(self, file: BinaryIO, bounds: Bounds) -> None:
        file.seek(0)
        head = file.read(4)
        file.seek(0)
        for magic, words in OTHER_FILES.items():
            if head.startswith(magic):
                raise LineError(None, words)
        self.file = file
        self.bounds = bounds
        self.packed = head.startswith(GZIP_MAGIC)
        self.taken = 0
        self.inner: Any = gzip.GzipFile(fileobj=file, mode="rb") if self.packed else file

    def readable(self) -> bool:
        return True

    @property
    def position(self) -> int:
        """Bytes of the file itself that were read."""
        return self.file.tell()

    def readinto(self, buffer: Any) -> int:
        """Read some bytes. Raises LineError: cut off, damaged, or more than is allowed."""
        try:
            # What could be unpacked comes out before the fault does.
            piece = self.inner.read1(len(buffer)) if self.packed else self.inner.read(len(buffer))
        except EOFError:
            raise LineError(None, "the gzip file is cut off; get the whole file again.") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise LineError(None, f"the gzip file is damaged ({error}); get it again.") from error
        if self.taken == 0:
            piece = piece.removeprefix(BOM) or (self.inner.read(len(buffer)) if piece else piece)
        self.taken += len(piece)
        self.check_bounds()
        buffer[: len(piece)] = piece
        return len(piece)

    def check_bounds(self) -> None:
        """Refuse what unpacks to too much."""
        if self.taken > self.bounds.limit:
            raise LineError(
                None,
                f"the file is over {self.bounds.limit:,} bytes when unpacked; split it, or use import_data.",
            )
        if self.packed and self.taken > RATIO_FROM and self.taken > MAX_RATIO * max(1, self.file.tell()):
            raise LineError(
                None,
                f"the file unpacks to over {MAX_RATIO} times its size, which no text does; "
                "give it unpacked if it is what it should be.",
            )


def open_unpacked(file: BinaryIO, bounds: Bounds) -> tuple[Unpacked, io.BufferedReader]:
    """The stream and a buffered reader on it. Raises LineError for files of other kinds."""
    raw = Unpacked(file, bounds)
    return raw, io.BufferedReader(raw, 1 << 18)
