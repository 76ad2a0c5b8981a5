"""The OpenAPI document is whole, and whatever it allows or forbids, the server answers without breaking."""

import json
from typing import Any

import pytest
import schemathesis
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from rating.models import Role, User
from tests.api import program
from tests.factories import make_item, make_judgment, make_membership, make_user
from tests.house.test_routes import operations

DOCUMENT: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
DOCUMENT = json.loads(json.dumps(DOCUMENT, default=str))
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
LABELS = sorted(one.ok().label for one in SCHEMA.get_all_operations())
FEW, MANY = 4, 25
SEED = 20261120


def found(label: str) -> Any:
    return next(one.ok() for one in SCHEMA.get_all_operations() if one.ok().label == label)


@pytest.fixture
def programs(project, people, settings, tmp_path) -> dict[str, Client]:
    """A program of each persona, of an outsider and of a superuser, and a stranger; a project with rows."""
    settings.HOME = tmp_path
    settings.SNAPSHOTS_DIR, settings.RUNS_DIR = tmp_path / "snapshots", tmp_path / "runs"
    settings.API_CALLS_A_MINUTE = 1_000_000
    for _ in range(3):
        make_judgment(make_item(project))
    everything: User = make_user("everything", is_superuser=True)
    make_membership(project, everything, Role.RATER)
    clients = {name: program(user) for name, user in people.items()} | {
        "everything": program(everything),
        "stranger": Client(),
    }
    for client in clients.values():
        client.raise_request_exception = False
    return clients


def ask(client: Client, case: Any, here: bool) -> HttpResponse:
    """Send a generated case; `here`: to the project that there is."""
    if here:
        named = {"slug": "demo", "id": 1, "number": 1}
        case.path_parameters = {name: named.get(name, value) for name, value in case.path_parameters.items()}
    query = {name: value for name, value in dict(case.query or {}).items() if value is not None}
    options: dict[str, Any] = {"query_params": {name: clean(value) for name, value in query.items()}}
    if case.media_type == "multipart/form-data" and isinstance(case.body, dict):
        form = {name: value for name, value in case.body.items() if value is not None}
        if "file" in form:
            form["file"] = SimpleUploadedFile("rows.jsonl", clean(form["file"]).encode())
        data = {name: value if name == "file" else clean(value) for name, value in form.items()}
        return getattr(client, case.method.lower())(case.formatted_path, data, **options)
    if case.media_type:
        body = json.dumps(case.body, default=str).encode()
        return client.generic(case.method, case.formatted_path, body, case.media_type, **options)
    return client.generic(case.method, case.formatted_path, **options)


def clean(value: Any) -> str:
    """A value as a query string or a form carries it."""
    return str(value).encode("utf-8", "replace").decode()


def check(answer: HttpResponse, label: str) -> None:
    """No fault of the server; a status that the document names; every error a problem."""
    assert answer.status_code < 500, answer.content[:500]
    told = DOCUMENT["paths"][label.split(" ")[1]][label.split(" ", maxsplit=1)[0].lower()]["responses"]
    # A generated slug may be no slug at all: then there is no such address, and no method is wrong for it.
    assert str(answer.status_code) in set(told) | {"404", "400"}, (answer.status_code, answer.content[:300])
    if answer.status_code >= 400:
        where = (answer.request["PATH_INFO"], answer.request["QUERY_STRING"], answer.status_code)
        assert answer.headers["Content-Type"] == "application/problem+json", where
        assert json.loads(answer.content)["status"] == answer.status_code


def play(label: str, programs: dict[str, Client], examples: int) -> None:
    """Ask with allowed and forbidden values, as everybody."""
    modes = [found(label).as_strategy(generation_mode=mode) for mode in GenerationMode]
    quiet = [HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.large_base_example]

    @seed(SEED)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=quiet)
    @given(case=st.one_of(modes), here=st.sampled_from([True, True, False]))
    def generated(case: Any, here: bool) -> None:
        for client in programs.values():
            check(ask(client, case, here), label)

    generated()


@pytest.mark.django_db
@pytest.mark.parametrize("label", LABELS)
def test_whatever_is_sent_nothing_breaks(label, programs):
    play(label, programs, FEW)


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("label", LABELS)
def test_much_of_whatever_is_sent_breaks_nothing(label, programs):
    play(label, programs, MANY)


def test_every_operation_is_in_the_document():
    assert len(LABELS) == len(operations())


@pytest.mark.django_db
def test_the_document_is_served_as_json_to_anybody():
    answer = Client().get("/api/schema/")
    assert answer.status_code == 200
    assert "json" in answer.headers["Content-Type"]
    told = answer.json()
    assert told["openapi"].startswith("3.")
    assert told["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert told["paths"] == DOCUMENT["paths"]


def test_every_operation_says_what_it_is_and_which_errors_there_are():
    for path, methods in DOCUMENT["paths"].items():
        for method, one in methods.items():
            assert one["description"], (method, path)
            assert {"401", "403", "404", "429"} <= set(one["responses"]), (method, path)
            for status in ("401", "403", "404", "429"):
                assert set(one["responses"][status]["content"]) == {"application/problem+json"}
