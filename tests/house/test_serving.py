"""Starting, watching and stopping processes, with real ones."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.conf import settings

from config.serving import (
    MAX_RESTARTS,
    Child,
    ServingError,
    choose_port,
    is_free,
    restart_ended,
    stop_all,
    wait_until,
)

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)",
]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_taken_port_is_refused_by_name_and_passed_over_otherwise():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free("127.0.0.1", port)
        with pytest.raises(ServingError, match=f"--port: {port} on 127.0.0.1 is taken"):
            choose_port("127.0.0.1", port, 8000)
        assert choose_port("127.0.0.1", None, port) > port


def test_stop_ends_children_that_listen_and_kills_those_that_do_not(monkeypatch):
    monkeypatch.setattr("config.serving.STOP_SECONDS", 0.5)
    said = []
    children = [Child("first", SLEEP), Child("second", DEAF), Child("third", SLEEP)]
    for child in children[:2]:
        child.start()
    time.sleep(0.3)
    stop_all(children, said.append)
    assert [child.process and child.process.returncode for child in children] == [-15, -9, None]
    assert len(said) == 1
    assert "second did not stop" in said[0]


def test_ended_child_is_started_again_until_it_is_too_much():
    said = []
    child = Child("worker", [sys.executable, "-c", "raise SystemExit(3)"])
    child.start()
    for _ in range(MAX_RESTARTS):
        child.process.wait()
        restart_ended([child], said.append)
    child.process.wait()
    with pytest.raises(ServingError, match="worker ended 6 times in a minute"):
        restart_ended([child], said.append)
    assert said == ["The worker ended with status 3; starting it again."] * MAX_RESTARTS


def test_what_a_killed_child_left_behind_goes_with_it():
    code = "import subprocess, time; subprocess.Popen(['sleep', '60']); time.sleep(60)"
    child = Child("parent", [sys.executable, "-c", code])
    child.start()
    left = Path(f"/proc/{child.process.pid}/task/{child.process.pid}/children")
    wait_for(lambda: left.read_text().split())
    grandchild = int(left.read_text().split()[0])
    child.process.kill()
    wait_for(lambda: child.end() is not None)
    wait_for(lambda: not is_alive(grandchild))


def test_waiting_ends_when_the_child_does():
    child = Child("server", [sys.executable, "-c", "raise SystemExit(4)"])
    child.start()
    with pytest.raises(ServingError, match="server ended with status 4 while starting"):
        wait_until(lambda: False, child, seconds=20)
    slow = Child("server", SLEEP)
    slow.start()
    with pytest.raises(ServingError, match="did not answer within 0 seconds"):
        wait_until(lambda: False, slow, seconds=0.2)
    stop_all([slow], print)


@pytest.mark.skipif(sys.platform != "linux", reason="the request to the kernel is Linux's")
def test_children_end_with_a_parent_that_is_killed():
    code = (
        "import time; from config.serving import Child; "
        f"child = Child('x', {SLEEP!r}); child.start(); print(child.process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=settings.BASE_DIR, stdout=subprocess.PIPE, text=True
    )
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not is_alive(pid))
