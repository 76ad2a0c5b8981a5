"""The API of the rating side: tokens, scopes, pages, problems, and each resource."""

import hashlib
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from rating.models import ApiToken, Guidelines, Import, Membership, Project, Role
from rating.services.imports.worker import ImportWorker
from rating.services.tokens import TokenError, create_token, revoke_token
from tests.api import fields_of, problem_of, program, send
from tests.factories import make_item, make_judgment, make_project, make_user

pytestmark = pytest.mark.django_db
HERE = "/api/projects/demo/"


@pytest.fixture
def api(admin) -> Client:
    """A program of the project's admin."""
    return program(admin)


def test_token_is_stored_as_its_hash_alone(admin):
    token, text = create_token(admin, name="nightly", scopes=["read"], days=1)
    assert token.digest == hashlib.sha256(text.encode()).hexdigest()
    stored = ApiToken.objects.filter(pk=token.pk).values()[0]
    assert not any(text in str(value) for value in stored.values())
    assert text.startswith(token.start)


def test_token_says_whom_it_acts_for(admin, project):
    told = program(admin, "read", project=project).get("/api/").json()
    assert told["account"] == "admin"
    assert told["scopes"] == ["read"]
    assert told["project"] == "demo"
    assert ApiToken.objects.get().last_used_at is not None


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ratchet_no", "Basic YTpi", "Bearer \u00e9\u0000"])
def test_without_a_working_token_there_is_401(header, project):
    response = Client(headers={"Authorization": header} if header else {}).get(HERE)
    problem_of(response, 401)
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_session_opens_nothing(admin_client):
    problem_of(admin_client.get(HERE), 401)


def test_revoked_expired_and_inactive_tokens_do_nothing(admin, project):
    client = program(admin)
    assert client.get(HERE).status_code == 200
    revoke_token(ApiToken.objects.get())
    problem_of(client.get(HERE), 401)
    client = program(admin)
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    problem_of(client.get(HERE), 401)
    client = program(admin)
    admin.is_active = False
    admin.save()
    problem_of(client.get(HERE), 401)


def test_token_of_one_project_finds_no_other(admin, project):
    other = make_project(admin, slug="other")
    client = program(admin, project=other)
    problem_of(client.get(HERE), 404)
    assert client.get("/api/projects/other/").status_code == 200
    assert [one["slug"] for one in client.get("/api/projects/").json()["results"]] == ["other"]


def test_scope_is_needed(admin, project):
    problem = problem_of(send(program(admin, "read"), "patch", HERE, {"overlap": 2}), 403)
    assert "manage" in problem["detail"]
    assert send(program(admin, "manage"), "patch", HERE, {"overlap": 2}).status_code == 200


def test_calls_are_limited(admin, project, settings):
    settings.API_CALLS_A_MINUTE = 3
    client = program(admin)
    statuses = [client.get(HERE).status_code for _ in range(8)]
    assert 429 in statuses
    assert statuses[:3] == [200, 200, 200]
    limited = client.get(HERE)
    if limited.status_code == 429:  # unless a new minute has begun
        assert 1 <= int(limited.headers["Retry-After"]) <= 60
        problem_of(limited, 429)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "n" * 81}, "name"),
        ({"name": "a\x00"}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "scopes"),
        ({"days": 0}, "days"),
        ({"days": 1000}, "days"),
    ],
)
def test_unfit_tokens_are_refused_by_name(admin, fields, field):
    with pytest.raises(TokenError) as refused:
        create_token(admin, **{"name": "n", "scopes": ["read"], "days": 1} | fields)
    assert refused.value.field == field


def test_every_error_is_a_problem(api, project):
    problem_of(api.get("/api/nothing/here"), 404)
    problem_of(api.post("/api/nothing/here"), 404)
    problem_of(api.get("/api/projects"), 404)
    problem_of(api.get("/api/projects/none/"), 404)
    problem_of(api.delete(HERE), 405)
    problem_of(api.post("/api/projects/", "a=1", content_type="application/x-www-form-urlencoded"), 415)
    problem_of(api.get(HERE, headers={"Accept": "text/html"}), 406)
    assert fields_of(api.get(f"{HERE}judgments/?rater=%00")) == ["rater"]
    assert fields_of(api.get(f"{HERE}judgments/?limit=0&order=up")) == ["order"]
    assert fields_of(api.get(f"{HERE}judgments/?limit=0")) == ["limit"]
    assert fields_of(api.get(f"{HERE}judgments/?cursor=abc")) == ["cursor"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff",
        b'{"name": NaN}',
        b'{"overlap": 1e999}',
        b"[" * 100_000,
        b"[" * 100 + b"]" * 100,
        b'{"overlap": ' + b"9" * 5000 + b"}",
    ],
    ids=["cut", "no-utf8", "nan", "infinite", "very-deep", "deep", "long-number"],
)
def test_unreadable_bodies_are_400(api, project, body):
    problem_of(api.patch(HERE, body, content_type="application/json"), 400)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (rb'{"name": "a\u0000"}', "name"),
        (rb'{"name": "\ud800"}', "name"),
        (rb'{"span_reasons": ["good", "\udfff"]}', "span_reasons.1"),
        (rb'{"a\u0000": 1}', "body"),
        (rb'{"nam": "a"}', "nam"),
        (rb'{"overlap": "many"}', "overlap"),
        (rb'{"overlap": 99999999999999999999}', "overlap"),
        (rb'{"name": ""}', "name"),
        (rb'{"scale_min": 5}', "scale_max"),
    ],
)
def test_unfit_fields_are_named(api, project, body, field):
    response = api.patch(HERE, body, content_type="application/json")
    assert field in fields_of(response)


def test_a_body_that_is_no_object_is_refused(api, project):
    assert fields_of(api.patch(HERE, b"[]", content_type="application/json")) == [""]


def test_too_large_bodies_are_413(api, project, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    problem_of(send(api, "patch", HERE, {"name": "n" * 2000}), 413)
    settings.MAX_UPLOAD_BYTES = 10
    file = SimpleUploadedFile("a.jsonl", b"x" * 200_000)
    problem_of(api.post(f"{HERE}imports/", {"file": file}), 413)
    assert not Import.objects.exists()


def test_projects_are_made_and_changed(project):
    root = make_user("root", is_superuser=True)
    client = program(root)
    made = send(client, "post", "/api/projects/", {"name": "Kind answers", "overlap": 3, "guidelines": "Be."})
    assert made.status_code == 201, made.content
    assert made.json()["slug"] == "kind-answers"
    stored = Project.objects.get(slug="kind-answers")
    assert (stored.overlap, stored.guidelines.get().text) == (3, "Be.")
    changed = send(client, "patch", "/api/projects/kind-answers/", {"overlap": 4, "comparison": "seven"})
    assert changed.json()["comparison"] == "seven"
    taken = send(client, "post", "/api/projects/", {"name": "Again", "slug": "kind-answers"})
    assert fields_of(taken) == ["slug"]


def test_making_projects_takes_the_permission(api):
    problem_of(send(api, "post", "/api/projects/", {"name": "Mine"}), 403)


def test_asking_is_read_and_replaced(api, project):
    asked = {
        "settings": {"rate_each": True},
        "dimensions": [{"name": "Kindness", "style": "numbers", "low": 1, "high": 7}],
        "questions": [{"text": "Which?", "kind": "choice", "scope": "item", "options": ["one", "two"]}],
    }
    answer = send(api, "put", f"{HERE}asking/", asked)
    assert answer.status_code == 200, answer.content
    told = api.get(f"{HERE}asking/").json()
    assert told["dimensions"][0]["key"] == "kindness"
    assert told["questions"][0]["options"] == ["one", "two"]
    assert Project.objects.get(slug="demo").rate_each
    asked["questions"][0]["options"] = ["one"]
    assert fields_of(send(api, "put", f"{HERE}asking/", asked)) == ["questions.0.options"]
    asked["dimensions"][0]["name"] = ""
    assert fields_of(send(api, "put", f"{HERE}asking/", asked)) == ["dimensions.0.name"]


def test_guidelines_have_versions(api, project):
    made = send(api, "post", f"{HERE}guidelines/", {"text": "Prefer *short* ones."})
    assert (made.status_code, made.json()["number"]) == (201, 2)
    assert [one["number"] for one in api.get(f"{HERE}guidelines/").json()["results"]] == [2, 1]
    assert api.get(f"{HERE}guidelines/2/").json()["text"] == Guidelines.objects.get(number=2).text
    problem_of(api.get(f"{HERE}guidelines/9/"), 404)
    assert fields_of(send(api, "post", f"{HERE}guidelines/", {"text": "g" * 50_001})) == ["text"]


def test_members_come_and_go(api, project, admin):
    make_user("new")
    made = send(api, "post", f"{HERE}members/", {"username": "new", "role": "rater"})
    assert made.status_code == 201
    assert {one["username"] for one in api.get(f"{HERE}members/").json()["results"]} == {"admin", "new"}
    assert api.delete(f"{HERE}members/{made.json()['id']}/").status_code == 204
    assert fields_of(send(api, "post", f"{HERE}members/", {"username": "none", "role": "rater"})) == [
        "username"
    ]
    last = Membership.objects.get(project=project, role=Role.ADMIN)
    assert fields_of(api.delete(f"{HERE}members/{last.pk}/")) == ["role"]


def test_import_goes_in(api, project, settings, tmp_path):
    settings.HOME = tmp_path
    rows = b'{"prompt": "Why?", "chosen": "Because.", "rejected": "No."}\n'
    made = api.post(f"{HERE}imports/", {"file": SimpleUploadedFile("pairs.jsonl", rows)})
    assert made.status_code == 201, made.content
    assert made.json()["state"] == "queued"
    ImportWorker().work(once=True)
    there = f"{HERE}imports/{made.json()['id']}/"
    assert api.get(there).json()["state"] == "succeeded"
    assert len(api.get(f"{HERE}items/").json()["results"]) == 1
    assert [one["name"] for one in api.get(f"{HERE}imports/?state=succeeded").json()["results"]] == [
        "pairs.jsonl"
    ]
    assert send(api, "post", f"{there}cancel/").json()["state"] == "succeeded"


def test_import_by_columns(api, project, settings, tmp_path):
    settings.HOME = tmp_path
    file = SimpleUploadedFile("table.csv", b"q,one\nWhy?,Because.\n")
    named = {"format": "columns", "columns": '{"prompt": "q", "responses": ["one"]}'}
    made = api.post(f"{HERE}imports/", {"file": file} | named)
    assert made.status_code == 201, made.content
    ImportWorker().work(once=True)
    assert api.get(f"{HERE}imports/{made.json()['id']}/").json()["state"] == "succeeded"
    for columns in (
        "",
        "{}",
        '{"prompt": "q", "other": "x"}',
        '{"prompt": "q", "chosen": "a"}',
        "[1]",
        '{"prompt": "\\u0000"}',
    ):
        file = SimpleUploadedFile("table.csv", b"q,one\n")
        refused = api.post(f"{HERE}imports/", {"file": file, "format": "columns", "columns": columns})
        assert any(field.startswith("columns") for field in fields_of(refused)), columns


def test_import_needs_a_file_of_a_known_format(api, project):
    assert fields_of(api.post(f"{HERE}imports/", {})) == ["file"]
    file = SimpleUploadedFile("a.jsonl", b"{}")
    assert fields_of(api.post(f"{HERE}imports/", {"file": file, "format": "xml"})) == ["format"]


def test_judgments_are_filtered(api, project):
    first = make_judgment(
        make_item(project), rationale="Kinder.", judged_at=timezone.now() - timedelta(days=3)
    )
    second = make_judgment(make_item(project, purpose="evaluate"))
    there = f"{HERE}judgments/"

    def ids(query: str) -> list[str]:
        return [one["id"] for one in api.get(there + query).json()["results"]]

    assert ids("") == [str(second.public_id), str(first.public_id)]
    assert ids("?ordering=judged") == [str(first.public_id), str(second.public_id)]
    assert ids(f"?rater={first.rater.pseudonym}") == [str(first.public_id)]
    day = (timezone.now() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert ids(f"?since={day}") == [str(second.public_id)]
    assert ids(f"?until={day}") == [str(first.public_id)]
    assert ids("?purpose=evaluate") == [str(second.public_id)]
    told = api.get(f"{there}?until={day}").json()["results"][0]
    assert told["rationale"] == "Kinder."
    assert told["rater"] == first.rater.pseudonym
    assert first.rater.user.username not in str(told)
    for query, field in (("since=soon", "since"), ("purpose=fun", "purpose"), ("ordering=rater", "ordering")):
        assert fields_of(api.get(f"{there}?{query}")) == [field]


def test_raters_are_pseudonyms(api, project):
    judgment = make_judgment(make_item(project))
    (told,) = api.get(f"{HERE}raters/").json()["results"]
    assert told["pseudonym"] == judgment.rater.pseudonym
    assert told["judgments"] == 1
    assert judgment.rater.user.username not in str(told)


def test_pages_shift_nothing(api, project):
    for _ in range(5):
        make_item(project)
    seen, there = [], f"{HERE}items/?limit=2&ordering=created"
    while there:
        page = api.get(there).json()
        seen += [one["id"] for one in page["results"]]
        there = page["next"]
        make_item(project) if len(seen) == 2 else None
    assert seen == sorted(seen)
    assert len(seen) == 6
    cursor = api.get(f"{HERE}items/?limit=2").json()["next"].partition("cursor=")[2]
    assert fields_of(api.get(f"{HERE}prompts/?cursor={cursor}")) == ["cursor"]
    assert fields_of(api.get(f"{HERE}items/?ordering=created&cursor={cursor}")) == ["cursor"]


def test_items_say_not_who_wrote_them(api, project):
    item = make_item(project, texts=["One.", "Two."])
    (told,) = api.get(f"{HERE}items/?prompt={item.prompt_id}").json()["results"]
    assert [one["text"] for one in told["completions"]] == ["One.", "Two."]
    assert set(told["completions"][0]) == {"id", "text"}


@pytest.mark.parametrize(
    "name", ["items", "prompts", "judgments", "raters", "members", "guidelines", "imports"]
)
def test_lists_take_as_many_queries_for_three_rows(api, project, name):
    def count() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert api.get(f"{HERE}{name}/").status_code == 200
        return len(queries)

    make_judgment(make_item(project))
    one = count()
    for _ in range(2):
        make_judgment(make_item(project))
    assert count() == one
