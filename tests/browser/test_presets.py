"""Each way of asking, set up by the admin and answered by a rater who has nothing but a keyboard."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from rating.presets import PRESETS
from tests.browser.axe import faults_of
from tests.browser.conftest import ROOT, Installation
from tests.browser.people import Person, someone

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

MAKE_PROJECTS = """
import django
django.setup()
from rating.models import Role, User
from rating.presets import PRESETS
from tests.factories import make_item, make_membership, make_project, make_prompt
QUESTIONS = ["How do I make bread?", "How do I make rolls?", "How do I make pizza?"]
ANSWERS = [
    "Warm the milk first, **not** hot, then stir the yeast in and wait ten minutes until it foams.",
    "Just mix everything. It will be fine.",
    "1. Mix flour and salt.\\n2. Add the yeast and warm water.\\n3. Knead for ten minutes.\\n4. Let it rise.",
    "Bread needs four things: flour, water, salt and time. Yeast only makes it quicker.",
]
for key, preset in PRESETS.items():
    project = make_project(slug=f"preset-{key}", name=preset.name, overlap=5, guidelines="Prefer what works.")
    make_membership(project, User.objects.get(username="rater"), Role.RATER)
    make_membership(project, User.objects.get(username="admin"), Role.ADMIN)
    for place in range(len(QUESTIONS)):
        prompt = make_prompt(project, QUESTIONS[place])
        make_item(project, prompt=prompt, texts=ANSWERS[: preset.responses])
"""
# The questions that wait for an answer, in the order of the page: the keys printed on their controls.
WAITING = """() => [...document.querySelectorAll("#desk-form fieldset")].filter(
    group => group.checkVisibility() && !("aside" in group.dataset)
        && group.querySelector("input[required]") && !group.querySelector(":checked")
).map(group => [...group.querySelectorAll("label kbd")].map(key => key.textContent))"""
FOCUSED = "() => document.activeElement.matches('textarea')"
MOST_TABS = 60


@pytest.fixture(scope="module")
def projects(installation: Installation, browser: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAKE_PROJECTS],
        cwd=ROOT,
        env=installation.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with someone(Person, browser, installation, "admin") as admin:
        for key in PRESETS:
            admin.go(f"/projects/preset-{key}/asking/?preset={key}")
            admin.page.get_by_role("button", name="Save", exact=True).click()
            expect(admin.page.locator(".notice[data-kind=success]")).to_be_visible()


def write_what_is_asked(page: Any) -> None:
    """Tab to each text that must be given, and write something."""
    for _ in range(page.locator("#desk-form textarea[required]").count()):
        for _ in range(MOST_TABS):
            page.keyboard.press("Tab")
            if page.evaluate(FOCUSED):
                break
        page.keyboard.type("to get a recipe for trouble")
        page.keyboard.press("Escape")


def press_answers(page: Any) -> int:
    """Answer everything that must be answered with the keys printed on the controls; how many there were."""
    count = 0
    while waiting := page.evaluate(WAITING):
        keys = waiting[0]
        page.keyboard.press(keys[count % len(keys)].lower())
        count += 1
        assert len(page.evaluate(WAITING)) == len(waiting) - 1, f"{keys}: the key answered nothing"
    return count


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_is_answered_by_keyboard_alone(
    projects: None, installation: Installation, browser: Any, preset: str
) -> None:
    with someone(Person, browser, installation, "rater") as rater:
        page = rater.page
        rater.go(f"/projects/preset-{preset}/rate/")
        page.wait_for_load_state("networkidle")
        for number in (1, 2):
            write_what_is_asked(page)
            assert press_answers(page) >= 1
            if number == 1:
                rater.picture(f"preset-{preset}")
            page.keyboard.press("Enter")
            expect(page.locator("#desk-state")).to_have_attribute("data-state", "saved")
            expect(page.locator("#desk-total")).to_have_text(str(number))
        page.keyboard.press("u")
        expect(page.locator("#desk[data-revises]")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#desk[data-revises]")).to_have_count(0)
        assert faults_of(rater, f"/projects/preset-{preset}/rate/") == []
    stored = installation.query(
        "SELECT count(*) FROM rating_judgment JOIN rating_item ON rating_item.id = item_id "
        "JOIN rating_project ON rating_project.id = project_id WHERE slug = ?",
        f"preset-{preset}",
    )
    assert stored == [(2,)]
