"""The client against a real server."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from django.db import connections
from django.utils import timezone

from ratchet_client import ApiError, Project, Ratchet
from rating.models import Role
from rating.services.imports.worker import ImportWorker
from rating.services.tokens import create_token
from tests.factories import make_membership
from tests.training.conftest import judge_pairs, write_model
from training.models import RunEvent, TrainingRun
from training.services.promotions import promote_version
from training.services.versions import add_base_version


@pytest.fixture
def here(live_server, project, admin, settings, tmp_path) -> Project:
    """The project through a server, for its admin and operator."""
    settings.HOME = tmp_path
    settings.SNAPSHOTS_DIR, settings.RUNS_DIR = tmp_path / "snapshots", tmp_path / "runs"
    make_membership(project, admin, Role.OPERATOR)
    _token, text = create_token(admin, name="client", scopes=["read", "write", "train"], days=1)
    return Ratchet(live_server.url, text).project("demo")


def test_a_file_goes_in(here, tmp_path):
    path = tmp_path / "Fragen für später.jsonl"
    path.write_text('{"prompt": "Why?", "chosen": "Because.", "rejected": "No."}\n')
    row = here.import_file(path, wait=False, keep_good=True, format="auto")
    assert (row["name"], row["state"], row["keep_good"]) == (path.name, "queued", True)
    ImportWorker().work(once=True)
    assert here.server.ask("GET", here.path(f"imports/{row['id']}/"))["state"] == "succeeded"
    assert len(list(here.server.pages(here.path("items/"), limit=1))) == 1


def test_waiting_for_a_file(here, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": "Why?"\n')
    worker = ImportWorker(poll_seconds=0.05)

    def work() -> None:
        worker.work()
        connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        row = here.import_file(path, poll=0.05)
    finally:
        worker.stop.set()
        thread.join()
    assert row["state"] == "refused"
    assert "line 1" in row["errors"][0]


def test_a_snapshot_becomes_a_dataset_and_a_frame(here, project):
    judge_pairs(project, 30)
    frozen = here.freeze(ties="keep")
    rows = list(here.rows(frozen["number"]))
    assert len(rows) == sum(
        frozen["counts"]["rows"][f"preference.{part}.jsonl"] for part in ("train", "eval")
    )
    dataset = here.dataset(frozen["number"], split="train")
    assert len(dataset) == frozen["counts"]["rows"]["preference.train.jsonl"]
    assert set(dataset.column_names) == {"prompt", "chosen", "rejected"}
    frame = here.frame(frozen["number"])
    assert list(frame["chosen"]) == [row["chosen"] for row in rows]


def test_a_run_is_started_and_followed(here, project, tmp_path):
    judge_pairs(project, 30)
    base = add_base_version(project, "base", str(write_model(tmp_path / "model")))
    promote_version(project, base, user=None, reason="The first one.", collect=0)
    run = here.start_run("reward", {"max_steps": 3})
    stored = TrainingRun.objects.get(number=run["number"])
    for step in range(3):
        RunEvent.objects.create(run=stored, attempt=1, kind="metrics", step=step, happened_at=timezone.now())
    TrainingRun.objects.update(state="succeeded")
    assert [event["step"] for event in here.follow(run["number"], poll=0.01)] == [0, 1, 2]


def test_refusals_name_the_field(here):
    with pytest.raises(ApiError) as refused:
        here.freeze(ties="sometimes")
    assert refused.value.status == 422
    assert refused.value.errors[0]["field"] == "ties"
    with pytest.raises(ApiError) as refused:
        here.server.project("none").freeze()
    assert refused.value.status == 404
    with pytest.raises(ApiError) as refused:
        Ratchet(here.server.url, "no").ask("GET", "projects/")
    assert refused.value.status == 401


class Elsewhere(BaseHTTPRequestHandler):
    """A server that sends everybody away."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(302)
        self.send_header("Location", "/elsewhere/")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Nothing on the console."""


def test_the_token_goes_to_one_server_alone():
    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = Ratchet(f"http://127.0.0.1:{server.server_port}", "secret-token")
        with pytest.raises(ApiError) as refused:
            client.ask("GET", "projects/")
        server.shutdown()
    assert refused.value.status == 302
    assert Elsewhere.asked == ["/api/projects/"]
    assert "secret-token" not in repr(client)
    with pytest.raises(ValueError, match="http"):
        Ratchet(Path("/etc").as_uri(), "t")
