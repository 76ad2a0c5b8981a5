import threading

import pytest
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

from config.settings import database

pytestmark = pytest.mark.django_db(databases=[])


@pytest.fixture
def connect(tmp_path, monkeypatch):
    """Connections to a database file of their own, as the product opens it."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/queue.sqlite3")
    settings = database() | {"ATOMIC_REQUESTS": False, "AUTOCOMMIT": True, "TIME_ZONE": None}
    settings |= {"CONN_HEALTH_CHECKS": False, "TEST": {}, "USER": "", "PASSWORD": "", "HOST": "", "PORT": ""}
    backend = load_backend(settings["ENGINE"]).DatabaseWrapper
    made: list[BaseDatabaseWrapper] = []

    def make(alias):
        made.append(backend(settings, alias))
        made[-1].inc_thread_sharing()
        return made[-1]

    yield make
    for connection in made:
        connection.close()


def add_one(connection):
    connection.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
    with connection.cursor() as cursor:
        (value,) = cursor.execute("SELECT value FROM counter").fetchone()
        cursor.execute("UPDATE counter SET value = %s", [value + 1])
    connection.commit()
    connection.set_autocommit(True)


def test_writers_wait_in_line_and_lose_nothing(connect, django_db_blocker):
    with django_db_blocker.unblock():
        first = connect("first")
        with first.cursor() as cursor:
            cursor.execute("CREATE TABLE counter (value integer)")
            cursor.execute("INSERT INTO counter VALUES (0)")

        def work(connection):
            for _ in range(50):
                add_one(connection)

        threads = [threading.Thread(target=work, args=(connect(str(n)),)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        with first.cursor() as cursor:
            assert cursor.execute("SELECT value FROM counter").fetchone() == (400,)


@pytest.mark.parametrize("ending", ["commit", "rollback", "close"])
def test_the_next_in_line_goes_on_when_a_transaction_ends(connect, django_db_blocker, ending):
    with django_db_blocker.unblock():
        first, second = connect("first"), connect("second")
        with first.cursor() as cursor:
            cursor.execute("CREATE TABLE counter (value integer)")
            cursor.execute("INSERT INTO counter VALUES (0)")
        first.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
        with first.cursor() as cursor:
            cursor.execute("UPDATE counter SET value = 10")
        waiting = threading.Thread(target=add_one, args=(second,))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        getattr(first, ending)()
        waiting.join(30)
        assert not waiting.is_alive()
        with second.cursor() as cursor:
            expected = 11 if ending == "commit" else 1
            assert cursor.execute("SELECT value FROM counter").fetchone() == (expected,)
