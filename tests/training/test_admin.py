"""The administration's pages: readable, and not to be changed where they are records."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tests.factories import make_model_version, make_user
from tests.training.test_evaluations import compare
from training.models import RunEvent
from training.services.promotions import promote_version
from training.services.runs import queue_run
from training.services.triggers import save_trigger

TABLES = [
    "trainingrun",
    "runevent",
    "datasetsnapshot",
    "snapshotjudgment",
    "trigger",
    "evaluation",
    "evaluationitem",
    "promotion",
]


@pytest.fixture
def browser(db) -> Client:
    """A browser in which a superuser is signed in."""
    client = Client()
    client.force_login(make_user("root", is_staff=True, is_superuser=True))
    return client


@pytest.fixture
def turned(project, present, snapshot):
    """A function that adds a row or more to every table."""

    def turn(number: int) -> None:
        run = queue_run(project, "dpo", {}, snapshot=snapshot)
        RunEvent.objects.create(run=run, attempt=1, kind="note", happened_at=timezone.now())
        save_trigger(project, name=f"Trigger {number}", every_judgments=5, plan=[{"recipe": "dpo"}])
        version = make_model_version(project)
        evaluation = compare(project, version, present, ["win"])
        promote_version(project, version, user=None, evaluation=evaluation, collect=0)

    return turn


@pytest.mark.parametrize("table", TABLES)
def test_lists_take_the_same_queries_for_any_number_of_rows(browser, turned, table):
    turned(1)
    address = reverse(f"admin:training_{table}_changelist")
    browser.get(address)
    with CaptureQueriesContext(connection) as first:
        assert browser.get(address).status_code == 200
    turned(2)
    turned(3)
    with CaptureQueriesContext(connection) as then:
        assert browser.get(address).status_code == 200
    assert len(then) == len(first)


@pytest.mark.parametrize("table", TABLES)
def test_pages_show_a_row_and_records_cannot_be_changed(browser, turned, table):
    turned(1)
    row = browser.get(reverse(f"admin:training_{table}_changelist")).context["cl"].queryset.first()
    address = reverse(f"admin:training_{table}_change", args=[row.pk])
    assert browser.get(address).status_code == 200
    assert browser.get(reverse(f"admin:training_{table}_add")).status_code == 403
    if table != "trigger":
        assert browser.post(address, {}).status_code == 403
        assert browser.post(reverse(f"admin:training_{table}_delete", args=[row.pk])).status_code == 403
