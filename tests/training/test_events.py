"""Reading events.jsonl while it grows."""

import json

import pytest

from training.models import RunEvent, TrainingRun
from training.services import events
from training.services.claims import claim_run
from training.services.events import store_new_events
from training.services.runs import queue_run


@pytest.fixture
def run(project, present, snapshot) -> TrainingRun:
    """A running run."""
    queue_run(project, "sft", {}, snapshot=snapshot)
    run = claim_run("one")
    run.directory.mkdir(parents=True)
    return run


def append(run: TrainingRun, text: str) -> None:
    with (run.directory / "events.jsonl").open("a", encoding="utf-8") as file:
        file.write(text)


def line(event: str, **fields: object) -> str:
    return (
        json.dumps({"seq": 1, "time": 1_700_000_000.5, "event": event, **fields}, ensure_ascii=False) + "\n"
    )


def test_nothing_there_yet(run):
    assert store_new_events(run, 1) == 0


def test_lines_become_rows_once(run):
    append(run, line("started", total_steps=50, device="cpu"))
    append(run, line("metrics", step=3, values={"loss": 0.5}))
    assert store_new_events(run, 1) == 2
    assert store_new_events(run, 1) == 0
    started, metrics = RunEvent.objects.order_by("pk")
    assert (started.kind, started.step, started.data) == (
        "started",
        None,
        {"total_steps": 50, "device": "cpu"},
    )
    assert (metrics.kind, metrics.step, metrics.data) == ("metrics", 3, {"values": {"loss": 0.5}})
    assert metrics.happened_at.timestamp() == 1_700_000_000.5
    run.refresh_from_db()
    assert (run.step, run.total_steps) == (3, 50)


def test_half_a_line_waits_for_its_end(run):
    whole = line("samples", step=1, rows=[{"prompt": [], "response": "Zürich 🙂"}])
    for cut in range(1, len(whole) - 1, 7):
        append(run, whole[:cut])
        assert store_new_events(run, 1) == 0
        append(run, whole[cut:])
        assert store_new_events(run, 1) == 1
    assert RunEvent.objects.last().data["rows"][0]["response"] == "Zürich 🙂"


def test_a_line_longer_than_a_chunk_is_read_whole(run, monkeypatch):
    monkeypatch.setattr(events, "MAX_BYTES", 50)
    append(run, line("metrics", step=1) + line("warning", message="x" * 500) + line("metrics", step=2))
    counts = []
    while count := store_new_events(run, 1):
        counts.append(count)
    assert sum(counts) == 3
    assert RunEvent.objects.get(kind="warning").data["message"] == "x" * 500


def test_an_old_attempt_stores_nothing(run):
    append(run, line("metrics", step=1))
    assert store_new_events(run, 0) == 0
    TrainingRun.objects.update(events_offset=5)
    assert store_new_events(run, 1) == 0
    assert not RunEvent.objects.exists()


@pytest.mark.parametrize("step", [-1, 2**40, "three", True, None, 1.5])
def test_odd_steps_are_left_out(run, step):
    append(run, line("metrics", step=step, total_steps=step))
    assert store_new_events(run, 1) == 1
    assert RunEvent.objects.get().step is None
    run.refresh_from_db()
    assert (run.step, run.total_steps) == (0, None)


@pytest.mark.parametrize(
    "text", ["[1]\n", "null\n", '{"event": 3}\n', "{\n", '{"event": "metrics", "x": NaN, }\n']
)
def test_what_is_no_event_becomes_a_warning(run, text):
    append(run, text)
    assert store_new_events(run, 1) == 1
    assert RunEvent.objects.get().kind == "warning"


def test_odd_values_are_made_storable(run):
    append(
        run,
        '{"event": "metrics", "time": 1e300, "values": {"loss": NaN, "a\\u0000": 1e999}, "b": ["\\ud800"]}\n',
    )
    assert store_new_events(run, 1) == 1
    assert RunEvent.objects.get().data == {"values": {"loss": None, "a\ufffd": None}, "b": ["\ufffd"]}


@pytest.mark.parametrize(
    "text",
    [
        '{"event": "metrics", "step": 1, "values": [1]}',
        '{"event": "metrics", "step": 1, "values": {"loss": "x"}}',
        '{"event": "samples", "rows": [{"prompt": "x", "response": "y"}]}',
        '{"event": "samples", "rows": [{"prompt": [], "response": 5}]}',
        '{"event": "started", "parameters": []}',
        '{"event": "warning", "message": ' + "[" * 60 + "]" * 60 + "}",
        '{"event": "warning", "message": ' + "[" * 100_000,
    ],
)
def test_a_line_that_no_page_could_show_becomes_a_warning(run, text):
    append(run, text + "\n")
    assert store_new_events(run, 1) == 1
    event = RunEvent.objects.get()
    assert event.kind == "warning"
    assert "cannot be read" in event.data["message"]


def test_one_query_to_move_on_and_one_to_store(run, django_assert_num_queries):
    append(run, "".join(line("metrics", step=step) for step in range(100)))
    with django_assert_num_queries(4):
        assert store_new_events(run, 1) == 100
