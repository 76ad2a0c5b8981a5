"""An admin imports files in a real browser; the worker that `manage.py up` started carries them out."""

import json

import pytest

from tests.browser.axe import faults_of
from tests.browser.people import Person

pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

PAGE = "/projects/demo/import/"


@pytest.fixture(scope="module")
def admin(browser, installation):
    """The demo's admin at the browser."""
    person = Person(browser, installation, "admin")
    yield person
    person.context.close()


def upload(admin, name: str, data: bytes) -> None:
    """Choose a file and look at it."""
    admin.go(PAGE)
    admin.page.set_input_files("input[type=file]", {"name": name, "mimeType": "text/plain", "buffer": data})
    admin.page.click("text=Upload and look at it")
    admin.page.wait_for_selector("#how")


def test_a_file_is_looked_at_imported_and_watched(admin, installation):
    rows = [
        {"prompt": f"What is **{n}**?", "chosen": f"Kind answer {n}", "rejected": f"Curt {n}"}
        for n in range(3000)
    ]
    rows[2999]["prompt"] = 5
    upload(admin, "pairs.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    text = admin.text()
    assert "Recognised by its first rows: trl-preference" in text
    assert "Kind answer 2" in text
    assert admin.page.locator("main .turn strong", has_text="1").count() == 1
    assert not faults_of(admin, admin.page.url.removeprefix(installation.address))
    admin.page.click("main button:has-text('Import')")
    admin.page.wait_for_selector("text=Nothing was imported.", timeout=60_000)
    assert "line 3,000: prompt: expected a text" in admin.text()
    admin.page.click("text=Look at the file again")
    admin.page.check("input[name=keep_good]")
    admin.page.click("main button:has-text('Import')")
    admin.page.wait_for_selector("text=What went in", timeout=60_000)
    assert "3,000 rows: 2,999 taken, 1 left out." in admin.text()
    with admin.page.expect_download() as download:
        admin.page.click("text=Download the refused rows")
    with open(download.value.path(), encoding="utf-8") as file:
        assert json.loads(file.read())["line"] == 3000
    assert not faults_of(admin, admin.page.url.removeprefix(installation.address))
    assert installation.query("SELECT count(*) FROM rating_prompt WHERE source = 'pairs.jsonl'") == [(2999,)]


def test_the_columns_of_a_table_are_named_by_hand(admin, installation):
    upload(admin, "table.csv", b"frage,eins,zwei\nWarum?,Darum.,So.\nWie?,Genau.,Anders.\n")
    assert "in no format that is known" in admin.text()
    assert not faults_of(admin, admin.page.url.removeprefix(installation.address))
    admin.page.select_option("select[name=prompt]", "frage")
    admin.page.check("input[name=responses][value=eins]")
    admin.page.check("input[name=responses][value=zwei]")
    admin.page.click("text=Show the first rows again")
    admin.page.wait_for_selector("text=Darum.")
    admin.page.click("main button:has-text('Import')")
    admin.page.wait_for_selector("text=What went in", timeout=60_000)
    assert "2 rows: 2 taken, 0 left out." in admin.text()
    admin.go(PAGE)
    assert "table.csv" in admin.text()
    assert not faults_of(admin, PAGE)
    assert not admin.errors
