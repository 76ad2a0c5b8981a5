"""`manage.py import_worker`: carry out what was uploaded, until Ctrl-C."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from rating.services.imports.worker import ImportWorker


class Command(BaseCommand):
    """Starts one import worker. Several may run at once on machines that share the database and home."""

    help = "Carries out the imports that were started in the browser, until Ctrl-C or SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="Stop when nothing waits.")
        parser.add_argument(
            "--poll", type=float, default=1.0, metavar="SECONDS", help="How often to look (default 1)."
        )

    def handle(self, *args: Any, once: bool, poll: float, **options: Any) -> None:
        if not 0.01 <= poll <= 3600:
            raise CommandError("--poll: use a number of seconds from 0.01 to 3600.")
        worker = ImportWorker(poll_seconds=poll)

        def stop(number: int, frame: FrameType | None) -> None:
            worker.stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        worker.work(once=once)
