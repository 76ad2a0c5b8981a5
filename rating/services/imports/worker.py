"""The process that carries out imports, one after the other, beside the web server."""

from __future__ import annotations

import logging
import os
import platform
import threading
import uuid
from dataclasses import dataclass, field

from django.db import InterfaceError, OperationalError, connection

from rating.services.imports.jobs import claim_import, run_import, sweep_uploads
from rating.services.webhooks import deliver_next

logger = logging.getLogger(__name__)


def worker_name() -> str:
    """A name that no other process has, ever."""
    return f"{platform.node()[:60]} {os.getpid()} {uuid.uuid4().hex[:12]}"


@dataclass
class ImportWorker:
    """One worker. `stop` is set from outside (a signal); everything else happens in `work`."""

    poll_seconds: float = 1.0
    name: str = field(default_factory=worker_name)
    stop: threading.Event = field(default_factory=threading.Event)

    def work(self, *, once: bool = False) -> None:
        """Work until `stop` is set; with `once`, until nothing waits."""
        logger.info("Import worker started (%s).", self.name)
        sweep_uploads()
        while not self.stop.is_set():
            worked = self.turn()
            if once and not worked:
                break
            if not worked:
                self.stop.wait(self.poll_seconds)
        logger.info("Import worker stopped.")

    def turn(self) -> bool:
        """Carry out one import, and tell one webhook what is due. A database that is away is waited for."""
        try:
            row = claim_import(self.name)
            if row is None:
                return deliver_next()
            logger.info("%s: attempt %d begins.", row, row.attempt)
            run_import(row, self.stop.is_set)
            row.refresh_from_db()
            logger.info("%s: %s.", row, row.state)
            deliver_next()
        except (OperationalError, InterfaceError) as error:
            # The lease runs out, and the import goes on from where it was.
            logger.error("The database does not answer: %s", error)
            connection.close()
            self.stop.wait(self.poll_seconds)
            return False
        return True
