"""`manage.py up`: everything in one foreground command."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.urls import reverse

from config.serving import (
    Child,
    ServingError,
    answers,
    check_host,
    choose_port,
    restart_ended,
    stop_all,
    wait_until,
)
from rating.models import User
from training.services.demo import demo_password, seed_demo

DEFAULT_PORT = 8000
BLOCKING_THREADS = 8
START_SECONDS = 60.0


class Command(BaseCommand):
    """Prepares the database, then runs the web server, the import worker and the trainer until Ctrl-C."""

    help = "Prepare the database and run the web server and the trainer until Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="IP address to listen on (127.0.0.1).")
        parser.add_argument("--port", type=int, help="Port to listen on (the first free one from 8000).")
        parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="Web processes.")
        parser.add_argument("--no-trainer", action="store_true", help="The trainer runs on another machine.")

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: stop.set())
        children: list[Child] = []
        try:
            host = check_host(options["host"], loopback_only=settings.DEMO)
            port = choose_port(host, options["port"], DEFAULT_PORT)
            self.prepare()
            has_accounts = User.objects.exists()
            connections.close_all()
            children.append(web_server(host, port, options["workers"]))
            self.start_web_server(children[0], host, port, stop)
            if not options["no_trainer"] and not stop.is_set():
                children.append(Child("trainer", [sys.executable, "-m", "django", "trainer"]))
                children[-1].start()
            if not stop.is_set():
                children.append(Child("import worker", [sys.executable, "-m", "django", "import_worker"]))
                children[-1].start()
            if not stop.is_set():
                self.say(welcome(host, port, has_accounts))
            while not stop.wait(0.5):
                restart_ended(children, self.say)
        except ServingError as error:
            raise CommandError(str(error)) from error
        finally:
            if any(child.process is not None for child in children):
                self.say("Stopping.")
            stop_all(children, self.say)

    def prepare(self) -> None:
        """The database, the static files and, in demo mode, the demo project."""
        self.say("Ratchet, demo: for this machine alone." if settings.DEMO else "Ratchet")
        with self.timed("database"):
            call_command("migrate", verbosity=0, interactive=False)
            call_command("createcachetable", verbosity=0)
        if not settings.DEBUG:
            with self.timed("static files"):
                collect_static_files()
        if settings.DEMO:
            with self.timed("demo project"):
                seed_demo()

    def start_web_server(self, server: Child, host: str, port: int, stop: threading.Event) -> None:
        """Start it and wait for the first page."""
        with self.timed("web server"):
            server.start()
            login, names = reverse("account_login"), settings.ALLOWED_HOSTS
            header = host if host in names or not names else names[0].lstrip(".").replace("*", host)
            target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
            wait_until(
                lambda: stop.is_set() or answers(target, port, login, header),
                server,
                seconds=START_SECONDS,
            )

    def say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Say what is being done, and how long it took."""
        began = time.monotonic()
        self.stdout.write(f"  {what:<14}", ending="")
        self.stdout.flush()
        yield
        self.say(f"ready in {time.monotonic() - began:.1f} s")


def web_server(host: str, port: int, workers: int) -> Child:
    """Granian: it starts a worker anew that died, and gives requests five seconds when it stops."""
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "config.wsgi:application"]
    command += ["--host", host, "--port", str(port), "--workers", str(workers), "--respawn-failed-workers"]
    command += ["--blocking-threads", str(BLOCKING_THREADS), "--workers-kill-timeout", "5"]
    command += ["--no-ws", "--log-level", "error", "--no-access-log"]
    return Child("web server", command)


def welcome(host: str, port: int, has_accounts: bool) -> str:
    """Where to go, and how to get in."""
    lines = ["", f"Ratchet is at http://{f'[{host}]' if ':' in host else host}:{port}/"]
    if settings.DEMO:
        lines += [
            f"Sign in as rater, operator or admin with the password {demo_password()}",
            "Rate forty items as rater, then watch as operator.",
        ]
    elif not has_accounts:
        lines += ["There are no accounts yet: make the first with `manage.py createsuperuser`."]
    return "\n".join([*lines, "Ctrl-C stops everything.", ""])


def collect_static_files() -> None:
    """Collect, hash and compress the static files when they are not those of the last time."""
    mark = Path(settings.STATIC_ROOT) / "collected"
    state = static_state()
    if mark.exists() and mark.read_text() == state:
        return
    call_command("collectstatic", verbosity=0, interactive=False, clear=True)
    mark.write_text(state)


def static_state() -> str:
    """A hash over the names, sizes and times of all static files."""
    digest = hashlib.sha256()
    for finder in get_finders():
        for name, storage in finder.list([]):
            status = Path(storage.path(name)).stat()
            digest.update(f"{name}:{status.st_size}:{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
