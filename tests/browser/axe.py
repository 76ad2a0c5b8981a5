"""Every page that the three people can reach by links, by the rules of axe: both themes, narrow and wide."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from tests.browser.people import Person

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
WIDTHS = (360, 2560)
# Downloads and addresses that only answer to a form.
NO_PAGES = re.compile(r"/(export|log|logout)/|/snapshots/\d+/[^?]|^/admin/")
MOST_PAGES = 40
RUN_AXE = """
standards => axe.run(document, {runOnly: standards}).then(found => found.violations.map(
    rule => `${rule.id}: ${rule.nodes.map(node => node.target.join(' ')).slice(0, 3).join(', ')}`
))
"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def walk_links(person: Person) -> list[str]:
    """The pages reachable by links from the first one, one of each kind (numbers aside)."""
    kinds: dict[str, str] = {}
    waiting = ["/"]
    while waiting and len(kinds) < MOST_PAGES:
        path = waiting.pop(0)
        kind = re.sub(r"\d+", "0", path)
        if kind in kinds or NO_PAGES.search(path):
            continue
        kinds[kind] = path
        person.go(path)
        links = person.page.locator("a[href]").evaluate_all("links => links.map(link => link.href)")
        parts = [urlsplit(link) for link in links]
        waiting += [
            part.path + (f"?{part.query}" if part.query else "")
            for part in parts
            if part.netloc == urlsplit(person.installation.address).netloc
        ]
    return list(kinds.values())


def faults_of(person: Person, path: str) -> list[str]:
    """What axe finds on the page in each theme and width, and whether it is wider than the window."""
    found = []
    page = person.page
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 860})
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            person.go(path)
            page.evaluate(AXE.read_text())
            where = f"{path} ({theme}, {width})"
            found += [f"{where}: {fault}" for fault in page.evaluate(RUN_AXE, STANDARDS)]
            if (over := page.evaluate(OVERFLOW)) > 0:
                found.append(f"{where}: {over} pixels wider than the window")
    return found
