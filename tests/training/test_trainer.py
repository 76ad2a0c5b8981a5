"""The trainer's loop, with real child processes that play a recipe."""

import errno
import logging
import os
import signal
import threading
import time

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError, connection

from rating.models import Item, ModelVersion, Split
from tests.factories import make_prompt
from tests.training.conftest import FakeLauncher, judge_pairs
from training.models import Evaluation, RunEvent, TrainingRun
from training.services.claims import claim_run
from training.services.rundirs import lock_directory, prepare_run_directory
from training.services.runs import queue_plan, queue_run, request_cancel
from training.services.triggers import save_trigger
from training.services.workers import trainer_status, worker_name
from training.trainer import Trainer

State = TrainingRun.State


@pytest.fixture
def run(project, present, snapshot) -> TrainingRun:
    """A queued run of a recipe that makes a policy."""
    return queue_run(project, "sft", {}, snapshot=snapshot)


def work(*plays: str, launcher: FakeLauncher | None = None) -> FakeLauncher:
    """Let a trainer work until nothing is left to do."""
    launcher = launcher or FakeLauncher(*plays)
    Trainer(launcher, poll_seconds=0.02).work(once=True)
    return launcher


def test_a_run_becomes_a_model_version(project, present, run):
    work()
    run.refresh_from_db()
    assert (run.state, run.step, run.total_steps, run.attempt) == (State.SUCCEEDED, 3, 3, 1)
    version = run.model_version
    assert (version.name, version.kind, version.parent) == ("policy-1", ModelVersion.Kind.POLICY, present)
    assert version.base == str(run.directory / "output")
    assert set(version.files) == {"config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"}
    assert version.tokenizer_hash == present.tokenizer_hash
    kinds = list(run.events.values_list("kind", flat=True))
    assert kinds.count("metrics") == 3
    assert kinds[0] == "started"
    assert run.events_offset == (run.directory / "events.jsonl").stat().st_size


def test_the_whole_wheel_of_a_trigger(project, present):
    save_trigger(
        project,
        name="Every ten",
        every_judgments=10,
        plan=[{"recipe": "reward"}, {"recipe": "dpo"}, {"recipe": "sample", "settings": {"limit": 3}}],
    )
    judge_pairs(project, 9)
    launcher = work()
    assert launcher.started == []
    judge_pairs(project, 30, first=9)
    work(launcher=launcher)
    runs = list(TrainingRun.objects.order_by("number"))
    assert [(run.recipe, run.state) for run in runs] == [
        ("reward", State.SUCCEEDED),
        ("dpo", State.SUCCEEDED),
        ("sample", State.SUCCEEDED),
        ("sample", State.SUCCEEDED),
    ]
    assert runs[2].policy == runs[1].model_version
    evaluation = Evaluation.objects.get()
    assert (evaluation.candidate, evaluation.baseline) == (runs[1].model_version, present)
    assert (evaluation.sampling_run, evaluation.state) == (runs[3], Evaluation.State.OPEN)
    assert evaluation.same_responses == 1
    held_out = project.prompts.filter(split=Split.EVAL).count()
    assert evaluation.items.filter(purpose=Item.Purpose.EVALUATE).count() == held_out - 2
    assert work().started == []


def test_only_the_last_policy_of_a_chain_is_compared(project, present):
    judge_pairs(project, 30)
    sft, dpo = queue_plan(project, [{"recipe": "sft"}, {"recipe": "dpo"}])
    work()
    dpo.refresh_from_db()
    assert Evaluation.objects.get().candidate == dpo.model_version
    assert "is not compared by itself: run 2 (dpo)" in sft.events.get(kind="note").data["message"]


def test_no_evaluation_without_held_out_prompts(project, present):
    project.eval_percent = 0
    project.save()
    judge_pairs(project, 5)
    (run,) = queue_plan(project, [{"recipe": "dpo"}])
    work()
    run.refresh_from_db()
    assert run.state == State.SUCCEEDED
    assert not Evaluation.objects.exists()
    assert "no held-out prompts" in run.events.get(kind="note").data["message"]


def test_failure_is_told_in_the_recipes_words(run):
    work("fail")
    run.refresh_from_db()
    assert (run.state, run.error_code) == (State.FAILED, "stuck_loss")
    assert run.error_message == "The loss is stuck at ln 2."
    assert run.result["status"] == "failed"


def test_a_process_that_breaks_off_without_a_result_fails_with_its_log(run):
    work("crash")
    run.refresh_from_db()
    assert (run.state, run.error_code) == (State.FAILED, "crash")
    assert "ended with status 3" in run.error_message
    assert "Traceback: something broke" in run.error_message


def test_a_killed_process_is_tried_again(run):
    launcher = work("die", "succeed")
    run.refresh_from_db()
    assert (run.state, run.attempt, launcher.started.count(run.directory)) == (State.SUCCEEDED, 2, 2)
    assert "ended by SIGKILL" in run.events.get(kind="note", attempt=1).data["message"]


def test_a_process_that_is_always_killed_fails_after_three_attempts(run):
    launcher = work("die")
    run.refresh_from_db()
    assert (run.state, run.attempt, len(launcher.started)) == (State.FAILED, 3, 3)
    assert "ran out of memory" in run.error_message


def test_a_process_that_makes_progress_is_tried_on(run):
    launcher = work(*["checkpoint-then-die"] * 5, "succeed")
    run.refresh_from_db()
    assert (run.state, launcher.started.count(run.directory)) == (State.SUCCEEDED, 6)


def test_an_output_that_is_no_model_fails_the_run(run):
    work("no-model")
    run.refresh_from_db()
    assert (run.state, run.error_code) == (State.FAILED, "bad_data")
    assert "there is no such directory" in run.error_message
    assert ModelVersion.objects.count() == 1


def test_damaged_event_lines_become_warnings(run):
    work("garbage")
    run.refresh_from_db()
    assert run.state == State.SUCCEEDED
    warnings = [event.data["message"] for event in run.events.filter(kind="warning")]
    assert len(warnings) == 2
    assert all("cannot be read" in warning for warning in warnings)
    assert run.events.filter(kind="metrics").first().data["note"] == "\ufffd\ufffd"


def test_a_missing_model_fails_the_run_and_the_next_one_goes_on(project, present, run, tmp_path):
    other = queue_run(project, "sft", {}, snapshot=run.snapshot)
    (tmp_path / "model" / "tokenizer.json").rename(tmp_path / "elsewhere")
    present.files.pop("tokenizer.json")
    launcher = FakeLauncher()
    TrainingRun.objects.filter(pk=other.pk).update(policy=present.pk)
    (tmp_path / "model" / "config.json").write_text("{}")
    work(launcher=launcher)
    for ended in (run, other):
        ended.refresh_from_db()
        assert (ended.state, ended.error_code) == (State.FAILED, "bad_model")
        assert "base is damaged" in ended.error_message
    assert launcher.started == []


class BrokenLauncher:
    """A launcher with a fault of its own."""

    def launch(self, run_dir, spec, *, lock):
        raise ZeroDivisionError("a fault")


def test_a_fault_of_the_trainer_fails_the_run_and_not_the_loop(project, run, caplog):
    second = queue_run(project, "sft", {}, snapshot=run.snapshot)
    with caplog.at_level(logging.ERROR):
        work(launcher=BrokenLauncher())
    for ended in (run, second):
        ended.refresh_from_db()
        assert ended.state == State.FAILED
        assert "ZeroDivisionError" in ended.error_message


def test_a_result_of_a_dead_attempt_is_only_settled(run):
    claimed = claim_run(f"{worker_name().rsplit(' ', 1)[0]} 1")
    with lock_directory(run.directory) as lock:
        handle = FakeLauncher().launch(run.directory, prepare_run_directory(claimed), lock=lock)
        while handle.poll() is None:
            time.sleep(0.01)
    launcher = work()
    run.refresh_from_db()
    assert (run.state, run.attempt) == (State.SUCCEEDED, 2)
    assert run.events.filter(kind="metrics").count() == 3
    assert run.directory not in launcher.started


def test_a_run_that_the_trainer_lost_sight_of_is_taken_back(run):
    claim_run(worker_name())
    work()
    run.refresh_from_db()
    assert (run.state, run.attempt) == (State.SUCCEEDED, 2)


def test_a_heartbeat_that_cannot_be_written_stops_nothing(run, home, caplog):
    home.mkdir(exist_ok=True)
    (home / "trainers").write_text("a file where the folder should be")
    work()
    run.refresh_from_db()
    assert run.state == State.SUCCEEDED
    assert "heartbeat cannot be written" in caplog.text


def test_a_full_disk_is_named(run, monkeypatch):
    def no_space(path, *arguments, **keywords):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("training.services.rundirs.os.open", no_space)
    work()
    run.refresh_from_db()
    assert (run.state, run.error_code) == (State.FAILED, "disk_full")
    assert "free some space" in run.error_message


def test_a_trainer_that_is_stopping_starts_nothing_more(run):
    launcher = FakeLauncher()
    trainer = Trainer(launcher, poll_seconds=0.01)
    claimed = claim_run(trainer.worker)
    trainer.stop.set()
    trainer.work_on(claimed)
    run.refresh_from_db()
    assert (run.state, launcher.started) == (State.QUEUED, [])


def test_a_database_that_is_away_is_waited_for(run, monkeypatch, caplog):
    calls = []

    def away(worker):
        calls.append(worker)
        if len(calls) == 1:
            raise OperationalError("the server closed the connection")
        return claim_run(worker)

    monkeypatch.setattr("training.trainer.claim_run", away)
    monkeypatch.setattr("training.trainer.forget_connection", lambda: None)
    trainer = Trainer(FakeLauncher(), poll_seconds=0.01)
    assert not trainer.turn()
    assert trainer.turn()
    run.refresh_from_db()
    assert run.state == State.SUCCEEDED
    assert "The database does not answer" in caplog.text


def test_a_directory_where_somebody_is_still_at_work_is_waited_for(run, monkeypatch):
    monkeypatch.setattr("training.services.rundirs.LOCK_SECONDS", 0.0)
    launcher = FakeLauncher()
    trainer = Trainer(launcher, poll_seconds=0.01)
    with lock_directory(run.directory):
        assert trainer.turn()
    run.refresh_from_db()
    assert (run.state, launcher.started) == (State.QUEUED, [])
    work(launcher=launcher)
    run.refresh_from_db()
    assert (run.state, run.attempt) == (State.SUCCEEDED, 2)


class Background:
    """A trainer on a thread, and a way to wait for rows."""

    def __init__(self, launcher: FakeLauncher) -> None:
        self.trainer = Trainer(launcher, poll_seconds=0.02, worker=f"a thread {id(self)}")
        self.thread = threading.Thread(target=self.work)

    def work(self) -> None:
        try:
            self.trainer.work()
        finally:
            connection.close()

    def __enter__(self) -> "Background":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.trainer.stop.set()
        self.thread.join(20)
        assert not self.thread.is_alive()


def wait_until(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_cancel_reaches_the_process(threaded_db, project, present, run, operator):
    follower = queue_run(project, "sft", {}, snapshot=run.snapshot, after=run)
    with Background(FakeLauncher("wait")):
        wait_until(lambda: RunEvent.objects.filter(run=run, kind="progress").exists())
        request_cancel(run, operator)
        wait_until(lambda: TrainingRun.objects.get(pk=follower.pk).state == State.CANCELLED)
    run.refresh_from_db()
    assert (run.state, run.error_message) == (State.CANCELLED, "Cancelled.")
    assert run.result["status"] == "cancelled"


def test_a_stopped_trainer_gives_its_run_back_and_it_resumes(threaded_db, project, present, run):
    with Background(FakeLauncher("wait")) as background:
        wait_until(lambda: RunEvent.objects.filter(run=run, kind="progress").exists())
        assert trainer_status().running
        assert trainer_status().run_id == run.pk
    assert not background.thread.is_alive()
    run.refresh_from_db()
    assert (run.state, run.cancel_requested_at) == (State.QUEUED, None)
    assert run.events.filter(kind="checkpoint").exists()
    assert not trainer_status().running
    work("succeed")
    run.refresh_from_db()
    assert (run.state, run.attempt) == (State.SUCCEEDED, 2)


def test_a_trainer_that_lost_its_run_kills_the_process_and_writes_nothing(threaded_db, project, present, run):
    launcher = FakeLauncher("hang")
    with Background(launcher):
        wait_until(lambda: RunEvent.objects.filter(run=run, kind="started").exists())
        TrainingRun.objects.filter(pk=run.pk).update(attempt=7, claimed_by="somebody else")
        wait_until(lambda: not is_played(launcher.started[0]))
    run.refresh_from_db()
    assert (run.state, run.attempt, run.claimed_by) == (State.RUNNING, 7, "somebody else")


def is_played(directory) -> bool:
    """Whether a process plays in this run directory."""
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                if entry.isdigit() and str(directory).encode() in file.read():
                    return True
        except OSError:
            continue
    return False


def test_two_trainers_share_the_work(threaded_db, project, present, snapshot):
    for _ in range(6):
        queue_run(project, "sft", {}, snapshot=snapshot)
    launchers = [FakeLauncher(), FakeLauncher()]
    with Background(launchers[0]), Background(launchers[1]):
        wait_until(
            lambda: not TrainingRun.objects.filter(state__in=(State.QUEUED, State.RUNNING)).exists(), 60
        )
    started = launchers[0].started + launchers[1].started
    assert len(started) == len(set(started)) == TrainingRun.objects.count()
    assert not TrainingRun.objects.exclude(state=State.SUCCEEDED).exists()
    assert set(TrainingRun.objects.values_list("attempt", flat=True)) == {1}


def test_the_command_stops_when_there_is_nothing_to_do(db):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        call_command("trainer", "--once", "--poll", "0.05")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    with pytest.raises(CommandError, match="--poll"):
        call_command("trainer", "--poll", "0")


def test_evaluations_whose_responses_cannot_be_written_fail(project, present, run):
    judge_pairs(project, 10, first=40)
    make_prompt(project)
    work("succeed", "fail")
    evaluation = Evaluation.objects.get()
    assert evaluation.state == Evaluation.State.FAILED
    assert evaluation.closed_at is not None
