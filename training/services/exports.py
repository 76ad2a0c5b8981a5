"""Datasets to take away, streamed as they are read: of a snapshot, or of the judgments as they are now.

Both are always the same bytes for the same rows.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
from django.utils.translation import gettext as _

from rating.models import Project, Split
from training.models import DatasetSnapshot
from training.services.encoding import FILE_KINDS, EncodingError, compress, encode_lines
from training.services.formats import EXPORT_FORMATS, Data, ExportFormat
from training.services.making import iter_rows
from training.services.raw import iter_judgments

__all__ = ["EXPORT_FORMATS", "Export", "ExportError", "iter_export", "write_export"]

CUT_BYTES = 1 << 20


class ExportError(ValueError):
    """An export that cannot be made; says what would be right."""


@dataclass(frozen=True)
class Export:
    """Which dataset, and as which file.

    Attributes:
        fmt: a key of EXPORT_FORMATS.
        split: train or eval for one part alone; None for both.
        snapshot: where the rows come from; None for the judgments as they are now.
        file: a key of FILE_KINDS.
        compressed: as gzip.

    Raises:
        ExportError: the format, split or kind of file is unknown, or the snapshot's files are gone.
    """

    project: Project
    fmt: str
    split: str | None = None
    snapshot: DatasetSnapshot | None = None
    file: str = "jsonl"
    compressed: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (
            ("format", self.fmt, list(EXPORT_FORMATS)),
            ("split", self.split, [None, *Split.values]),
            ("file", self.file, list(FILE_KINDS)),
        ):
            if value not in known:
                words = _("%(name)s: “%(value)s” is unknown; use one of %(known)s.")
                if None in known:
                    words = _("%(name)s: “%(value)s” is unknown; use one of %(known)s, or leave it out.")
                listed = ", ".join(str(word) for word in known if word)
                raise ExportError(words % {"name": name, "value": str(value)[:60], "known": listed})
        if self.snapshot is not None and (missing := [p for p in self.paths() if not p.is_file()]):
            words = _("%(name)s is gone from the disk: freeze a new snapshot.")
            raise ExportError(words % {"name": missing[0].name})

    @property
    def format(self) -> ExportFormat:
        """What its lines hold."""
        return EXPORT_FORMATS[self.fmt]

    @property
    def splits(self) -> list[str]:
        return [self.split] if self.split else list(Split.values)

    @property
    def name(self) -> str:
        """The name of its file."""
        number = f"-{self.snapshot.number}" if self.snapshot else ""
        part = f"-{self.split}" if self.split else ""
        ending = ".gz" if self.compressed and self.file != "parquet" else ""
        return f"{self.project.slug}{number}-{self.fmt}{part}.{self.file}{ending}"

    @property
    def content_type(self) -> str:
        return "application/gzip" if self.name.endswith(".gz") else FILE_KINDS[self.file]

    def paths(self) -> list[Path]:
        """The snapshot's files that it is made from."""
        assert self.snapshot is not None
        names = [f"{kind}.{split}.jsonl" for kind in self.format.kinds for split in self.splits]
        # A snapshot that was frozen before there were rows of this kind has no file for them.
        told = self.snapshot.counts["rows"]
        return [self.snapshot.directory / name for name in names if name in told]


def iter_export(export: Export) -> Iterator[bytes]:
    """The file in pieces; nothing is read before the first is asked for.

    Raises:
        ExportError: this kind of file cannot be written here.
    """
    if export.snapshot and export.file == "jsonl" and export.format.end is not None:
        pieces = iter_cut(export.paths(), export.format.end)
        return compress(pieces) if export.compressed else pieces
    try:
        return encode_lines(
            iter_lines(export), export.format.columns, export.file, compressed=export.compressed
        )
    except EncodingError as error:
        raise ExportError(str(error)) from error


def iter_cut(paths: list[Path], end: bytes) -> Iterator[bytes]:
    """The first fields of each frozen line, without reading what is in it: ten times faster.

    Inside a text a quotation mark has a backslash before it, so `end` is found only where its field begins.
    """
    for path in paths:
        with path.open("rb") as file:
            while lines := file.readlines(CUT_BYTES):
                yield b"".join([line[: line.rindex(end)] + b"}\n" for line in lines] if end else lines)


def iter_lines(export: Export) -> Iterator[Data]:
    """The lines of an export."""
    convert = export.format.convert
    if convert is None:
        yield from iter_judgments(export.project, split=export.split, snapshot=export.snapshot)
        return
    for kind, data in iter_frozen(export) if export.snapshot else iter_live(export):
        yield from convert(kind, data)


def iter_frozen(export: Export) -> Iterator[tuple[str, Data]]:
    """The snapshot's rows, train before eval."""
    for path in export.paths():
        kind = path.name.partition(".")[0]
        with path.open("rb") as file:
            for line in file:
                yield kind, orjson.loads(line)


def iter_live(export: Export) -> Iterator[tuple[str, Data]]:
    """The rows that the judgments give now."""
    kinds = export.format.kinds
    for result in iter_rows(export.project, split=export.split, kinds=kinds):
        for row in result.rows:
            if row.kind in kinds:
                yield row.kind, row.data


def write_export(pieces: Iterable[bytes], path: Path) -> int:
    """Write the file, whole or not at all; returns its size in bytes."""
    size = 0
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
                size += len(piece)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)  # as a file opened plainly would have; mkstemp's is for its owner alone
        os.replace(name, path)
    except BaseException:  # even Ctrl-C leaves no half-written file behind
        os.unlink(name)
        raise
    return size
