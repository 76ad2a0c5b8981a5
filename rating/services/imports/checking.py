"""The first pass as a whole: alone or, for a large file, with a second process that takes every other run.

The second process is a fork that reads, checks and hashes, and knows no database.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from rating.models import Project
from rating.services.imports.formats.arena import ANSWERS
from rating.services.imports.formats.base import Row
from rating.services.imports.opening import Bounds
from rating.services.imports.reading import Progress
from rating.services.imports.reports import MAX_ERRORS, ImportFailed, ImportReport, LineError
from rating.services.imports.rows import Read
from rating.services.imports.staging import PIECE_ROWS, Checker, Mine, Stage, Staging, stage_rows

# Smaller files are read sooner than a second process is under way.
MIN_BYTES = 8_000_000


def check_file(
    project: Project,
    file: BinaryIO,
    read: Callable[[int, Row], Read],
    report: ImportReport,
    *,
    bounds: Bounds,
    rejects: BinaryIO | None = None,
    progress: Progress | None = None,
) -> Staging:
    """Check every row and lay the good ones aside; the report counts the rest.

    Args:
        rejects: where bad rows go, a line of JSON each; without it a file with one is refused.

    Raises:
        ImportFailed: with the first errors.
    """
    checker = Checker(project)
    staging = Staging([Stage()])
    again = None if rejects is not None or report.format == ANSWERS.name else open_again(file)
    helper = Helper(again, read, report.format, checker, bounds) if again else None
    try:
        if helper:
            staging.stages.append(helper.stage)
        errors = stage_rows(
            file,
            read,
            report,
            checker,
            staging.stages[0],
            bounds=bounds,
            mine=runs(0) if helper else None,
            rejects=rejects,
            progress=progress,
        )
        if helper:
            errors = join_errors(errors, helper.finish(report))
        if errors:
            raise ImportFailed(errors)
    except BaseException:
        staging.close()
        raise
    finally:
        if helper:
            helper.stop()
    return staging


def open_again(file: BinaryIO) -> str | None:
    """A path under which another process reads the same file, when that pays; None otherwise."""
    try:
        number = file.fileno()
        large = os.fstat(number).st_size >= MIN_BYTES
    except (OSError, AttributeError):
        return None
    path = f"/proc/{os.getpid()}/fd/{number}"
    return path if large and (os.cpu_count() or 1) > 1 and Path(path).exists() else None


def runs(part: int) -> Mine:
    """Whether a row is in this part of the file: every other run of rows is."""
    return lambda number: number // PIECE_ROWS % 2 == part


def join_errors(first: list[LineError], second: list[LineError]) -> list[LineError]:
    """The errors of both parts in the file's order, each once, as many as are listed."""
    found = {str(error): error for error in [*first, *second]}
    return sorted(found.values(), key=lambda error: error.line or 0)[:MAX_ERRORS]


class Helper:
    """A second process that checks every other run of the file's rows."""

    def __init__(
        self, path: str, read: Callable[[int, Row], Read], name: str, checker: Checker, bounds: Bounds
    ) -> None:
        self.stage = Stage()
        self.told: Any = tempfile.TemporaryFile()  # noqa: SIM115
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                # What the parent holds, such as its connections, is not to be tidied up here.
                gc.disable()
                self.work(path, read, name, checker, bounds)
                status = 0
            finally:
                os._exit(status)

    def work(
        self, path: str, read: Callable[[int, Row], Read], name: str, checker: Checker, bounds: Bounds
    ) -> None:
        """In the second process: check, and say what was found."""
        report = ImportReport(name)
        with open(path, "rb") as file:
            errors = stage_rows(file, read, report, checker, self.stage, bounds=bounds, mine=runs(1))
        found = [(error.line, error.message, error.unit) for error in errors]
        told = {"report": report.to_json(), "count": self.stage.count, "errors": found}
        self.told.write(json.dumps(told).encode())
        self.told.flush()

    def finish(self, report: ImportReport) -> list[LineError]:
        """Wait for the second process, and add what it counted. Raises OSError when it was killed."""
        _pid, status = os.waitpid(self.pid, 0)
        self.pid = 0
        if status:
            raise OSError(f"The process that helped to check the file ended with {status}; import it again.")
        self.told.seek(0)
        told = json.loads(self.told.read())
        self.stage.count = told["count"]
        report.add(ImportReport.from_json(told["report"]))
        return [LineError(line, message, unit=unit) for line, message, unit in told["errors"]]

    def stop(self) -> None:
        """End the second process if it still works."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
        self.told.close()
