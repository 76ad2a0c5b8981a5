"""Fixtures for every room: people with roles in a project, and a database that threads can share."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection, connections
from django.test import Client

from rating.models import Project, Role, User
from tests.factories import make_membership, make_project, make_user

pytest.register_assert_rewrite("tests.hostile")


@pytest.fixture(autouse=True)
def cheap_passwords(settings) -> None:
    """Hash passwords cheaply: they are no secret here."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def project(db) -> Project:
    """A project without members."""
    return make_project(slug="demo", name="Demo", guidelines="Prefer the *kind* response.")


@pytest.fixture
def rater(project: Project) -> User:
    """An account that rates in the project and may do nothing else."""
    return make_membership(project, make_user("rater"), Role.RATER).user


@pytest.fixture
def admin(project: Project) -> User:
    """An account that is the project's admin."""
    return make_membership(project, make_user("admin"), Role.ADMIN).user


@pytest.fixture
def operator(project: Project) -> User:
    """An account that is the project's operator."""
    return make_membership(project, make_user("operator"), Role.OPERATOR).user


@pytest.fixture
def outsider(db) -> User:
    """An account that is a member of another project only."""
    return make_membership(make_project(slug="elsewhere"), make_user("outsider"), Role.ADMIN).user


@pytest.fixture
def people(rater: User, admin: User, operator: User, outsider: User) -> dict[str, User]:
    """The three personas and an outsider, by name."""
    return {"rater": rater, "admin": admin, "operator": operator, "outsider": outsider}


def signed_in(user: User) -> Client:
    """A test client signed in as this account, with CSRF checks off as usual in tests."""
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def rater_client(rater: User) -> Client:
    """A browser in which the rater is signed in."""
    return signed_in(rater)


@pytest.fixture
def admin_client(admin: User) -> Client:
    """A browser in which the project's admin is signed in (no superuser)."""
    return signed_in(admin)


@pytest.fixture
def operator_client(operator: User) -> Client:
    """A browser in which the operator is signed in."""
    return signed_in(operator)


@pytest.fixture
def outsider_client(outsider: User) -> Client:
    """A browser in which somebody from another project is signed in."""
    return signed_in(outsider)


@pytest.fixture
def threaded_db(transactional_db, tmp_path: Path) -> Iterator[None]:
    """A database that several threads write to at once, with real transactions.

    PostgreSQL: the test database. SQLite: a file with the test database's tables, since the in-memory one
    answers "table is locked" to a second thread instead of waiting. Close `connection` in each thread.
    """
    if connection.vendor == "postgresql":
        yield
        return
    path = tmp_path / "threads.sqlite3"
    memory = connections["default"]
    memory.ensure_connection()
    with sqlite3.connect(path) as file:
        memory.connection.backup(file)
    options = connections.settings["default"]
    before, options["NAME"] = options["NAME"], str(path)
    connections["default"] = connections.create_connection("default")
    try:
        yield
    finally:
        connections["default"].close()
        options["NAME"] = before
        connections["default"] = memory
