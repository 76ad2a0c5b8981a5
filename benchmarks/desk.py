"""The rating desk under load: answer saved and next item handed out, 1, 8 and 32 raters on 100,000 items.

    .venv/bin/python -m benchmarks.desk [--items 100000] [--seconds 20] [--database-url postgresql://...]

A server as `manage.py up` starts it, on SQLite or the named PostgreSQL database (which is made and dropped),
and raters who do what the page's script does: post the answer to one item, naming the next one which they
hold already, and get the one after that. The clients run on the same cores as the server. Also: bytes and
requests of a first visit in Chromium, and queries per answer. Prints Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.common import scratch, table

LEVELS = ((1, 0.0), (8, 0.0), (32, 0.0), (32, 5.0))
RATERS = 32
LEASE = re.compile(rb'data-lease="([0-9a-f-]{36})"')
KEY = re.compile(rb'name="idempotency_key" value="([0-9a-f-]{36})"')
SENTENCES = (
    "The answer depends on what you want to do with it, and on how much time there is.",
    "First **measure** what is slow, then change one thing, and measure again.",
    "A list may help:\n\n- bread\n- butter\n- a sharp knife",
    "In the north it rains more often than in the south, but the showers are shorter there.",
    "If you are not sure, ask somebody who has done it before, and write down what they say.",
    "Use `git status` before you commit, so that nothing is left out.",
)


@dataclass
class Seen:
    """What the raters of one level saw: seconds per answer, and what went wrong."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def main() -> None:
    options = read_options()
    with scratch(options.home) as home, database(options.database_url, home):
        sessions = prepare(home, options.items)
        queries = count_queries(sessions[0])
        print(
            f"\n## The desk, {options.items:,} items, {'PostgreSQL' if options.database_url else 'SQLite'}\n"
        )
        print(table(["what", "queries"], sorted(queries.items())))
        with server(options.workers) as port:
            if not options.no_browser:
                print("\n" + table(["first visit", ""], first_visit(port, sessions[0])))
            rows = []
            for raters, pause in LEVELS:
                seen, took = asyncio.run(rate(port, sessions[:raters], pause, options.seconds))
                rows.append(describe(raters, pause, seen, took))
            print(
                "\n" + table(["raters", "pause", "answers/s", "p50 ms", "p95 ms", "p99 ms", "errors"], rows)
            )


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each level takes")
    parser.add_argument("--workers", type=int, default=2, help="web processes")
    parser.add_argument("--database-url", default="", help="a PostgreSQL database to make, use and drop")
    parser.add_argument("--no-browser", action="store_true", help="leave the first visit in Chromium out")
    parser.add_argument("--home", type=Path, help="keep the installation there")
    return parser.parse_args()


@contextmanager
def database(url: str, home: Path) -> Iterator[None]:
    """The environment of the installation, and a PostgreSQL database of its own where one is named."""
    os.environ |= {
        "SECRET_KEY": "only-for-this-benchmark-" + "0" * 40,
        "RATCHET_HOME": str(home),
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    for name in ("DATABASE_URL", "RATCHET_DEMO", "RATCHET_DEBUG", "RATCHET_HTTPS"):
        os.environ.pop(name, None)
    if not url:
        yield
        return
    import psycopg
    from psycopg import sql

    os.environ["DATABASE_URL"] = url
    parts = urlsplit(url)
    name = sql.Identifier(parts.path.lstrip("/"))
    with psycopg.connect(parts._replace(path="/postgres").geturl(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            yield
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def prepare(home: Path, items: int) -> list[str]:
    """Migrate, import the items, and sign the raters in: their session keys."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    call_command("createcachetable", verbosity=0)
    call_command("collectstatic", verbosity=0, interactive=False)
    from rating.models import Role
    from tests.factories import make_membership, make_project, make_user

    project = make_project(slug="desk", overlap=2)
    rows = home / "rows.jsonl"
    with rows.open("w") as file:
        for number in range(items):
            file.write(json.dumps(row(number)) + "\n")
    call_command("import_data", "--project", "desk", str(rows), verbosity=0)
    rows.unlink()
    return [sign_in(make_membership(project, make_user(), Role.RATER).user) for _ in range(RATERS)]


def row(number: int) -> dict[str, object]:
    """A prompt of its own with two responses of some hundred characters."""
    texts = [" ".join(SENTENCES[(number + step * (2 + side)) % 6] for step in range(6)) for side in (0, 1)]
    return {"prompt": f"Question {number}: what is the best way to begin?", "responses": texts}


def sign_in(user: object) -> str:
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

    from config.sessions import SessionStore

    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)  # type: ignore[attr-defined]
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()  # type: ignore[attr-defined]
    session.create()
    return str(session.session_key)


def count_queries(session: str) -> dict[str, int]:
    """Queries of the page, of what is fetched ahead, and of an answer with the item that comes back."""
    from django.conf import settings
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    settings.ALLOWED_HOSTS = ["*"]
    client = Client(headers={"HX-Request": "true"})
    client.cookies[settings.SESSION_COOKIE_NAME] = session
    path = "/projects/desk/rate/"
    client.get(path, headers={"HX-Request": ""})
    with CaptureQueriesContext(
        connection,
    ) as page:
        first = read_desk(client.get(path, headers={"HX-Request": ""}).content)
    with CaptureQueriesContext(connection) as ahead:
        second = read_desk(client.get(path, {"held": first[0]}).content)
    answer = {"idempotency_key": first[1], "choice": "1", "seconds": "1", "held": second[0]}
    with CaptureQueriesContext(connection) as answered:
        assert client.post(f"{path}{first[0]}/", answer).status_code == 200
    connection.close()
    return {"the page": len(page), "an item ahead": len(ahead), "an answer and the next item": len(answered)}


def read_desk(html: bytes) -> tuple[str, str]:
    """The lease and the idempotency key of the item in the page."""
    lease, key = LEASE.search(html), KEY.search(html)
    if lease is None or key is None:
        raise ValueError(f"no item in the page: {html[-300:]!r}")
    return lease[1].decode(), key[1].decode()


@contextmanager
def server(workers: int) -> Iterator[int]:
    """The web server as `manage.py up` starts it, on a free port."""
    from config.serving import answers, choose_port, wait_until
    from training.management.commands.up import web_server

    port = choose_port("127.0.0.1", None, 8900)
    child = web_server("127.0.0.1", port, workers)
    child.start()
    try:
        wait_until(lambda: answers("127.0.0.1", port, "/accounts/login/", "127.0.0.1"), child, seconds=60)
        yield port
    finally:
        assert child.process is not None
        child.process.terminate()
        child.process.wait(20)


async def rate(port: int, sessions: Sequence[str], pause: float, seconds: float) -> tuple[Seen, float]:
    """All raters at once until the time is over."""
    seen = Seen()
    began = time.perf_counter()
    long_enough = max(seconds, 4 * pause)
    await asyncio.gather(
        *(
            rate_on(port, key, pause, pause * place / len(sessions), began + long_enough, seen)
            for place, key in enumerate(sessions)
        )
    )
    return seen, time.perf_counter() - began


async def rate_on(port: int, session: str, pause: float, first: float, until: float, seen: Seen) -> None:
    """One rater: answer an item, holding the next, and get the one after."""
    browser = Browser(port, session)
    await browser.open()
    path = "/projects/desk/rate/"
    _, html = await browser.ask("GET", path)
    now = read_desk(html)
    _, html = await browser.ask("GET", f"{path}?held={now[0]}")
    following = read_desk(html)
    await asyncio.sleep(first)
    while time.perf_counter() < until:
        body = f"idempotency_key={now[1]}&choice=1&seconds=4&held={following[0]}"
        began = time.perf_counter()
        status, html = await browser.ask("POST", f"{path}{now[0]}/", body)
        seen.seconds.append(time.perf_counter() - began)
        if status != 200 or b'data-status="200"' not in html:
            seen.errors.append(f"{status}: {html[:200]!r}")
            return
        now, following = following, read_desk(html)
        await asyncio.sleep(pause)
    browser.close()


class Browser:
    """One connection that is kept, one request at a time."""

    def __init__(self, port: int, session: str) -> None:
        self.port = port
        token = "b" * 32
        self.headers = (
            f"Host: 127.0.0.1:{port}\r\nCookie: sessionid={session}; csrftoken={token}\r\n"
            f"X-CSRFToken: {token}\r\nHX-Request: true\r\nAccept-Encoding: gzip\r\n"
        )

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    def close(self) -> None:
        self.writer.close()

    async def ask(self, method: str, path: str, body: str = "") -> tuple[int, bytes]:
        head = f"{method} {path} HTTP/1.1\r\n{self.headers}"
        if body:
            head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
        self.writer.write((head + "\r\n" + body).encode())
        answer = await self.reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: (\d+)", answer)[1])  # type: ignore[index]
        return int(answer[9:12]), await self.reader.readexactly(length)


def describe(raters: int, pause: float, seen: Seen, took: float) -> list[object]:
    for error in sorted(set(seen.errors))[:3]:
        print(error, file=sys.stderr)
    cuts = statistics.quantiles(seen.seconds, n=100)
    p50, p95, p99 = (f"{1000 * cuts[place - 1]:.1f}" for place in (50, 95, 99))
    return [raters, f"{pause:g} s", f"{len(seen.seconds) / took:.0f}", p50, p95, p99, len(seen.errors)]


def first_visit(port: int, session: str) -> list[tuple[str, object]]:
    """What a browser that has seen nothing yet fetches for the desk, and when it shows it."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(visit, port, session).result()


def visit(port: int, session: str) -> list[tuple[str, object]]:
    """In a process of its own: Playwright's event loop and Django's ORM do not mix."""
    from playwright.sync_api import sync_playwright

    address = f"http://127.0.0.1:{port}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        browser.new_page().goto(f"{address}/accounts/login/")  # the browser itself is warm
        context = browser.new_context()
        context.add_cookies([{"name": "sessionid", "value": session, "url": address}])
        page = context.new_page()
        network = context.new_cdp_session(page)
        network.send("Network.enable")
        sizes: list[float] = []
        network.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
        page.goto(f"{address}/projects/desk/rate/", wait_until="networkidle")
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        hosts = set(page.evaluate("performance.getEntriesByType('resource').map(r => new URL(r.name).host)"))
        browser.close()
    return [
        ("requests", len(sizes)),
        ("KB", f"{sum(sizes) / 1000:.0f}"),
        ("first contentful paint, ms", f"{paint:.0f}"),
        ("other hosts", len(hosts - {f"127.0.0.1:{port}"})),
    ]


if __name__ == "__main__":
    main()
