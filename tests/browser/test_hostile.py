"""Hostile texts in Chromium, under the Content-Security-Policy: nothing runs, nothing breaks out.

The same rows stand in two projects, one with the hostile texts and one with plain ones: their pages have the
same elements. At the desk every text is rated by keyboard, as prompt and as both responses.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.browser.conftest import ROOT, Installation
from tests.browser.people import Person
from tests.hostile import RAW, STORED, UNSTORED

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

KINDS = ("hostile", "harmless")
ASKED = 4
IMPORTED = 8
PATIENCE_MS = 120_000
MOVED_ON = "before => document.querySelector('#desk').dataset.lease !== before"
SHOWN_RAW, SHOWN_DIFFERENT = 60, 110
PAGES = {
    "admin": [
        "/", "/projects/{}/", "/projects/{}/settings/", "/projects/{}/members/", "/projects/{}/import/",
        *(f"/projects/{{}}-asked-{number}/asking/" for number in range(ASKED)),
        *(f"/projects/{{}}/import/{{}}{number:03}/" for number in range(IMPORTED)),
    ],
    "operator": [
        "/projects/{}/training/", "/projects/{}/versions/", "/projects/{}/runs/", "/projects/{}/runs/1/",
        "/projects/{}/runs/new/", "/projects/{}/evaluations/1/", "/projects/{}/snapshots/",
        "/projects/{}/snapshots/new/", "/projects/{}/snapshots/1/", "/projects/{}/snapshots/2/?against=1",
    ],
    "rater": [f"/projects/{{}}-asked-{number}/rate/" for number in range(ASKED)],
}  # fmt: skip
COUNTED = (
    "script", "form", "main", "header", "nav", "h1:not(.prose *)", "h2:not(.prose *)", "h3:not(.prose *)", "button", "input", "select", "textarea", "dialog", "details",
    "iframe, object, embed, base, style, link, meta, template, svg script, body body, [onerror], [onload], [style*=fixed]",
)  # fmt: skip
LISTEN = """
window.refused = [];
document.addEventListener("securitypolicyviolation", event => window.refused.push(
    `${event.violatedDirective} ${event.blockedURI} ${event.sample} ${event.sourceFile}:${event.lineNumber}`));
"""
LOOK = """
counted => ({
    ran: "pwned" in window && !(window.pwned instanceof Element) ? String(window.pwned) : "",
    refused: window.refused,
    over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    counts: Object.fromEntries(counted.map(one => [one, document.querySelectorAll(one).length])),
    title: document.title,
})
"""
# What can be pressed has nothing on it, and what is seen of a text lies within the text's own box.
FIND_OUTBREAKS = """
async () => {
    const drawn = () => !document.querySelector(".math:not([role])");
    for (let turn = 0; turn < 20 && !drawn(); turn += 1) await new Promise(done => setTimeout(done, 10));
    const found = [];
    for (const control of document.querySelectorAll("#desk-form .choice, #desk-form button, .site-bar a")) {
        const box = control.getBoundingClientRect();
        const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
        if (!box.width || y < 0 || y > innerHeight) continue;
        const hit = document.elementFromPoint(x, y);
        if (hit?.closest(".prose, pre")) found.push(`${hit.tagName}.${hit.className} covers ${control.textContent.trim()}`);
    }
    for (let x = 4; x < innerWidth; x += 32) for (let y = 4; y < innerHeight; y += 24) {
        const text = document.elementFromPoint(x, y)?.closest(".prose");
        const box = text?.getBoundingClientRect();
        if (box && (x < box.left - 9 || x > box.right + 9 || y < box.top - 9 || y > box.bottom + 9)) {
            found.push(`a text is seen at ${x},${y}, outside its box`);
        }
    }
    return [...new Set(found)].slice(0, 5);
}
"""


class Watched(Person):
    """Somebody whose browser notes all that it should not have to do."""

    def __init__(self, browser: Any, installation: Installation, name: str) -> None:
        super().__init__(browser, installation, name)
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.add_init_script(LISTEN)
        self.page.on(
            "dialog", lambda dialog: (self.errors.append(f"dialog {dialog.message}"), dialog.dismiss())
        )
        self.context.on("page", lambda page: self.errors.append(f"a window opened: {page.url}"))
        self.context.on("request", self.note_request)
        self.context.on("response", self.note_response)

    def note_request(self, request: Any) -> None:
        parts = urlsplit(request.url)
        foreign = parts.scheme != "data" and parts.netloc != urlsplit(self.installation.address).netloc
        if foreign or "pwned" in parts.path:
            self.errors.append(f"asked for {request.url[:200]}")

    def note_response(self, response: Any) -> None:
        if response.status >= 500:
            self.errors.append(f"{response.status}: {response.url[:200]}")

    def look(self) -> dict[str, Any]:
        """What became of the page."""
        return dict(self.page.evaluate(LOOK, list(COUNTED)))

    def faults(self, path: str) -> list[str]:
        """What the hostile page has done, and where it differs from the harmless one."""
        looks = {}
        for kind in reversed(KINDS):
            self.go(path.format(kind, 1 + KINDS.index(kind)))
            self.page.wait_for_load_state("networkidle")
            looks[kind] = self.look()
        hostile, harmless = looks["hostile"], looks["harmless"]
        found = [f"{path}: ran {hostile['ran']}"] if hostile["ran"] else []
        found += [f"{path}: refused {what}" for what in hostile["refused"]]
        found += [f"{path}: {hostile['over']} pixels wider than the window"] if hostile["over"] > 0 else []
        for name, count in hostile["counts"].items():
            if count != harmless["counts"][name]:
                found.append(f"{path}: {count} {name}, not {harmless['counts'][name]}")
        return found


@pytest.fixture(scope="module")
def stage(installation: Installation) -> Installation:
    """The installation with both projects."""
    for kind in KINDS:
        done = subprocess.run(
            [sys.executable, "-m", "tests.browser.hostile_stage", kind, kind],
            cwd=ROOT, env=installation.environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return installation


@pytest.fixture
def watched(stage: Installation, browser: Any) -> Iterator[Any]:
    """People whose browser may complain of nothing; the server has logged no error."""
    made: list[Watched] = []

    def enter(name: str) -> Watched:
        made.append(Watched(browser, stage, name))
        return made[-1]

    yield enter
    for person in made:
        person.context.close()
    errors = [error for person in made for error in person.errors if "status of 422" not in error]
    assert errors == []
    assert "Traceback" not in stage.log


@pytest.mark.parametrize("name", PAGES)
def test_pages_show_hostile_texts_and_nothing_else(watched: Any, name: str) -> None:
    person = watched(name)
    assert [fault for path in PAGES[name] for fault in person.faults(path)] == []


def test_a_hostile_account_name(stage: Installation, watched: Any) -> None:
    """The name stands in the menu of every page."""
    ((name,),) = stage.query("SELECT username FROM rating_user WHERE username LIKE '\"><img src=/pwned%'")
    code = (
        "import django, sys; django.setup(); from rating.models import User; "
        "user = User.objects.get(username=sys.argv[1]); user.set_password(sys.argv[2]); user.save()"
    )
    words = [sys.executable, "-c", code, name, stage.password]
    subprocess.run(words, cwd=ROOT, env=stage.environment, check=True)
    person = watched(name)
    person.go("/projects/hostile/")
    person.page.locator(".menu summary").click()
    expect(person.page.locator(".menu-title").first).to_contain_text(name)
    assert person.look()["ran"] == ""
    assert person.look()["refused"] == []


def test_every_text_is_rated_by_keyboard(stage: Installation, watched: Any, tmp_path: Path) -> None:
    admin, rater = watched("admin"), watched("rater")
    slug = import_texts(admin, tmp_path)
    page = rater.page
    rater.go(f"/projects/{slug}/rate/")
    faults = []
    for number in range(len(STORED)):
        page.wait_for_load_state("networkidle")
        lease = page.get_attribute("#desk", "data-lease")
        shown = page.locator("article.response pre.raw").first.text_content()
        faults += [f"{shown[:60]!r}: {fault}" for fault in page.evaluate(FIND_OUTBREAKS)]
        if number in (SHOWN_RAW, SHOWN_DIFFERENT):
            page.keyboard.press("r" if number == SHOWN_RAW else "d")
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        page.wait_for_function(MOVED_ON, arg=lease, timeout=PATIENCE_MS)
    expect(page.locator("#desk-heading")).to_have_text("Nothing to rate now", timeout=PATIENCE_MS)
    expect(page.locator("#desk-state")).to_have_attribute("data-state", "saved", timeout=PATIENCE_MS)
    looked = rater.look()
    assert (looked["ran"], looked["refused"], faults) == ("", [], [])
    assert judged(stage, slug) == len(STORED)


def import_texts(admin: Watched, directory: Path) -> str:
    """Upload a file with a hostile name and all texts, after one that is refused; returns the project's slug."""
    slug = "hostile-name-0"
    name = "<img src=x onerror=window.pwned=1>\"' \u202ejsonl.jsonl"
    for texts, heading in (
        ([RAW[one] for one in UNSTORED], "Nothing was imported"),
        ([RAW[one] for one in STORED], ""),
    ):
        rows = [
            {"prompt": text, "responses": [text, f"{text} "], "metadata": {"text": text}} for text in texts
        ]
        # A text without anything to be seen is no prompt.
        rows = [row if row["prompt"].strip() else row | {"prompt": "?"} for row in rows]
        path = directory / name
        path.write_text("\n".join(map(json.dumps, rows)))
        admin.go(f"/projects/{slug}/import/")
        admin.page.set_input_files("input[name=file]", path)
        admin.page.click("text=Upload and look at it")
        admin.page.wait_for_selector("#how")
        assert admin.look()["ran"] == ""
        admin.page.select_option("select[name=format]", "responses")
        admin.page.locator("#how ~ form").get_by_role("button", name="Import", exact=True).click()
        told = heading or "What went in"
        expect(admin.page.locator("#progress")).to_contain_text(told, timeout=PATIENCE_MS)
        assert "<img src=x onerror=window.pwned=1>" in admin.text()
    assert admin.look()["ran"] == ""
    return slug


def judged(stage: Installation, slug: str) -> int:
    """How many judgments the project has."""
    ((count,),) = stage.query(
        "SELECT count(*) FROM rating_judgment j JOIN rating_item i ON i.id = j.item_id "
        "JOIN rating_project p ON p.id = i.project_id WHERE p.slug = ?",
        slug,
    )
    return int(count)
