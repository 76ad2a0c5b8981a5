"""A large file is checked by two processes, and nothing tells the difference."""

import json

import pytest

from rating.models import Item, Judgment
from rating.services.imports import ImportFailed, import_file
from rating.services.imports.checking import Helper
from tests.factories import make_project
from tests.rating.imports.files import counts, hh, jsonl, take, zipped

pytestmark = pytest.mark.django_db

ROWS = [hh(f"Question {n % 2300}", f"good {n}", f"I am ChatGPT {n}") for n in range(2500)]


@pytest.fixture(autouse=True)
def helped(monkeypatch):
    """Every file counts as a large one; says how often a second process was started."""
    started = []
    original = Helper.__init__

    def note(self, *args):
        started.append(self)
        original(self, *args)

    monkeypatch.setattr("rating.services.imports.checking.MIN_BYTES", 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(Helper, "__init__", note)
    return started


def take_path(project, tmp_path, data, **options):
    path = tmp_path / "rows"
    path.write_bytes(data)
    with path.open("rb") as file:
        return import_file(project, file, **options)


@pytest.mark.parametrize("kind", ["jsonl", "gzip", "json"])
def test_two_processes_see_what_one_sees(project, tmp_path, helped, kind):
    data = json.dumps(ROWS).encode() if kind == "json" else jsonl(*ROWS)
    report = take_path(project, tmp_path, zipped(data) if kind == "gzip" else data)
    assert len(helped) == 1
    alone = make_project()
    assert take(alone, data).to_json() == report.to_json()
    assert len(helped) == 1
    assert (report.rows, report.taken) == (2500, 2500)
    assert Judgment.objects.filter(item__project=project).count() == 2500
    asked = [f"Question {n}" for n in range(2300)]
    for one in (project, alone):
        items = Item.objects.filter(project=one).select_related("prompt").order_by("pk")[:2300]
        assert [item.prompt.messages[0]["content"] for item in items] == asked


def test_the_faults_of_both_parts_are_listed_in_order(project, tmp_path, helped):
    rows = [*ROWS]
    for place in (10, 1100, 2100):
        rows[place] = {"chosen": 1, "rejected": 2}
    with pytest.raises(ImportFailed) as failed:
        take_path(project, tmp_path, jsonl(*rows))
    assert [error.line for error in failed.value.errors] == [11, 1101, 2101]
    assert len(helped) == 1
    assert not any(counts().values())


def test_a_file_that_is_cut_off_is_named_once(project, tmp_path):
    with pytest.raises(ImportFailed) as failed:
        take_path(project, tmp_path, zipped(jsonl(*ROWS))[:-20])
    assert len(failed.value.errors) == 1
    assert not any(counts().values())


def test_a_helper_that_is_killed_is_told(project, tmp_path, monkeypatch):
    monkeypatch.setattr(Helper, "work", lambda *args: 1 / 0)
    with pytest.raises(OSError, match="import it again"):
        take_path(project, tmp_path, jsonl(*ROWS))
    assert not any(counts().values())


def test_who_stops_the_first_process_stops_the_second(project, tmp_path, helped):
    def stop(position: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_path(project, tmp_path, jsonl(*ROWS), progress=stop)
    assert helped[0].pid == 0
