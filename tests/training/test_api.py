"""The API of the training side: each resource, through the same services as the pages."""

import hashlib
import json

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from rating.models import ModelVersion, WebhookDelivery
from rating.services.webhooks import add_webhook
from tests.api import fields_of, problem_of, program, send
from tests.factories import make_model_version, make_project
from tests.training.conftest import judge_pairs
from tests.training.test_evaluations import compare
from training.models import DatasetSnapshot, Evaluation, Promotion, RunEvent, TrainingRun, Trigger
from training.services.encoding import FILE_KINDS
from training.services.exports import EXPORT_FORMATS
from training.services.runs import queue_run

pytestmark = pytest.mark.django_db
HERE = "/api/projects/demo/"
PLAN = [{"recipe": "reward", "settings": {}}]


@pytest.fixture
def api(operator) -> Client:
    """A program of the project's operator."""
    return program(operator)


@pytest.fixture
def run(project, present, snapshot) -> TrainingRun:
    """A queued run."""
    return queue_run(project, "reward", {"max_steps": 5}, snapshot=snapshot)


def content(response) -> bytes:
    return b"".join(response.streaming_content)


def test_snapshot_is_frozen_with_a_query(api, project):
    judge_pairs(project, 30)
    made = send(api, "post", f"{HERE}snapshots/", {"query": {"ties": "keep"}})
    assert made.status_code == 201, made.content
    stored = DatasetSnapshot.objects.get()
    assert (made.json()["number"], made.json()["content_hash"]) == (stored.number, stored.content_hash)
    assert stored.created_by.username == "operator"
    assert made.json()["query"]["asked"]["ties"] == "keep"
    again = send(api, "post", f"{HERE}snapshots/", {"query": {"ties": "keep"}})
    assert again.json()["number"] == stored.number
    assert [one["number"] for one in api.get(f"{HERE}snapshots/").json()["results"]] == [stored.number]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"tie": "keep"}, "tie"),
        ({"ties": "sometimes"}, "ties"),
        ({"raters": ["R-NOBODY"]}, "raters"),
        ({"min_raters": 0}, "min_raters"),
        ({"until": "yesterday"}, "until"),
    ],
)
def test_unfit_queries_are_refused_by_field(api, project, query, field):
    assert fields_of(send(api, "post", f"{HERE}snapshots/", {"query": query})) == [field]


def test_nothing_to_freeze_is_told(api, project):
    assert fields_of(send(api, "post", f"{HERE}snapshots/", {})) == [""]


def test_snapshot_is_read_compared_and_taken_away(api, project, snapshot):
    there = f"{HERE}snapshots/{snapshot.number}/"
    assert api.get(there).json()["counts"]["rows"] == snapshot.counts["rows"]
    assert api.get(f"{there}card/").json() == snapshot.counts["card"]
    manifest = api.get(f"{there}manifest/").json()
    assert manifest["content_hash"] == snapshot.content_hash
    rows = content(api.get(f"{there}files/preference.train.jsonl/"))
    assert hashlib.sha256(rows).hexdigest() == manifest["files"]["preference.train.jsonl"]["sha256"]
    problem_of(api.get(f"{there}files/secrets.txt/"), 404)
    judge_pairs(project, 10, first=40)
    later = send(api, "post", f"{HERE}snapshots/", {}).json()["number"]
    changes = api.get(f"{HERE}snapshots/{later}/difference/?against={snapshot.number}").json()
    assert (changes["judgments_added"], changes["judgments_removed"]) == (10, 0)
    problem_of(api.get(f"{there}difference/?against=99"), 404)
    assert fields_of(api.get(f"{there}difference/")) == ["against"]


@pytest.mark.parametrize("fmt", EXPORT_FORMATS)
@pytest.mark.parametrize("file", FILE_KINDS)
def test_every_format_is_streamed(api, project, snapshot, fmt, file):
    got = api.get(f"{HERE}snapshots/{snapshot.number}/download/?format={fmt}&file={file}")
    assert got.status_code == 200
    assert got.streaming
    body = content(got)
    if file == "jsonl":
        assert all(json.loads(line) for line in body.splitlines())
    live = api.get(f"{HERE}export/?format={fmt}&file={file}&gzip=1")
    assert content(live) or file == "jsonl"


def test_exports_name_what_is_unknown(api, project, snapshot):
    there = f"{HERE}snapshots/{snapshot.number}/download/"
    for query, field in (
        ("format=xml", "format"),
        ("split=test", "split"),
        ("file=xls", "file"),
        ("x=1", "x"),
    ):
        assert fields_of(api.get(f"{there}?{query}")) == [field]
        assert fields_of(api.get(f"{HERE}export/?{query}")) == [field]


def test_run_is_queued_read_and_cancelled(api, project, present, snapshot):
    wanted = {"recipe": "reward", "settings": {"max_steps": 5}, "snapshot": snapshot.number}
    made = send(api, "post", f"{HERE}runs/", wanted)
    assert made.status_code == 201, made.content
    run = TrainingRun.objects.get()
    assert (run.state, run.snapshot, run.created_by.username) == ("queued", snapshot, "operator")
    there = f"{HERE}runs/{run.number}/"
    told = api.get(there).json()
    assert (told["recipe"], told["settings"], told["snapshot"]) == (
        "reward",
        {"max_steps": 5},
        snapshot.number,
    )
    assert [one["number"] for one in api.get(f"{HERE}runs/?state=queued").json()["results"]] == [run.number]
    assert api.get(f"{HERE}runs/?state=failed").json()["results"] == []
    assert send(api, "post", f"{there}cancel/").json()["state"] == "cancelled"


def test_run_without_a_snapshot_freezes_one(api, project, present):
    judge_pairs(project, 30)
    made = send(api, "post", f"{HERE}runs/", {"recipe": "reward"})
    assert made.status_code == 201, made.content
    assert TrainingRun.objects.get().snapshot == DatasetSnapshot.objects.get()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "recipe"),
        ({"recipe": "magic"}, "plan[0].recipe"),
        ({"recipe": "reward", "settings": {"learning_rate": "fast"}}, "plan[0].learning_rate"),
        ({"recipe": "reward", "snapshot": 99}, "snapshot"),
        ({"recipe": "reward", "policy": 2**31 - 1}, "policy"),
        ({"recipe": "reward", "after": 99}, "after"),
        ({"recipe": "reward", "speed": 9}, "speed"),
    ],
)
def test_unfit_runs_are_refused_by_field(api, project, present, body, field):
    assert fields_of(send(api, "post", f"{HERE}runs/", body)) == [field]
    assert not DatasetSnapshot.objects.exists()


def test_events_are_followed(api, run):
    values = {"attempt": 1, "kind": "metrics", "happened_at": timezone.now()}
    for step in range(1, 4):
        RunEvent.objects.create(run=run, step=step, data={"values": {"loss": 1 / step}}, **values)
    there = f"{HERE}runs/{run.number}/"
    first = api.get(f"{there}events/?limit=2").json()
    assert [one["step"] for one in first["results"]] == [1, 2]
    rest = api.get(f"{there}events/?since={first['results'][-1]['id']}").json()
    assert [one["step"] for one in rest["results"]] == [3]
    assert api.get(f"{there}events/?kind=warning").json()["results"] == []
    assert api.get(f"{there}metrics/").json()["loss"] == [[1, 1.0], [2, 0.5], [3, 1 / 3]]


def test_triggers_are_made_changed_and_removed(api, project, present):
    made = send(api, "post", f"{HERE}triggers/", {"name": "Daily", "schedule": "0 3 * * *", "plan": PLAN})
    assert made.status_code == 201, made.content
    there = f"{HERE}triggers/{made.json()['id']}/"
    changed = send(
        api, "put", there, {"name": "Often", "every_judgments": 50, "plan": PLAN, "enabled": False}
    )
    assert (changed.json()["name"], changed.json()["schedule"]) == ("Often", "")
    stored = Trigger.objects.get()
    assert (stored.every_judgments, stored.enabled) == (50, False)
    assert fields_of(send(api, "put", there, {"name": "Often", "plan": PLAN})) == ["every_judgments"]
    assert len(api.get(f"{HERE}triggers/").json()["results"]) == 1
    assert api.get(there).json() == changed.json()
    assert api.delete(there).status_code == 204
    problem_of(api.get(there), 404)


def test_versions_are_added_and_read(api, project, present, tmp_path):
    assert api.get(f"{HERE}user-model/").json()["name"] == "base"
    made = send(api, "post", f"{HERE}versions/", {"name": "hub", "base": "owner/model"})
    assert made.status_code == 201, made.content
    assert api.get(f"{HERE}versions/{made.json()['id']}/").json()["base"] == "owner/model"
    assert fields_of(send(api, "post", f"{HERE}versions/", {"name": "hub", "base": "owner/other"})) == [
        "name"
    ]
    assert fields_of(send(api, "post", f"{HERE}versions/", {"name": "x", "base": str(tmp_path)})) == ["base"]
    assert [one["name"] for one in api.get(f"{HERE}versions/?ordering=name").json()["results"]] == [
        "base",
        "hub",
    ]
    assert api.get(f"{HERE}versions/?kind=reward").json()["results"] == []


def test_there_is_no_user_model_yet(api, project):
    problem_of(api.get(f"{HERE}user-model/"), 404)


@pytest.fixture
def candidate(project, present) -> ModelVersion:
    """A policy that is not promoted."""
    return make_model_version(project, "policy-1", parent=present)


def test_evaluation_is_started_and_read(api, project, present, candidate):
    judge_pairs(project, 30)
    made = send(api, "post", f"{HERE}evaluations/", {"candidate": candidate.pk, "prompts": 5})
    assert made.status_code == 201, made.content
    assert (made.json()["state"], made.json()["baseline"]) == ("sampling", present.pk)
    there = f"{HERE}evaluations/{made.json()['number']}/"
    assert api.get(there).json()["result"]["judged"] == 0
    assert fields_of(send(api, "post", f"{there}close/")) == ["evaluation"]
    again = send(api, "post", f"{HERE}evaluations/", {"candidate": candidate.pk})
    assert fields_of(again) == ["candidate"]


def test_evaluation_is_closed(api, project, present, candidate):
    evaluation = compare(project, candidate, present, ["win", "loss", "win"])
    closed = send(api, "post", f"{HERE}evaluations/{evaluation.number}/close/").json()
    assert (closed["state"], closed["result"]["wins"], closed["result"]["losses"]) == ("closed", 2, 1)
    assert Evaluation.objects.get().state == Evaluation.State.CLOSED


def test_version_is_promoted_and_undone(api, project, present, candidate):
    wanted = {"version": candidate.pk, "reason": "Kinder."}
    assert fields_of(send(api, "post", f"{HERE}promotions/", wanted)) == ["confirm"]
    made = send(api, "post", f"{HERE}promotions/", wanted | {"confirm": True})
    assert made.status_code == 201, made.content
    promotion = Promotion.objects.first()
    assert (promotion.model_version, promotion.decided_by.username) == (candidate, "operator")
    assert api.get(f"{HERE}user-model/").json()["id"] == candidate.pk
    undone = send(api, "post", f"{HERE}promotions/{promotion.pk}/undo/", {"reason": "It was rude."})
    assert (undone.json()["model_version"], undone.json()["undoes"]) == (present.pk, promotion.pk)
    assert len(api.get(f"{HERE}promotions/").json()["results"]) == 3
    again = send(api, "post", f"{HERE}promotions/{promotion.pk}/undo/", {"reason": "Again."})
    assert fields_of(again) == ["promotion"]


def test_what_is_elsewhere_is_not_found(api, operator, run, candidate):
    other = make_project(operator, slug="other")
    for path in (f"runs/{run.number}/", f"versions/{candidate.pk}/", f"snapshots/{run.snapshot.number}/"):
        problem_of(api.get(f"/api/projects/{other.slug}/{path}"), 404)
    wanted = {"version": candidate.pk, "reason": "Mine."}
    assert fields_of(send(api, "post", "/api/projects/other/promotions/", wanted)) == ["version"]


@pytest.mark.parametrize("name", ["runs", "versions", "evaluations", "promotions", "snapshots", "triggers"])
def test_lists_take_as_many_queries_for_three_rows(api, project, present, snapshot, candidate, name):
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert api.get(f"{HERE}{name}/").status_code == 200
        return len(queries)

    def add(number: int) -> None:
        queue_run(project, "reward", {}, snapshot=snapshot)
        version = make_model_version(project, parent=present)
        compare(project, version, present, ["win"])
        Promotion.objects.create(project=project, model_version=version)
        Trigger.objects.create(project=project, name=str(number), every_judgments=1)

    add(1)
    one = count()
    add(2)
    add(3)
    assert count() == one


def test_webhooks_are_told(api, project, present, candidate):
    add_webhook(project, "https://example.org/")
    judge_pairs(project, 30)
    frozen = send(api, "post", f"{HERE}snapshots/", {}).json()
    run = send(api, "post", f"{HERE}runs/", {"recipe": "reward", "snapshot": frozen["number"]}).json()
    send(api, "post", f"{HERE}runs/{run['number']}/cancel/")
    send(api, "post", f"{HERE}promotions/", {"version": candidate.pk, "reason": "Kinder.", "confirm": True})
    told = [json.loads(one.body) for one in WebhookDelivery.objects.order_by("pk")]
    assert [one["event"] for one in told] == ["snapshot.frozen", "run.ended", "version.promoted"]
    assert told[0]["data"]["content_hash"] == frozen["content_hash"]
    assert (told[1]["data"]["number"], told[1]["data"]["state"]) == (run["number"], "cancelled")
    assert told[2]["data"]["name"] == candidate.name
