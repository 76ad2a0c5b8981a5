"""kill -9 on the web server under sixteen posting raters: what was acknowledged is there, once."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.browser.conftest import ROOT, Installation

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RATERS, ITEMS, OVERLAP = 16, 400, 3
KILLS = 3
PATIENCE = 60.0

ROWS = f"""
import json
import django
django.setup()
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.db import transaction
from rating.models import Role
from tests.factories import make_item, make_membership, make_project, make_user
with transaction.atomic():
    project = make_project(slug="crash", overlap={OVERLAP})
    for _ in range({ITEMS}):
        make_item(project)
    sessions = []
    for _ in range({RATERS}):
        user = make_membership(project, make_user(), Role.RATER).user
        session = SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = "config.accounts.AccountBackend"
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.create()
        sessions.append(session.session_key)
print(json.dumps(sessions))
"""


class AnswerPage(HTMLParser):
    """The rating page's form: where it posts to, and its hidden fields."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.action, self.fields, self.inside = "", {}, False
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attributes}
        if tag == "form":
            action = named.get("action", "")
            self.inside = "/rate/" in action and not action.endswith("/skip/")
            self.action = action if self.inside else self.action
        if tag == "input" and self.inside and named.get("type") == "hidden":
            self.fields[named["name"]] = named.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.inside = False


@dataclass
class PostingRater(threading.Thread):
    """Posts answer after answer; sends one again until the server has said something about it."""

    port: int
    session: str
    stop: threading.Event
    acknowledged: list[str] = field(default_factory=list)
    sent_again: int = 0
    trouble: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.csrf = uuid.uuid4().hex

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                status, html = self.insist("GET", "/projects/crash/rate/")
                page = AnswerPage(html)
                if status != 200 or not page.action:
                    self.trouble.append(f"GET {status}: no form to answer")
                    return
                self.post(page)
        except TimeoutError as error:
            self.trouble.append(str(error))

    def post(self, page: AnswerPage) -> None:
        answer = page.fields | {"choice": random.choice(["1", "2", "tie", "both_bad"]), "seconds": "1"}
        status, html = self.insist("POST", page.action, answer)
        if status in (200, 302, 303):
            self.acknowledged.append(page.fields["idempotency_key"])
        else:
            self.trouble.append(f"POST {status}: {html[:300]}")

    def insist(self, method: str, path: str, fields: dict[str, str] | None = None) -> tuple[int, str]:
        """Ask until there is a whole answer, as a browser with a patient rater would."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                return self.ask(method, path, fields)
            except (OSError, http.client.HTTPException):
                self.sent_again += method == "POST"
                time.sleep(0.1)
        raise TimeoutError(f"{method} {path}: no answer in {PATIENCE} s")

    def ask(self, method: str, path: str, fields: dict[str, str] | None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            body = urlencode(fields | {"csrfmiddlewaretoken": self.token}) if fields else None
            headers = {"Cookie": f"sessionid={self.session}; csrftoken={self.token}"}
            if body:
                headers["Content-Type"] = "application/x-www-form-urlencoded"
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    @property
    def token(self) -> str:
        return self.csrf


def kill_web_server(installation: Installation) -> int:
    """SIGKILL to Granian and its workers at once; how many processes that were."""
    assert installation.process is not None
    up = installation.process.pid
    for child in Path(f"/proc/{up}/task/{up}/children").read_text().split():
        if b"granian" in Path(f"/proc/{child}/cmdline").read_bytes():
            workers = Path(f"/proc/{child}/task/{child}/children").read_text().split()
            os.killpg(int(child), signal.SIGKILL)
            return 1 + len(workers)
    return 0


def test_acknowledged_judgments_survive_kill_9_of_the_web_server(installation):
    made = subprocess.run(
        [sys.executable, "-c", ROWS],
        cwd=ROOT,
        env=installation.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    stop = threading.Event()
    raters = [PostingRater(installation.port, session, stop) for session in json.loads(made.stdout)]
    for rater in raters:
        rater.start()
    for _ in range(KILLS):
        before = sum(len(rater.acknowledged) for rater in raters)
        installation.wait_for(lambda: sum(len(r.acknowledged) for r in raters) > before + 2 * RATERS, 30)  # noqa: B023
        assert kill_web_server(installation) >= 2
    before = sum(len(rater.acknowledged) for rater in raters)
    installation.wait_for(lambda: sum(len(rater.acknowledged) for rater in raters) > before + 2 * RATERS, 60)
    stop.set()
    for rater in raters:
        rater.join(PATIENCE)
        assert rater.trouble == []
    assert installation.log.count("The web server ended with status -9; starting it again.") == KILLS
    check_rows(installation, [key for rater in raters for key in rater.acknowledged])
    assert sum(rater.sent_again for rater in raters) > 0


def check_rows(installation: Installation, acknowledged: list[str]) -> None:
    """Everything acknowledged is stored once, and the slots of every item add up."""
    stored = [key for (key,) in installation.query("SELECT idempotency_key FROM rating_judgment")]
    assert len(acknowledged) == len(set(acknowledged)) > RATERS * KILLS
    assert {key.replace("-", "") for key in acknowledged} <= set(stored)
    assert len(stored) == len(set(stored))
    doubles = installation.query(
        "SELECT item_id, rater_id FROM rating_judgment GROUP BY item_id, rater_id HAVING count(*) > 1"
    )
    assert doubles == []
    wrong = installation.query(
        """
        SELECT item.id, item.overlap, item.open_slots, taken.n FROM rating_item item JOIN (
            SELECT item_id, count(*) AS n FROM rating_assignment
            WHERE state IN ('leased', 'done') GROUP BY item_id
        ) taken ON taken.item_id = item.id WHERE item.open_slots <> item.overlap - taken.n
        """
    )
    assert wrong == []
    done = installation.query("SELECT count(*) FROM rating_assignment WHERE state = 'done'")[0][0]
    assert done == len(stored)
