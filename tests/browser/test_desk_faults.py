"""A bad network under the rating desk: the stored judgments are exactly the ones that the rater gave."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import ROOT, Installation
from tests.browser.people import Person

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

ITEMS = 30
ANSWER = "**/rate/*-*-*-*-*/"
PATIENCE_MS = 40_000
MAKE_PROJECT = """
import sys
import django
django.setup()
from rating.models import Role, User
from tests.factories import make_item, make_membership, make_project
project = make_project(slug=sys.argv[1], name="Faults", overlap=1)
make_membership(project, User.objects.get(username="rater"), Role.RATER)
make_membership(project, User.objects.get(username="operator"), Role.RATER)
for number in range(int(sys.argv[2])):
    make_item(project, texts=[f"First {number}", f"Second {number}"])
"""
STORED = """
SELECT prompt.messages, completion.text FROM rating_judgment judgment
JOIN rating_item item ON item.id = judgment.item_id
JOIN rating_project project ON project.id = item.project_id
JOIN rating_prompt prompt ON prompt.id = item.prompt_id
JOIN rating_completion completion ON completion.id = judgment.preferred_id
LEFT JOIN rating_judgment later ON later.supersedes_id = judgment.id
WHERE project.slug = ? AND later.id IS NULL
"""
UUID = re.compile(r"[0-9a-f-]{36}")
numbers = itertools.count(1)


def make_project(installation: Installation, items: int = ITEMS) -> str:
    """A project of its own with so many pairs; returns its slug."""
    slug = f"faults-{next(numbers)}"
    done = subprocess.run(
        [sys.executable, "-c", MAKE_PROJECT, slug, str(items)],
        cwd=ROOT,
        env=installation.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return slug


@dataclass
class Desk:
    """The desk in one tab, and what the rater has said there: the preferred text by the question."""

    person: Person
    page: Any
    slug: str
    given: dict[str, str] = field(default_factory=dict)

    def open(self) -> Desk:
        self.page.goto(f"{self.person.installation.address}/projects/{self.slug}/rate/")
        self.page.wait_for_selector("#desk-form")
        return self

    def wait_for_next(self) -> None:
        """The page has the item that follows in hand."""
        self.page.wait_for_load_state("networkidle")

    @property
    def question(self) -> str:
        return str(self.page.locator(".turn[data-role=user] .prose").first.inner_text()).strip()

    def choose(self, key: str = "1") -> str:
        """Press the key of an answer; returns the text that it prefers."""
        self.page.keyboard.press(key)
        return str(self.page.locator("article.response .prose").nth(int(key) - 1).inner_text()).strip()

    def answer(self, key: str = "1") -> None:
        """Two keys; the answer is the rater's word from then on."""
        question = self.question
        self.given[question] = self.choose(key)
        self.page.keyboard.press("Enter")

    def expect_state(self, kind: str) -> None:
        expect(self.page.locator("#desk-state")).to_have_attribute("data-state", kind, timeout=PATIENCE_MS)

    def expect_stored(self) -> None:
        """Exactly what was given is in the database, each once."""
        self.expect_state("saved")
        assert stored(self.person.installation, self.slug) == sorted(self.given.items())


def stored(installation: Installation, slug: str) -> list[tuple[str, str]]:
    """Question and preferred text of every judgment in force."""
    rows = installation.query(STORED, slug)
    return sorted((json.loads(messages)[-1]["content"], text) for messages, text in rows)


def slots_add_up(installation: Installation, slug: str) -> bool:
    """Overlap is the open slots, the live leases and the judgments in all."""
    wrong = installation.query(
        """
        SELECT item.id FROM rating_item item JOIN rating_project project ON project.id = item.project_id
        WHERE project.slug = ? AND item.open_slots <> item.overlap - (
            SELECT count(*) FROM rating_assignment
            WHERE item_id = item.id AND state IN ('leased', 'done'))
        """,
        slug,
    )
    return not wrong


@pytest.fixture
def person(installation: Installation, browser: Any) -> Iterator[Person]:
    """A signed-in rater whose browser may complain about the network, and about nothing else."""
    made = Person(browser, installation, "rater")
    yield made
    made.context.close()
    assert [error for error in made.errors if "Failed to load resource" not in error] == []


@pytest.fixture
def desk(installation: Installation, person: Person) -> Desk:
    opened = Desk(person, person.page, make_project(installation)).open()
    opened.wait_for_next()
    return opened


def test_next_item_is_there_at_once(desk: Desk) -> None:
    """The swap takes no request: it is done before the answer is even acknowledged."""
    desk.page.route(ANSWER, lambda route: (desk.page.wait_for_timeout(1000), route.continue_()))
    desk.choose("1")
    desk.given[desk.question] = desk.choose("1")
    took = desk.page.evaluate(
        """() => { const before = document.querySelector("#desk").dataset.lease, began = performance.now();
        document.querySelector("#desk-form").requestSubmit();
        return document.querySelector("#desk").dataset.lease === before ? -1 : performance.now() - began; }"""
    )
    assert 0 <= took < 50
    desk.expect_state("saving")
    desk.expect_stored()


def test_offline_and_back(desk: Desk, installation: Installation) -> None:
    desk.answer("1")
    desk.expect_state("saved")
    desk.wait_for_next()
    desk.person.context.set_offline(True)
    desk.answer("2")  # the next one is in the page
    desk.answer("1")
    desk.expect_state("waiting")
    expect(desk.page.locator("#desk-state")).to_have_text("Waiting to be sent: 2")
    expect(desk.page.locator("#desk-trouble")).to_be_visible()
    assert len(stored(installation, desk.slug)) == 1
    desk.person.context.set_offline(False)
    desk.expect_stored()
    expect(desk.page.locator("#desk-trouble")).to_be_hidden()
    desk.answer("2")
    desk.expect_stored()
    assert slots_add_up(installation, desk.slug)


def test_waiting_answers_survive_a_reload(desk: Desk) -> None:
    desk.page.route(
        ANSWER, lambda route: route.abort() if route.request.method == "POST" else route.continue_()
    )
    desk.answer("1")
    desk.answer("2")
    desk.expect_state("waiting")
    desk.page.reload()
    desk.expect_state("waiting")
    desk.page.unroute(ANSWER)
    desk.page.evaluate("window.dispatchEvent(new Event('online'))")
    desk.expect_stored()
    desk.page.wait_for_selector("#desk:not([aria-busy])")
    assert desk.question not in desk.given
    desk.answer("1")
    desk.expect_stored()


def test_answer_lost_on_the_way_back(desk: Desk) -> None:
    """The server has stored it, and the browser never hears of it: it is sent again and stored once."""
    lost: list[str] = []

    def lose_some(route: Any) -> None:
        if route.request.method != "POST" or len(lost) >= 3:
            return route.continue_()
        route.fetch()
        lost.append(route.request.url)
        return route.abort()

    desk.page.route(ANSWER, lose_some)
    for key in "1221":
        desk.answer(key)
        desk.page.wait_for_selector("#desk:not([aria-busy])", timeout=PATIENCE_MS)
    desk.expect_stored()
    assert len(lost) == 3


def test_half_an_answer_and_errors_of_the_server(desk: Desk) -> None:
    """A body cut short, a gateway's error page, a sign-in page: none of them counts as Saved."""
    pages = iter([(502, "Bad gateway"), (200, "<html><body>Something else</body></html>"), (500, "")])

    def spoil(route: Any) -> None:
        page = next(pages, None) if route.request.method == "POST" else None
        if page is None:
            route.continue_()
        else:
            route.fulfill(status=page[0], body=page[1], content_type="text/html")

    desk.page.route(ANSWER, spoil)
    desk.answer("2")
    desk.expect_state("waiting")
    desk.expect_stored()


def test_slow_network_and_a_fast_rater(desk: Desk) -> None:
    def slowly(route: Any) -> None:
        desk.page.wait_for_timeout(400)
        route.continue_()

    desk.page.route(ANSWER, slowly)
    for key in "121212":
        desk.page.wait_for_selector("#desk:not([aria-busy])", timeout=PATIENCE_MS)
        desk.answer(key)
        desk.page.keyboard.press("Enter")  # impatient
    desk.expect_stored()
    assert len(desk.given) == 6


def test_server_killed_between_post_and_answer(desk: Desk, installation: Installation) -> None:
    killed: list[int] = []

    def kill_after(route: Any) -> None:
        if route.request.method == "POST" and not killed:
            route.fetch()
            killed.append(kill_web_server(installation))
            route.abort()
        else:
            route.continue_()

    desk.page.route(ANSWER, kill_after)
    for key in "12":
        desk.answer(key)
        desk.page.wait_for_selector("#desk:not([aria-busy])", timeout=PATIENCE_MS)
    desk.expect_stored()
    assert killed
    assert slots_add_up(installation, desk.slug)


def test_two_tabs(desk: Desk, installation: Installation) -> None:
    """Both show the same item; the first word counts, and the second tab says that it was not the first."""
    other = Desk(desk.person, desk.person.context.new_page(), desk.slug, desk.given).open()
    other.wait_for_next()
    assert other.question == desk.question
    desk.answer("1")
    desk.expect_stored()
    other.choose("2")
    other.page.keyboard.press("Enter")
    expect(other.page.locator("#desk-notice")).to_contain_text("nothing was changed", timeout=PATIENCE_MS)
    desk.wait_for_next()
    other.wait_for_next()
    for tab, key in [(desk, "2"), (other, "1"), (desk, "1"), (other, "2")]:
        tab.page.bring_to_front()
        tab.page.reload()
        tab.wait_for_next()
        tab.answer(key)
        tab.expect_state("saved")
    desk.expect_stored()
    assert len(desk.given) == 5
    assert slots_add_up(installation, desk.slug)


def test_another_account_never_sends_them(desk: Desk, installation: Installation) -> None:
    """The rater is offline and signs out; the operator signs in; the answers wait for the rater."""
    desk.page.route(
        ANSWER, lambda route: route.abort() if route.request.method == "POST" else route.continue_()
    )
    desk.answer("1")
    desk.expect_state("waiting")
    other = desk.person.context.new_page()
    sign_in(other, installation, "operator")
    theirs = Desk(desk.person, other, desk.slug).open()
    theirs.wait_for_next()
    desk.page.unroute(ANSWER)
    desk.page.evaluate("window.dispatchEvent(new Event('online'))")
    expect(desk.page.locator("#desk-trouble")).to_contain_text("Another account", timeout=PATIENCE_MS)
    assert stored(installation, desk.slug) == []
    other.close()
    sign_in(desk.page, installation, "rater")
    desk.open()
    desk.expect_stored()


def test_signed_out_answers_wait(desk: Desk, installation: Installation) -> None:
    desk.person.context.clear_cookies(name="sessionid")
    desk.answer("2")
    expect(desk.page.locator("#desk-trouble")).to_contain_text("signed out", timeout=PATIENCE_MS)
    assert stored(installation, desk.slug) == []
    tab = desk.person.context.new_page()
    sign_in(tab, installation, "rater")
    tab.close()
    desk.page.evaluate("window.dispatchEvent(new Event('online'))")
    desk.expect_stored()


def test_draft_is_kept(desk: Desk) -> None:
    desk.choose("2")
    desk.page.keyboard.press("w")
    desk.page.keyboard.type("Because of this.")
    desk.expect_state("unsaved")
    desk.page.wait_for_timeout(400)
    desk.page.reload()
    assert desk.page.locator("input[name=choice]:checked").get_attribute("value") == "2"
    assert desk.page.locator("textarea[name=rationale]").input_value() == "Because of this."
    desk.expect_state("unsaved")


def test_undo_by_keyboard(desk: Desk, installation: Installation) -> None:
    first = desk.question
    desk.answer("1")
    desk.expect_state("saved")
    second = desk.question
    desk.page.keyboard.press("2")
    desk.page.keyboard.press("u")
    expect(desk.page.locator("#desk")).to_have_attribute("data-revises", UUID, timeout=PATIENCE_MS)
    assert desk.question == first
    assert desk.page.locator("input[name=choice]:checked").get_attribute("value") == "1"
    desk.answer("2")
    assert desk.question == second
    assert desk.page.locator("input[name=choice]:checked").get_attribute("value") == "2"
    desk.expect_state("unsaved")
    desk.page.wait_for_load_state("networkidle")
    assert stored(installation, desk.slug) == sorted(desk.given.items())
    desk.page.keyboard.press("u")
    expect(desk.page.locator("#desk")).to_have_attribute("data-revises", UUID, timeout=PATIENCE_MS)
    desk.page.keyboard.press("Escape")
    assert desk.question == second
    counted = installation.query(
        "SELECT count(*) FROM rating_judgment j JOIN rating_item i ON i.id = j.item_id "
        "JOIN rating_project p ON p.id = i.project_id WHERE p.slug = ?",
        desk.slug,
    )
    assert counted == [(2,)]


def test_last_item_and_then_nothing(installation: Installation, person: Person) -> None:
    desk = Desk(person, person.page, make_project(installation, items=2)).open()
    desk.wait_for_next()
    desk.answer("1")
    desk.answer("2")
    expect(desk.page.locator("#desk-heading")).to_have_text("Nothing to rate now", timeout=PATIENCE_MS)
    desk.expect_stored()


def sign_in(page: Any, installation: Installation, name: str) -> None:
    """Sign whoever is there out, and this account in."""
    page.context.clear_cookies(name="sessionid")
    page.goto(f"{installation.address}/account/login/")
    page.fill("input[name=login]", name)
    page.fill("input[name=password]", installation.password)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{installation.address}/")


def kill_web_server(installation: Installation) -> int:
    """SIGKILL to Granian and its workers; `manage.py up` starts them again."""
    assert installation.process is not None
    up = installation.process.pid
    for child in Path(f"/proc/{up}/task/{up}/children").read_text().split():
        if b"granian" in Path(f"/proc/{child}/cmdline").read_bytes():
            os.killpg(int(child), signal.SIGKILL)
            return int(child)
    raise AssertionError("there is no web server to kill")
