"""Claiming, keeping, losing and ending runs."""

import os
import subprocess
import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from tests.factories import make_model_version
from tests.training.conftest import judge_pairs
from training.models import RunEvent, TrainingRun
from training.services.claims import (
    add_note,
    claim_run,
    fail_run,
    finish_run,
    give_up_attempt,
    reclaim_lost_runs,
    release_run,
    renew_lease,
)
from training.services.runs import queue_plan, queue_run, request_cancel
from training.services.workers import worker_name

State = TrainingRun.State
SUCCEEDED = {"status": "succeeded", "step": 9, "error": None}


@pytest.fixture
def run(project, present, snapshot) -> TrainingRun:
    """A queued run."""
    return queue_run(project, "sft", {}, snapshot=snapshot)


def test_the_oldest_is_claimed(project, run, snapshot):
    later = queue_run(project, "sft", {}, snapshot=snapshot)
    claimed = claim_run("one")
    assert (claimed, claimed.state, claimed.attempt, claimed.claimed_by) == (run, State.RUNNING, 1, "one")
    assert claimed.lease_until > timezone.now()
    assert claimed.started_at is not None
    assert claim_run("two") == later
    assert claim_run("three") is None


def test_claiming_takes_a_constant_number_of_queries(project, snapshot, run, django_assert_max_num_queries):
    for _ in range(5):
        queue_run(project, "sft", {}, snapshot=snapshot)
    with django_assert_max_num_queries(7):
        claim_run("one")


def test_a_follower_waits_for_its_predecessor(project, present):
    judge_pairs(project, 10)
    reward, dpo = queue_plan(project, [{"recipe": "reward"}, {"recipe": "dpo"}])
    assert claim_run("one") == reward
    assert claim_run("two") is None
    assert finish_run(reward, 1, SUCCEEDED)
    assert claim_run("two") == dpo


def test_followers_of_a_failed_run_are_cancelled(project, present):
    judge_pairs(project, 10)
    reward, dpo, ppo = queue_plan(project, [{"recipe": "reward"}, {"recipe": "dpo"}, {"recipe": "ppo"}])
    claim_run("one")
    assert fail_run(reward, 1, "stuck_loss", "The loss is stuck.")
    assert claim_run("one") is None
    dpo.refresh_from_db()
    ppo.refresh_from_db()
    assert (dpo.state, ppo.state) == (State.CANCELLED, State.CANCELLED)
    assert dpo.error_message == "Run 1 (reward), which this one follows, failed."


def test_claiming_cancels_followers_that_were_left_behind(project, present):
    judge_pairs(project, 10)
    reward, dpo = queue_plan(project, [{"recipe": "reward"}, {"recipe": "dpo"}])
    TrainingRun.objects.filter(pk=reward.pk).update(state=State.FAILED)
    assert claim_run("one") is None
    dpo.refresh_from_db()
    assert dpo.state == State.CANCELLED


def test_two_claimers_never_get_the_same_run(threaded_db, project, present, snapshot):
    wanted = {queue_run(project, "sft", {}, snapshot=snapshot).pk for _ in range(12)}
    claimed: list[int] = []
    errors: list[Exception] = []
    start = threading.Barrier(4)

    def claim(name: str) -> None:
        try:
            start.wait()
            for _ in range(100):
                run = claim_run(name)
                if run is not None:
                    claimed.append(run.pk)
                elif not TrainingRun.objects.filter(state=State.QUEUED).exists():
                    break
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=claim, args=(f"worker {index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(claimed) == sorted(wanted)
    assert set(TrainingRun.objects.values_list("attempt", flat=True)) == {1}


def test_numbers_are_given_once_under_contention(threaded_db, project, present, snapshot):
    errors: list[Exception] = []
    start = threading.Barrier(4)

    def queue() -> None:
        try:
            start.wait()
            for _ in range(5):
                queue_run(project, "sft", {}, snapshot=snapshot)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=queue) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(TrainingRun.objects.values_list("number", flat=True)) == list(range(1, 21))


def test_an_old_attempt_changes_nothing(project, run):
    claim_run("one")
    assert release_run(run, 1, "Stopped.")
    claim_run("two")
    before = TrainingRun.objects.values().get(pk=run.pk)
    assert not renew_lease(run, 1)
    assert not finish_run(run, 1, SUCCEEDED)
    assert not fail_run(run, 1, "crash", "late")
    assert not release_run(run, 1, "late")
    assert not give_up_attempt(run, 1, "late")
    assert TrainingRun.objects.values().get(pk=run.pk) == before
    assert RunEvent.objects.count() == 1
    assert renew_lease(run, 2)


def test_finish_stores_the_result(project, run):
    version = make_model_version(project)
    claim_run("one")
    assert finish_run(run, 1, SUCCEEDED, version)
    run.refresh_from_db()
    assert (run.state, run.step, run.result, run.model_version) == (State.SUCCEEDED, 9, SUCCEEDED, version)
    assert (run.lease_until, run.claimed_by) == (None, "")
    assert run.ended_at is not None
    assert not finish_run(run, 1, {"status": "failed"})


def test_finish_stores_the_error(run):
    claim_run("one")
    assert finish_run(run, 1, {"status": "failed", "error": {"code": "nan_loss", "message": "Not a number."}})
    run.refresh_from_db()
    assert (run.state, run.error_code, run.error_message) == (State.FAILED, "nan_loss", "Not a number.")


def test_a_released_run_waits_in_the_queue(run):
    claim_run("one")
    assert release_run(run, 1, "The trainer was stopped.")
    run.refresh_from_db()
    assert (run.state, run.attempt, run.claimed_by, run.lease_until) == (State.QUEUED, 1, "", None)
    assert run.events.get().data["message"] == "The trainer was stopped."
    assert claim_run("one").attempt == 2


def test_a_run_that_is_to_be_cancelled_is_not_released_but_cancelled(run, operator):
    claim_run("one")
    request_cancel(run, operator)
    assert release_run(run, 1, "The trainer was stopped.")
    run.refresh_from_db()
    assert run.state == State.CANCELLED


def test_a_run_whose_lease_ran_out_is_taken_back(run):
    claim_run("on another machine 1 2")
    assert reclaim_lost_runs() == []
    TrainingRun.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert reclaim_lost_runs() == [run]
    run.refresh_from_db()
    assert (run.state, run.attempt) == (State.QUEUED, 1)


def test_a_run_of_a_dead_trainer_on_this_machine_is_taken_back_at_once(run):
    with subprocess.Popen(["sleep", "60"]) as process:
        dead = worker_name(process.pid)
        claim_run(dead)
        assert reclaim_lost_runs() == []
        process.kill()
        process.wait()
    assert reclaim_lost_runs() == [run]


def test_a_run_of_a_living_trainer_is_left_alone(run):
    claim_run(worker_name())
    assert reclaim_lost_runs() == []


def test_a_process_with_a_used_again_id_is_not_taken_for_the_trainer(run):
    place = worker_name().rsplit(" ", 1)[0]
    claim_run(f"{place} 12345")
    assert str(os.getpid()) in place
    assert reclaim_lost_runs() == [run]


def test_attempts_without_progress_are_limited(run):
    for attempt in (1, 2):
        assert claim_run("one").attempt == attempt
        assert give_up_attempt(run, attempt, "It was killed.")
        run.refresh_from_db()
        assert run.state == State.QUEUED
    claim_run("one")
    assert give_up_attempt(run, 3, "It was killed.")
    run.refresh_from_db()
    assert (run.state, run.error_code) == (State.FAILED, "crash")
    assert run.error_message.startswith("It was killed. So did the attempts before: 3 in a row")
    assert claim_run("one") is None


@pytest.mark.parametrize("progress", ["checkpoint", "release"])
def test_progress_and_stops_start_the_count_again(run, progress):
    for attempt in range(1, 7):
        assert claim_run("one").attempt == attempt
        if attempt == 3 and progress == "checkpoint":
            RunEvent.objects.create(
                run=run, attempt=3, kind="checkpoint", step=50, happened_at=timezone.now()
            )
        if attempt == 3 and progress == "release":
            assert release_run(run, 3, "Stopped.")
            continue
        assert give_up_attempt(run, attempt, "It was killed.")
        run.refresh_from_db()
        assert run.state == (State.QUEUED if attempt < 6 else State.FAILED)


def test_a_lost_run_that_was_to_be_cancelled_is(run, operator):
    claim_run("one")
    request_cancel(run, operator)
    run.refresh_from_db()
    assert give_up_attempt(run, 1, "It was killed.")
    run.refresh_from_db()
    assert run.state == State.CANCELLED


def test_notes_are_events(run):
    claim_run("one")
    add_note(run, 1, "Something.")
    assert [(event.kind, event.data) for event in run.events.all()] == [("note", {"message": "Something."})]
