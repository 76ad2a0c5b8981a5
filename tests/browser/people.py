"""The people at the browser: what the rater and the operator do, by keyboard and by the words on the page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.browser.conftest import ROOT, Installation
from training.demo.manners import Manner, classify_manner

IMAGES = ROOT / "docs" / "images"
TAKES_SCREENSHOTS = os.environ.get("RATCHET_SCREENSHOTS") == "1"
HAS_MOVED_ON = "before => document.querySelector('#desk-form')?.getAttribute('action') !== before"
VIEWPORT = {"width": 1280, "height": 860}


class Person:
    """Somebody signed in, with a browser window of their own."""

    def __init__(self, browser: Any, installation: Installation, name: str) -> None:
        self.installation = installation
        self.context = browser.new_context(viewport=VIEWPORT, reduced_motion="reduce", color_scheme="light")
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        self.go("/")
        self.page.fill("input[name=login]", name)
        self.page.fill("input[name=password]", installation.password)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url(f"{installation.address}/")

    def go(self, path: str) -> None:
        response = self.page.goto(f"{self.installation.address}{path}")
        assert response is not None
        assert response.status == 200, f"{path}: {response.status}"

    def text(self) -> str:
        return str(self.page.locator("main").inner_text())

    def picture(self, name: str) -> None:
        """A picture for the docs, when they are to be taken."""
        if TAKES_SCREENSHOTS:
            IMAGES.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=IMAGES / f"{name}.png", caret="initial")


class Rater(Person):
    """Likes warm answers, and never touches the mouse."""

    def open_desk(self) -> None:
        self.go("/projects/demo/rate/")
        self.page.wait_for_selector("#desk-form")

    def shown(self) -> list[str]:
        return list(self.page.locator("article.response .prose").all_inner_texts())

    def taste(self) -> str:
        """The key for what is shown."""
        warm = [classify_manner(text) is Manner.WARM for text in self.shown()]
        if len(warm) == 1:
            return "5" if warm[0] else "1"
        if warm[0] != warm[1]:
            return "1" if warm[0] else "2"
        return "3" if warm[0] else "4"

    def press_answer(self) -> None:
        self.page.keyboard.press(self.taste())

    def rate(self, count: int) -> None:
        """Judge so many items by two keys each; every one is waited for until the server has said Saved."""
        for _ in range(count):
            before = self.page.get_attribute("#desk-form", "action")
            self.press_answer()
            self.page.keyboard.press("Enter")
            self.page.wait_for_function(
                "before => document.querySelector('#desk-form')?.getAttribute('action') !== before",
                arg=before,
            )
            self.page.wait_for_selector("#desk-state[data-state=saved]")


@contextmanager
def someone(kind: type[Person], browser: Any, installation: Installation, name: str) -> Iterator[Any]:
    """A person who is there for a while; their browser may not have complained."""
    person = kind(browser, installation, name)
    yield person
    person.context.close()
    assert not person.errors, person.errors
