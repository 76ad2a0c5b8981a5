"""`manage.py trainer`: fire due triggers and work on queued runs until Ctrl-C."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser, no_translations

from training.launchers.local import LocalLauncher
from training.trainer import Trainer


class Command(BaseCommand):
    """Starts one trainer. Several may run at once, on several machines that share the database and home."""

    help = "Fires due triggers and works on queued training runs until Ctrl-C or SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--once", action="store_true", help="Stop when nothing is due and nothing is in the queue."
        )
        parser.add_argument(
            "--poll",
            type=float,
            default=1.0,
            metavar="SECONDS",
            help="How often to look for work (default 1).",
        )

    @no_translations  # what it stores is in the language of the records, English
    def handle(self, *args: Any, once: bool, poll: float, **options: Any) -> None:
        if not 0.01 <= poll <= 3600:
            raise CommandError("--poll: use a number of seconds from 0.01 to 3600.")
        trainer = Trainer(LocalLauncher(), poll_seconds=poll)

        def stop(number: int, frame: FrameType | None) -> None:
            trainer.stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        trainer.work(once=once)
