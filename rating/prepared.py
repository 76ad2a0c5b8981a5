"""Queries that are put into SQL once and then only filled in, for the few that every answer of a rater needs.

Django builds the SQL of a QuerySet anew each time, which takes several times as long as the database does to
answer. Here the QuerySet, with a Slot where a value belongs, stays the one definition of what is read; its
SQL is kept for each kind of database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.db import connection, models
from django.db.models.expressions import Expression
from django.db.models.query import ModelIterable, get_related_populators
from django.db.models.sql.subqueries import InsertQuery, UpdateQuery

Row = TypeVar("Row")

inserts: dict[tuple[str, type[models.Model]], str] = {}


class Slot(Expression):
    """The place of a value that is named when the query is called; `field` says how it is sent."""

    def __init__(self, name: str, field: models.Field[Any, Any]) -> None:
        super().__init__(output_field=field)
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        return "%s", [self]

    def value(self, values: dict[str, object]) -> object:
        """What the database is sent for it."""
        return self.output_field.get_db_prep_value(values[self.name], connection)


def whole(name: str) -> Slot:
    """A slot for an id or another whole number."""
    return Slot(name, models.BigIntegerField())


def moment(name: str) -> Slot:
    """A slot for a point in time."""
    return Slot(name, models.DateTimeField())


@dataclass(frozen=True)
class Statement:
    """SQL with its parameters, some of them slots, and how a row becomes an object."""

    sql: str
    parameters: tuple[object, ...]
    read: Callable[[Iterable[Any]], list[Any]]

    def fill(self, values: dict[str, object]) -> list[Any]:
        return [one.value(values) if isinstance(one, Slot) else one for one in self.parameters]


class Prepared(Generic[Row]):
    """`Prepared(lambda: Item.objects.filter(pk=whole("item")))(item=7)`: a list of rows.

    Model objects come with what `select_related` names; `values_list` gives tuples. Nothing may depend on
    values but through slots.
    """

    def __init__(self, build: Callable[[], models.QuerySet[Any, Row]]) -> None:
        self.build = build
        self.statements: dict[str, Statement] = {}

    def __call__(self, **values: object) -> list[Row]:
        statement = self.statements.get(connection.vendor)
        if statement is None:
            statement = self.statements[connection.vendor] = compile_query(self.build())
        with open_cursor() as cursor:
            cursor.execute(statement.sql, statement.fill(values))
            return statement.read(cursor.fetchall())

    def first(self, **values: object) -> Row | None:
        """The first row, or None."""
        return next(iter(self(**values)), None)


class PreparedUpdate:
    """An UPDATE: `new_values` are the fields' new values, for the rows of the QuerySet."""

    def __init__(
        self, build: Callable[[], models.QuerySet[Any]], new_values: Callable[[], dict[str, Any]]
    ) -> None:
        self.build = build
        self.new_values = new_values
        self.statements: dict[str, Statement] = {}

    def __call__(self, **values: object) -> int:
        """The number of rows that were changed."""
        statement = self.statements.get(connection.vendor)
        if statement is None:
            query: Any = self.build().query.chain(UpdateQuery)
            query.add_update_values(self.new_values())
            sql, parameters = query.get_compiler(connection=connection).as_sql()
            statement = self.statements[connection.vendor] = Statement(sql, tuple(parameters), list)
        with open_cursor() as cursor:
            cursor.execute(statement.sql, statement.fill(values))
            return int(cursor.rowcount)


def open_cursor() -> Any:
    """A cursor; on PostgreSQL one that sends values apart from the SQL, so that the server plans it once.

    psycopg prepares there what it has seen a few times.
    """
    if connection.vendor != "postgresql":
        return connection.cursor()
    from django.db.backends.postgresql.base import ServerBindingCursor

    connection.ensure_connection()
    raw: Any = connection
    return raw._prepare_cursor(ServerBindingCursor(raw.connection))  # type: ignore[call-arg]  # psycopg's own


def compile_query(rows: models.QuerySet[Any, Any]) -> Statement:
    """The SQL of a SELECT, and what makes objects of its rows, as Django's ModelIterable does."""
    compiler = rows.query.get_compiler(connection=connection)
    sql, parameters = compiler.as_sql()
    converters = compiler.get_converters([column[0] for column in compiler.select])

    def convert(rows: Iterable[Any]) -> Iterable[Any]:
        return compiler.apply_converters(rows, converters) if converters else rows

    if not issubclass(rows._iterable_class, ModelIterable):
        return Statement(sql, tuple(parameters), lambda rows: [tuple(row) for row in convert(rows)])
    described = compiler.klass_info
    model, places = described["model"], described["select_fields"]
    start, stop = places[0], places[-1] + 1
    names = [column[0].target.attname for column in compiler.select[start:stop]]
    populators = get_related_populators(described, compiler.select, connection.alias)  # type: ignore[call-arg]  # of Django 6

    def read(rows: Iterable[Any]) -> list[Any]:
        found = []
        for row in convert(rows):
            instance = model.from_db(connection.alias, names, row[start:stop])
            for populator in populators:
                populator.populate(row, instance)
            found.append(instance)
        return found

    return Statement(sql, tuple(parameters), read)


def insert_row(instance: models.Model) -> None:
    """Insert the row and set its key: what `save(force_insert=True)` does for a model without parents."""
    model = type(instance)
    fields = model._meta.local_concrete_fields
    sql = inserts.get((connection.vendor, model))
    if sql is None:
        query = InsertQuery(model)
        query.insert_values([field for field in fields if not field.primary_key], [instance], raw=False)
        compiler = query.get_compiler(connection=connection)
        compiler.returning_fields = [model._meta.pk]
        sql = inserts[connection.vendor, model] = compiler.as_sql()[0][0]
    sent = [
        field.get_db_prep_save(field.pre_save(instance, add=True), connection)
        for field in fields
        if not field.primary_key
    ]
    with open_cursor() as cursor:
        cursor.execute(sql, sent)
        instance.pk = cursor.fetchone()[0]
    instance._state.adding, instance._state.db = False, connection.alias
