"""SQLite, whose transactions queue for the write lock instead of polling for it.

SQLite lets one transaction write at a time. Those that wait sleep and try again, at most every tenth of a
second, so that under load the lock lies idle while unlucky ones wait for seconds. Here every transaction
first takes an advisory lock on a file beside the database: the kernel wakes the next in line. A transaction
without it (another program's) is still safe: SQLite's own lock and its timeout hold as before.
"""

import fcntl
import os
from typing import Any

from django.db.backends.sqlite3 import base


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection whose transactions wait in line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._queue: int | None = None

    def _start_transaction_under_autocommit(self) -> None:
        self._enter_queue()
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]  # the stubs leave it out
        except BaseException:
            self._leave_queue()
            raise

    def _commit(self) -> None:
        super()._commit()  # type: ignore[misc]  # the stubs leave it out
        self._leave_queue()

    def _rollback(self) -> None:
        super()._rollback()  # type: ignore[misc]  # the stubs leave it out
        self._leave_queue()

    def _close(self) -> None:
        super()._close()  # type: ignore[misc]  # the stubs leave it out
        self._leave_queue()

    def _enter_queue(self) -> None:
        name = str(self.settings_dict["NAME"])
        if self.is_in_memory_db():
            return
        if self._queue is None:
            self._queue = os.open(f"{name}-queue", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._queue, fcntl.LOCK_EX)

    def _leave_queue(self) -> None:
        if self._queue is not None:
            os.close(self._queue)  # which also gives the lock back
            self._queue = None
