"""Trainer processes: names and heartbeats."""

import json
import subprocess
import time

from training.services.workers import (
    heartbeat_path,
    is_known_dead,
    remove_heartbeat,
    sweep_heartbeats,
    trainer_status,
    worker_name,
    write_heartbeat,
)


def test_this_process_lives():
    assert worker_name() == worker_name()
    assert not is_known_dead(worker_name())


def test_a_process_that_is_gone_is_known_dead():
    with subprocess.Popen(["sleep", "60"]) as process:
        name = worker_name(process.pid)
        assert not is_known_dead(name)
        process.kill()
        while name == worker_name(process.pid):
            time.sleep(0.001)
        assert is_known_dead(name), "also while it is a zombie"
    assert is_known_dead(name)


def test_nothing_is_known_of_other_machines():
    place, pid, start = worker_name().rsplit(" ", 2)
    assert not is_known_dead(f"elsewhere {pid} {start}")
    assert not is_known_dead("")
    assert not is_known_dead("one")
    assert is_known_dead(f"{place} {pid} 1")


def test_no_trainer():
    assert not trainer_status().running
    assert trainer_status().seen_at is None


def test_a_trainer_is_seen_until_it_stops():
    write_heartbeat(worker_name(), run_id=7)
    status = trainer_status()
    assert (status.running, status.run_id, status.worker) == (True, 7, worker_name())
    remove_heartbeat(worker_name())
    assert trainer_status().seen_at is None


def test_a_stale_heartbeat_is_no_trainer():
    write_heartbeat("elsewhere 1 2", good_for=-1)
    status = trainer_status()
    assert not status.running
    assert status.seen_at is not None


def test_the_living_one_counts():
    write_heartbeat(worker_name())
    write_heartbeat("elsewhere 1 2", good_for=-1)
    assert trainer_status().worker == worker_name()


def test_what_a_killed_trainer_left_is_not_believed_and_swept():
    dead = f"{worker_name().rsplit(' ', 1)[0]} 1"
    write_heartbeat(dead, good_for=1000)
    write_heartbeat("elsewhere 1 2")
    assert trainer_status().worker == "elsewhere 1 2"
    sweep_heartbeats()
    assert not heartbeat_path(dead).exists()
    assert heartbeat_path("elsewhere 1 2").exists()


def test_a_damaged_heartbeat_is_passed_over():
    write_heartbeat("elsewhere 1 2")
    heartbeat_path("broken").write_text("{")
    heartbeat_path("odd").write_text(json.dumps({"worker": "odd", "time": "now"}))
    assert trainer_status().worker == "elsewhere 1 2"
