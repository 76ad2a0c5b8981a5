"""Files that must be whole: hashes, links, and writes that a crash cannot cut short."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

NO_LINK = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EACCES)


def hash_file(path: Path) -> str:
    """sha256 of the file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link_or_copy(source: Path, target: Path) -> None:
    """Put the file at `target` too: as a hard link where the file system can, else as a copy.

    What lies at `target` is replaced, so that a preparation that was cut short can start over.
    """
    temporary = target.with_name(target.name + ".tmp")
    temporary.unlink(missing_ok=True)
    source = source.resolve()
    try:
        os.link(source, temporary)
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        shutil.copyfile(source, temporary)
    # Renaming a link onto another link of the same file does nothing and leaves both: remove the old one.
    target.unlink(missing_ok=True)
    temporary.rename(target)


def write_atomically(path: Path, parts: Iterable[str]) -> None:
    """Write the file whole or not at all: a temporary file, synced, renamed into place."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def spare_collector() -> None:
    """For a process that streams many rows and ends: half as fast again.

    What is loaded by now is not looked through again and again for garbage in cycles; rows have none.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
