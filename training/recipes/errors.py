"""What can go wrong in a run, by name."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator

from training.recipes.spec import ErrorCode, SpecError

DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT)


class RecipeError(RuntimeError):
    """A failure that the recipe can name: a code for the program, a message for the person."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        self.code: ErrorCode = code
        self.message = message
        super().__init__(message)


def name_error(error: BaseException) -> tuple[ErrorCode, str]:
    """The code and the message of any exception; its causes are looked at too."""
    for cause in chain_of(error):
        if isinstance(cause, RecipeError):
            return cause.code, cause.message
        if isinstance(cause, SpecError):
            return "bad_spec", str(cause)
        if is_disk_full(cause):
            return "disk_full", "The disk is full: free some space and start the run again; it resumes."
        if is_out_of_memory(cause):
            return "out_of_memory", "Out of memory: use a smaller batch_size, max_length or model."
    last = traceback.format_exception_only(error)[-1].strip()
    return "crash", last[:1000]


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """The error, then what it was raised from."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def is_disk_full(error: BaseException) -> bool:
    """ENOSPC, a quota, or the same inside an error of safetensors or torch, which keep only the text."""
    if isinstance(error, OSError) and error.errno in DISK_ERRNOS:
        return True
    text = str(error)
    return any(sign in text for sign in ("No space left on device", "os error 28", "Disk quota exceeded"))


def is_out_of_memory(error: BaseException) -> bool:
    """Python's, CUDA's and the CPU allocator's ways to say it; by name, so that torch stays out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        sign in text for sign in ("DefaultCPUAllocator", "can't allocate memory", "CUDA out of memory")
    )
