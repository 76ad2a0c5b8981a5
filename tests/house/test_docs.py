"""What the docs name exists."""

import re
import subprocess
import sys

import pytest
from django.conf import settings

ROOT = settings.BASE_DIR
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def named(page):
    return page.relative_to(ROOT).as_posix()


def anchors(text):
    """The anchors that headings make, as on code hosts."""
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_internal_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.is_relative_to(ROOT), f"{target} leads out of the project"
        assert found.exists(), f"{target} is not there"
        assert not anchor or anchor in anchors(found.read_text()), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_named_commands_exist(page):
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE):
        assert target in targets, f"make {target}"
    for command in set(re.findall(r"manage\.py ([a-z_]+)", text)):
        assert command in known_commands(), f"manage.py {command}"


def known_commands():
    from django.core.management import get_commands

    return {*get_commands(), "help"}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_named_files_exist(page):
    rooms = r"(?:config|rating|training|templates|static|tests|benchmarks|docs)"
    for path in re.findall(rf"`({rooms}/[\w./-]+\.\w+)`", page.read_text()):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_machine_is_named(page):
    assert not re.findall(r"(/work/|/home/\w|/root/|/tmp/\w|file://)", page.read_text())


def test_decisions_are_numbered_without_gaps_and_listed():
    records = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    numbers = [int(record.name[:4]) for record in records]
    assert numbers == list(range(1, len(numbers) + 1))
    index = (ROOT / "docs/decisions/README.md").read_text()
    for record in records:
        assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", record.name)
        assert f"]({record.name})" in index, f"{record.name} is missing from the list"
        first = record.read_text().splitlines()[0]
        assert first.startswith(f"# {int(record.name[:4])}. "), f"{record.name} begins {first!r}"


def test_glossary_has_every_word():
    glossary = (ROOT / "docs/glossary.md").read_text()
    words = ["Project", "Prompt", "Completion", "ModelVersion", "Item", "Assignment", "Judgment", "Rater"]
    words += ["DatasetSnapshot", "TrainingRun", "Trigger", "Evaluation", "Promotion"]
    for word in words:
        assert f"| {word} |" in glossary, word


def test_help_lists_every_command_of_the_makefile():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in phony.group(1).split():
        assert f"make {target} " in shown


def test_manage_py_lists_our_commands():
    done = subprocess.run(
        [sys.executable, "manage.py", "help", "--commands"],
        cwd=ROOT,
        env={"SECRET_KEY": "x" * 60, "RATCHET_HOME": str(ROOT / "var"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    ours = {"up", "seed_demo", "trainer", "import_data", "freeze_snapshot", "export_data"}
    assert ours <= set(done.stdout.split())
