"""Imports that a worker carries out: claimed once, resumed where they were, fenced by the attempt."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.conf import settings as django_settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from rating.models import Import, Judgment, Prompt
from rating.services.imports.jobs import (
    KEPT,
    MAX_ATTEMPTS,
    cancel_import,
    claim_import,
    queue_import,
    receive_upload,
    run_import,
    sweep_uploads,
)
from rating.services.imports.worker import ImportWorker
from tests.factories import make_project, make_user
from tests.rating.imports.files import counts, hh, jsonl

pytestmark = pytest.mark.django_db

PAIRS = jsonl(*[hh(f"Q{n}", "good", "bad") for n in range(50)])


@pytest.fixture(autouse=True)
def home(settings, tmp_path):
    """Uploads lie in a directory of the test's own."""
    settings.HOME = tmp_path
    return tmp_path


def queued(project, data=PAIRS, **options):
    """An import that waits for a worker."""
    row = receive_upload(project, SimpleUploadedFile("rows.jsonl", data), make_user())
    options = {"format_name": "auto", "columns": None, "keep_good": False, "dry_run": False, **options}
    assert queue_import(row, **options)
    return row


def test_a_waiting_import_is_carried_out_and_its_file_removed(project):
    row = queued(project)
    assert not queue_import(row, format_name="auto", columns=None, keep_good=False, dry_run=False)
    call_command("import_worker", once=True)
    row.refresh_from_db()
    assert (row.state, row.report["judgments"], row.format) == ("succeeded", 50, "hh-rlhf")
    assert not row.path.exists()
    assert claim_import("me") is None


def test_a_claim_whose_lease_ran_out_is_taken_over_and_the_first_changes_nothing(project, monkeypatch):
    monkeypatch.setattr("rating.services.imports.importing.BATCH_ROWS", 10)
    row = queued(project)
    first = claim_import("first")
    assert (first.pk, first.attempt) == (row.pk, 1)
    assert claim_import("second") is None
    Import.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    second = claim_import("second")
    assert (second.attempt, second.claimed_by) == (2, "second")
    run_import(first)
    assert not any(counts().values())
    run_import(second)
    row.refresh_from_db()
    assert (row.state, Judgment.objects.count()) == ("succeeded", 50)


def test_a_stopped_worker_gives_the_import_back_and_the_next_goes_on(project, monkeypatch):
    monkeypatch.setattr("rating.services.imports.importing.BATCH_ROWS", 10)
    row = queued(project)
    answers = iter([False, False, False, True])
    run_import(claim_import("first"), lambda: next(answers))
    row.refresh_from_db()
    assert (row.state, row.attempt, Judgment.objects.count()) == ("queued", 0, row.position["rows"])
    assert 0 < Judgment.objects.count() < 50
    run_import(claim_import("second"))
    row.refresh_from_db()
    assert (row.state, row.report["taken"], row.report["judgments"]) == ("succeeded", 50, 50)
    assert row.report["left_out"] == {}


def test_a_running_import_is_cancelled_between_batches(project, monkeypatch):
    monkeypatch.setattr("rating.services.imports.importing.BATCH_ROWS", 10)
    row = queued(project)
    answers = iter([False, False, True])
    run_import(claim_import("first"), lambda: next(answers))
    stored = Judgment.objects.count()
    assert 0 < stored < 50
    again = claim_import("second")
    cancel_import(row)
    run_import(again)
    row.refresh_from_db()
    assert (row.state, row.path.exists(), row.position["rows"]) == ("cancelled", False, stored)
    assert Judgment.objects.count() == stored


def test_what_always_breaks_off_is_not_tried_for_ever(project):
    row = queued(project)
    Import.objects.update(attempt=MAX_ATTEMPTS)
    run_import(claim_import("me"))
    row.refresh_from_db()
    assert row.state == "failed"
    assert "5 times" in row.errors[0]


def test_a_file_that_is_gone_fails_in_words(project):
    row = queued(project)
    row.path.unlink()
    run_import(claim_import("me"))
    row.refresh_from_db()
    assert row.state == "failed"
    assert "No such file" in row.errors[0]


def test_a_refused_file_leaves_nothing_and_may_be_tried_again(project):
    row = queued(project, PAIRS + b"{\n")
    run_import(claim_import("me"))
    row.refresh_from_db()
    assert (row.state, counts()["Prompt"]) == ("refused", 0)
    assert row.errors[0].startswith("line 51: is not valid JSON")
    assert queue_import(row, format_name="hh-rlhf", columns=None, keep_good=True, dry_run=False)
    run_import(claim_import("me"))
    row.refresh_from_db()
    assert (row.state, Judgment.objects.count()) == ("succeeded", 50)
    assert row.refused_path.read_bytes().count(b"\n") == 1


def test_files_that_nobody_wants_are_swept(project):
    row = receive_upload(project, SimpleUploadedFile("rows.jsonl", PAIRS), make_user())
    assert sweep_uploads() == 0
    Import.objects.update(created_at=timezone.now() - KEPT - timedelta(minutes=1))
    assert sweep_uploads() == 1
    row.refresh_from_db()
    assert (row.state, row.path.exists()) == ("cancelled", False)


def test_two_workers_never_take_the_same_import(threaded_db):
    project = make_project()
    rows = [queued(project, jsonl({"prompt": f"Q{n}"})) for n in range(6)]

    def claim_all(name: str) -> list[int]:
        try:
            found = []
            while (row := claim_import(name)) is not None:
                found.append(row.pk)
            return found
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        told = [pk for found in pool.map(claim_all, "abc") for pk in found]
    assert sorted(told) == [row.pk for row in rows]


def test_the_worker_refuses_a_wrong_pace():
    with pytest.raises(CommandError, match="--poll: use a number"):
        call_command("import_worker", poll=0.0)


def test_a_worker_that_is_stopped_ends(project):
    worker = ImportWorker(poll_seconds=0.01)
    worker.stop.set()
    queued(project)
    worker.work()
    assert Import.objects.get().state == "queued"


@pytest.mark.skipif(connection.vendor != "sqlite", reason="makes a database file of its own")
def test_a_worker_that_is_killed_loses_and_doubles_nothing(tmp_path):
    """kill -9 in the middle of storing; the next worker brings in exactly the rest."""
    environment = {
        **os.environ,
        "RATCHET_DEMO": "1",
        "RATCHET_HOME": str(tmp_path),
        "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    environment.pop("PYTEST_CURRENT_TEST", None)
    (tmp_path / "rows.jsonl").write_bytes(jsonl(*[hh(f"Q{n}", "good", "bad") for n in range(6000)]))

    def run(code: str) -> str:
        begin = "import django, time; django.setup(); from rating.models import *; "
        begin += "from rating.services.imports import importing, jobs, worker; importing.BATCH_ROWS = 100; "
        done = subprocess.run(
            [sys.executable, "-c", begin + code],
            cwd=django_settings.BASE_DIR, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    run("from django.core.management import call_command; call_command('migrate', verbosity=0)")
    run(
        "from django.core.files.uploadedfile import SimpleUploadedFile as F; "
        f"p = Project.objects.create(slug='p', name='P'); u = User.objects.create(username='u'); "
        f"data = open({str(tmp_path / 'rows.jsonl')!r}, 'rb').read(); "
        "r = jobs.receive_upload(p, F('rows.jsonl', data), u); "
        "jobs.queue_import(r, format_name='auto', columns=None, keep_good=False, dry_run=False)"
    )
    code = "import django; django.setup(); from rating.services.imports import importing, worker; "
    code += "importing.BATCH_ROWS = 100; worker.ImportWorker().work(once=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=django_settings.BASE_DIR, env=environment, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and int(run("print(Judgment.objects.count())")) == 0:
            assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    reached = int(run("print(Judgment.objects.count())"))
    assert 0 < reached <= 6000
    run(
        "from django.utils import timezone; Import.objects.update(lease_until=timezone.now()); "
        "worker.ImportWorker().work(once=True)"
    )
    told = run(
        "r = Import.objects.get(); print(r.state, r.report['taken'], Judgment.objects.count(), r.attempt)"
    )
    assert told in ("succeeded 6000 6000 2", "succeeded 6000 6000 1")


def test_prompts_of_an_import_name_the_file(project):
    queued(project, jsonl({"prompt": "Q"}))
    ImportWorker().work(once=True)
    assert Prompt.objects.get().source == "rows.jsonl"
