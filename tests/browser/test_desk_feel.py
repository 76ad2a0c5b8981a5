"""How the desk feels by keyboard: own keys, auto-advance, looks of the text, formulas under the policy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.axe import AXE, RUN_AXE, STANDARDS
from tests.browser.conftest import ROOT, Installation
from tests.browser.people import Person, someone

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

MAKE_PROJECT = r"""
import django
django.setup()
from rating.models import Project, Role, User
from tests.factories import make_item, make_membership, make_project, make_question
project = make_project(slug="feel", name="Feel", queue_strategy=Project.QueueStrategy.OLDEST, overlap=5,
                       guidelines="Prefer *right* answers, with $x$.")
make_membership(project, User.objects.get(username="rater"), Role.RATER)
long = "\n\n".join(f"Paragraph {number} of a long answer." for number in range(60))
brown, red = "The quick brown fox <b>jumps</b>.", "The quick red fox jumps."
make_item(project, texts=[f"{brown}\n\n{long}", f"{red}\n\n{long}"])
formulas = r'''$\sqrt{x}$ \(\fcolorbox{red}{aqua}{a}\) \[\begin{pmatrix}1&2\\3&4\end{pmatrix}\]

$$\overbrace{a}^b \cancel{c} \phase{d} \xrightarrow[e]{f} \raisebox{1em}{g} \rule{1em}{1em} \color{blue}{h}$$

$\href{javascript:alert(1)}{x}$ $\htmlStyle{color: red}{y}$ $\undefined$ $\def\a{\a\a}\a$
$\includegraphics{//evil.example/x}$
$\rule{9999em}{9999em}$ costs $5 and $10.'''
make_item(project, texts=[formulas, "Plain."])
for _ in range(6):
    make_item(project)
asked = make_project(slug="asked", name="Asked", overlap=5)
make_question(asked, "true", required=True)
make_membership(asked, User.objects.get(username="rater"), Role.RATER)
for _ in range(3):
    make_item(asked)
"""


@pytest.fixture(scope="module")
def projects(installation: Installation) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAKE_PROJECT],
        cwd=ROOT,
        env=installation.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def rater(projects: None, installation: Installation, browser: Any) -> Iterator[Person]:
    """A rater whose browser may not complain about anything: a refused style would be an error here."""
    with someone(Person, browser, installation, "rater") as person:
        yield person


def open_desk(person: Person, slug: str = "feel") -> Any:
    person.go(f"/projects/{slug}/rate/")
    person.page.wait_for_load_state("networkidle")
    return person.page


def answer(page: Any, keys: str) -> None:
    """Press the keys and Enter, and wait for Saved."""
    for key in keys:
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(page.locator("#desk-state")).to_have_attribute("data-state", "saved")


def test_looks_of_the_text(rater: Person) -> None:
    page = open_desk(rater)
    first = page.locator("article.response", has_text="brown")
    page.keyboard.press("d")
    marks = page.locator("pre.difference mark")
    expect(marks.first).to_be_visible()
    assert sorted(marks.all_inner_texts()) == sorted(["brown", "<b>", "</b>", "red"])
    page.keyboard.press("r")
    expect(first.locator("pre.raw")).to_be_visible()
    expect(first.locator("pre.raw")).to_contain_text("<b>jumps</b>")
    expect(first.locator(".prose")).to_be_hidden()
    page.keyboard.press("r")
    expect(first.locator(".prose")).to_be_visible()
    page.keyboard.press("l")
    frames = page.locator("article.response > .prose")
    expect(frames.first).to_have_attribute("tabindex", "0")
    frames.first.hover()
    page.mouse.wheel(0, 400)
    page.wait_for_function(
        """() => {
            const frames = [...document.querySelectorAll("article.response > .prose")];
            const [one, other] = frames.map(frame => frame.scrollTop);
            return one > 100 && Math.abs(one - other) < 80;
        }"""
    )
    check_axe(page)
    page.keyboard.press("l")
    answer(page, "1")


def test_formulas_break_no_policy(rater: Person) -> None:
    page = open_desk(rater)
    expect(page.locator(".guidelines .math[role=math]")).to_have_count(1)
    shown = page.locator("article.response", has_text="costs")
    expect(shown.locator(".math[role=math]").first).to_be_visible()
    assert shown.locator(".math[role=math]").count() >= 4
    assert shown.locator("a, img").count() == 0
    expect(shown).to_contain_text("costs $5 and $10.")
    expect(shown).to_contain_text(r"$\undefined$")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    check_axe(page)
    answer(page, "2")


def test_every_key_is_shown_and_can_be_changed(rater: Person) -> None:
    page = open_desk(rater)
    page.keyboard.press("?")
    dialog = page.locator("#keys-dialog")
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text("Skip the item")
    check_axe(page)
    dialog.get_by_text("Change keys and looks").click()
    page.fill("input[name=key_skip]", "j")
    page.locator("summary", has_text="Other keys").click()
    page.fill("input[name=key_answer_2]", "k")
    check_axe(page)
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**/rate/")
    page.wait_for_load_state("networkidle")
    expect(page.locator("[data-opens=skip-dialog] kbd")).to_have_text("J")
    expect(page.locator("label.choice kbd").nth(1)).to_have_text("K")
    page.keyboard.press("k")
    expect(page.locator("input[name=choice][value='2']")).to_be_checked()
    page.keyboard.press("s")
    expect(page.locator("#skip-dialog")).to_be_hidden()
    page.keyboard.press("j")
    expect(page.locator("#skip-dialog")).to_be_visible()
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator("#desk-state")).to_contain_text("Skipped")
    skipped = rater.installation.query("SELECT skip_reason FROM rating_assignment WHERE state = 'skipped'")
    assert skipped == [("unclear",)]
    rater.go("/preferences/")
    page.get_by_role("button", name="Back to the defaults").click()


def test_flag_and_reason_by_keyboard(rater: Person) -> None:
    page = open_desk(rater)
    page.keyboard.press("1")
    page.keyboard.press("f")
    page.keyboard.press("4")
    page.keyboard.press("w")
    page.keyboard.type("Because 1 is right.")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#desk-state")).to_have_attribute("data-state", "saved")
    rows = rater.installation.query(
        "SELECT flags, rationale FROM rating_judgment WHERE rationale <> '' ORDER BY id DESC LIMIT 1"
    )
    assert rows == [('["unsure"]', "Because 1 is right.")]


def test_auto_advance_after_the_last_answer_that_is_needed(rater: Person) -> None:
    rater.go("/preferences/")
    rater.page.check("input[name=auto_advance]")
    rater.page.get_by_role("button", name="Save").click()
    page = open_desk(rater, "asked")
    before = page.get_attribute("#desk", "data-lease")
    page.keyboard.press("1")
    page.wait_for_timeout(700)
    assert page.get_attribute("#desk", "data-lease") == before
    page.keyboard.press("y")
    page.wait_for_timeout(100)
    assert page.get_attribute("#desk", "data-lease") == before
    expect(page.locator("#desk-state")).to_have_attribute("data-state", "saved")
    assert page.get_attribute("#desk", "data-lease") != before
    rater.go("/preferences/")
    page.get_by_role("button", name="Back to the defaults").click()


def check_axe(page: Any) -> None:
    """axe finds nothing, in both themes."""
    if not AXE.exists():
        return
    page.evaluate(AXE.read_text())
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        assert page.evaluate(RUN_AXE, STANDARDS) == []
    page.emulate_media(color_scheme="light")
