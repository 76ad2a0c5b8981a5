"""The real thing: `manage.py up` on an installation of its own, and Debian's Chromium to look at it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 120
READY = "Ctrl-C stops everything."
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Installation:
    """A demo installation in a directory of its own, served by `manage.py up`."""

    home: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def password(self) -> str:
        return (self.home / "demo-password").read_text()

    @property
    def environment(self) -> dict[str, str]:
        foreign = {"DATABASE_URL", "SECRET_KEY", "ALLOWED_HOSTS", "RATCHET_HTTPS", "RATCHET_DEBUG"}
        return {name: value for name, value in os.environ.items() if name not in foreign} | {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "RATCHET_DEMO": "1",
            "RATCHET_HOME": str(self.home),
            "RATCHET_TRAINING_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_OFFLINE": "1",
        }

    @property
    def log(self) -> str:
        path = self.home / "up.log"
        return path.read_text() if path.exists() else ""

    def start(self) -> None:
        """Run `manage.py up` and wait until it says that it is ready."""
        with (self.home / "up.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up", "--port", str(self.port)],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.wait_for(lambda: READY in self.log, START_SECONDS)

    def wait_for(self, condition: Callable[[], object], seconds: float) -> None:
        assert self.process is not None
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, (
                f"manage.py up ended with {self.process.returncode}:\n{self.log}"
            )
            assert time.monotonic() < deadline, f"waited {seconds} s in vain; manage.py up said:\n{self.log}"
            time.sleep(0.1)

    def stop(self) -> int:
        """Ctrl-C, as far as a process can tell; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(20)
        finally:
            if self.process.poll() is None:
                self.process.kill()

    def manage(self, *arguments: str) -> str:
        """Run another command of the installation; what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def query(self, sql: str, *values: object) -> list[tuple]:
        """Rows of the installation's database, read beside the running server."""
        with contextlib.closing(
            sqlite3.connect(f"file:{self.home}/db.sqlite3?mode=ro", uri=True)
        ) as database:
            return database.execute(sql, values).fetchall()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A fresh installation that is up, and is stopped at the end of the module."""
    made = Installation(tmp_path_factory.mktemp("home"), free_port())
    made.start()
    yield made
    if made.process is not None and made.process.poll() is None:
        assert made.stop() == 0, made.log


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Debian's Chromium, closed at the module's end: Playwright's event loop and Django's ORM do not mix."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = next((found for name in CHROMIUM_NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("There is no Chromium on this machine (Debian: apt-get install chromium).")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()
