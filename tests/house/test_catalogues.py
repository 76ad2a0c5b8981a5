"""The catalogues of locale/: complete, of the same shape as the English, compiled, and of today's words."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import polib
import pytest
from django.conf import settings
from django.utils.translation import to_locale

ROOT = settings.BASE_DIR
CATALOGUES = sorted((ROOT / "locale").glob("*/LC_MESSAGES/django.po"))
WITH_WORDS = ("config", "rating", "training", "templates")
PLACEHOLDER = re.compile(r"%\((\w+)\)[sd]|\{(\w+)\}")
TAG = re.compile(r"</?[a-z][^<>]*>")

Key = tuple[str | None, str, str]


def language(path: Path) -> str:
    return path.parent.parent.name


def key_of(entry: polib.POEntry | polib.MOEntry) -> Key:
    return entry.msgctxt or None, entry.msgid, entry.msgid_plural or ""


def forms_of(entry: polib.POEntry | polib.MOEntry) -> list[str]:
    """The translations: one, or one for each plural form."""
    return list(entry.msgstr_plural.values()) if entry.msgid_plural else [entry.msgstr]


def placeholders(text: str) -> set[str]:
    return {one or other for one, other in PLACEHOLDER.findall(text)}


def tags(text: str) -> Counter[str]:
    return Counter(TAG.findall(text))


class Anything(dict):
    """Has a value for every name."""

    def __missing__(self, _name: str) -> int:
        return 1


@pytest.fixture(params=CATALOGUES, ids=language)
def path(request) -> Path:
    return request.param


@pytest.fixture
def entries(path) -> list[polib.POEntry]:
    return [entry for entry in polib.pofile(path, check_for_duplicates=True) if not entry.obsolete]


def test_every_entry_is_translated(entries):
    assert [entry.msgid for entry in entries if not all(forms_of(entry))] == []
    assert [entry.msgid for entry in entries if entry.fuzzy] == []


def test_the_language_is_offered(path):
    assert language(path) in {to_locale(code) for code, _name in settings.LANGUAGES}


def test_the_head_is_filled_in(path):
    catalogue = polib.pofile(path)
    assert not catalogue.metadata_is_fuzzy, "Take the mark `#, fuzzy` away from the head of the file."
    assert catalogue.metadata["Content-Type"] == "text/plain; charset=UTF-8"


def test_plural_forms_are_all_there(path, entries):
    header = polib.pofile(path).metadata["Plural-Forms"]
    wanted = int(re.search(r"nplurals=(\d+)", header).group(1))
    for entry in entries:
        if entry.msgid_plural:
            assert sorted(entry.msgstr_plural) == list(range(wanted)), entry.msgid


def test_placeholders_are_those_of_the_english(entries):
    for entry in entries:
        english = [entry.msgid, *([entry.msgid_plural] if entry.msgid_plural else [])]
        allowed = set().union(*(placeholders(text) for text in english))
        for text in forms_of(entry):
            assert placeholders(text) <= allowed, f"{text!r} has a placeholder that {entry.msgid!r} has not"
            # One and two of a thing may be told without their number.
            if not entry.msgid_plural:
                assert placeholders(text) == allowed, f"{text!r} lacks a placeholder of {entry.msgid!r}"
        assert any(placeholders(text) == allowed for text in forms_of(entry)), entry.msgid


def test_sentences_with_values_take_them(entries):
    for entry in entries:
        if "python-format" in entry.flags:
            for text in forms_of(entry):
                assert isinstance(text % Anything(), str), text


def test_tags_are_those_of_the_english(entries):
    for entry in entries:
        for text in forms_of(entry):
            assert tags(text) in [tags(entry.msgid), tags(entry.msgid_plural or entry.msgid)], text


def test_white_space_at_the_ends_is_that_of_the_english(entries):
    for entry in entries:
        for text in forms_of(entry):
            assert (text != text.strip()) == (entry.msgid != entry.msgid.strip()), repr(text)


def test_what_is_compiled_is_what_is_written(path, entries):
    written = {key_of(entry): forms_of(entry) for entry in entries}
    compiled = {key_of(entry): forms_of(entry) for entry in polib.mofile(path.with_suffix(".mo"))}
    assert compiled == written, "Run `make messages`: the .mo file is older than the .po file."


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> set[Key]:
    """The words of the pages as they are now, collected in a copy: Django writes beside the templates."""
    missing = [name for name in ("xgettext", "msguniq", "msgmerge", "msgattrib") if not shutil.which(name)]
    if missing:
        pytest.skip(f"GNU gettext is not installed (no {missing[0]}); Debian: apt-get install gettext")
    copy = tmp_path_factory.mktemp("words")
    shutil.copy(ROOT / "manage.py", copy)
    for name in WITH_WORDS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "manage.py", "makemessages", "-l", "es", "--keep-pot", "--no-wrap"],
        cwd=copy,
        env={
            "SECRET_KEY": "x" * 60,
            "RATCHET_HOME": str(copy / "var"),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return {key_of(entry) for entry in polib.pofile(copy / "locale" / "django.pot")}


def test_the_words_of_the_pages_can_be_collected(words):
    assert (None, "Save and go on", "") in words
    assert ("verb", "Rate", "") in words
    assert (None, "%(number)d response", "%(number)d responses") in words


def test_the_catalogue_has_the_words_of_today(entries, words):
    written = {key_of(entry) for entry in entries}
    assert sorted(str(key) for key in words - written) == [], "Run `make messages` and translate these."
    assert sorted(str(key) for key in written - words) == [], (
        "Run `make messages`: these are no longer there."
    )


def test_every_language_that_can_be_chosen_is_shipped():
    shipped = {language(path) for path in CATALOGUES}
    assert shipped == {to_locale(code) for code, _ in settings.LANGUAGES} - {"en"}
