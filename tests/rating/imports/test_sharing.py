"""A large import leaves room for raters: short transactions, and pauses while people rate."""

import pytest
from django.db import connection, transaction

from rating.models import Import
from rating.services.imports import Position
from tests.factories import make_assignment, make_item, make_project, make_rater
from tests.rating.imports.files import hh, jsonl, take

PAIRS = jsonl(*[hh(f"Q{n}", "good", "bad") for n in range(50)])


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Ten rows are a batch."""
    monkeypatch.setattr("rating.services.imports.importing.BATCH_ROWS", 10)


@pytest.mark.django_db(transaction=True)
def test_every_batch_is_a_transaction_of_its_own():
    commits = []

    def keep(position: Position, total: int) -> None:
        reached = position.rows
        transaction.on_commit(lambda: commits.append((reached, total)))

    take(make_project(), PAIRS, keep=keep)
    assert commits == [(10, 50), (20, 50), (30, 50), (40, 50), (50, 50)]
    assert not Import.objects.exists()


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL's writers do not wait for each other")
def test_the_lock_is_left_open_while_people_rate(project, monkeypatch):
    pauses = []
    monkeypatch.setattr("rating.services.imports.importing.time.sleep", pauses.append)
    take(project, PAIRS)
    assert pauses == []
    make_assignment(make_item(project), make_rater(project))
    take(make_project(), PAIRS)
    assert len(pauses) == 5
    assert all(pause > 0 for pause in pauses)
