"""Choosing a language in a real browser, without a script too, and the pages from right to left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.axe import faults_of
from tests.browser.conftest import Installation
from tests.browser.people import Person, someone

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]

PAGES = ("/", "/projects/demo/", "/projects/demo/rate/", "/preferences/")
CENTRE = "element => { const box = element.getBoundingClientRect(); return box.left + box.width / 2; }"


@pytest.fixture
def rater(installation: Installation, browser: Any) -> Iterator[Person]:
    with someone(Person, browser, installation, "rater") as person:
        yield person


def choose(page: Any, name: str) -> None:
    """By the account menu."""
    page.locator("details.menu > summary").click()
    page.locator(".menu-list").get_by_role("button", name=name, exact=True).click()


def test_a_language_is_chosen_in_the_menu_and_the_page_stays(rater: Person) -> None:
    page = rater.page
    rater.go("/projects/demo/?from=menu")
    choose(page, "العربية")
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect(page.locator("html")).to_have_attribute("lang", "ar")
    assert page.url.endswith("/projects/demo/?from=menu")
    choose(page, "English")
    expect(page.locator("html")).to_have_attribute("dir", "ltr")


def test_from_right_to_left_nothing_is_broken_or_mirrored_twice(rater: Person) -> None:
    rater.go("/")
    choose(rater.page, "العربية")
    assert [fault for path in PAGES for fault in faults_of(rater, path)] == []
    rater.page.set_viewport_size({"width": 1280, "height": 860})
    rater.go("/")
    brand, menu = (rater.page.locator(name).evaluate(CENTRE) for name in (".brand", "details.menu > summary"))
    assert brand > 640 > menu


def test_signed_out_without_a_script(installation: Installation, browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False, locale="en-GB")
    page = context.new_page()
    page.goto(f"{installation.address}/account/login/?next=/preferences/")
    page.get_by_role("button", name="Español", exact=True).click()
    expect(page.locator("html")).to_have_attribute("lang", "es")
    expect(page.get_by_role("button", name="Español", exact=True)).to_have_attribute("aria-current", "true")
    assert page.url.endswith("/account/login/?next=/preferences/")
    context.close()
