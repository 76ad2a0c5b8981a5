"""Processes that belong together: started, watched and stopped as one. What `manage.py up` stands on."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

# Loaded here: between fork and exec nothing may be loaded.
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
MAX_RESTARTS = 5
RESTART_WINDOW_SECONDS = 60.0
STOP_SECONDS = 8.0
PORTS_TRIED = 20


class ServingError(Exception):
    """What stands in the way of serving, in words for the person at the console."""


@dataclass
class Child:
    """A process of ours in a group of its own, so that Ctrl-C reaches us alone and we stop it in order."""

    name: str
    command: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    deaths: list[float] = field(default_factory=list)

    def start(self) -> None:
        self.process = subprocess.Popen(  # noqa: S603  # our own command, never a shell
            self.command,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self.environment},
            start_new_session=True,
            preexec_fn=end_with_parent if sys.platform == "linux" else None,
        )

    def end(self) -> int | None:
        """The exit status when it has ended by itself; what it left behind in its group is killed."""
        assert self.process is not None
        status = self.process.poll()
        if status is not None:
            self.signal_group(signal.SIGKILL)
        return status

    def signal_group(self, number: signal.Signals) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def died_too_often(self, now: float) -> bool:
        """Note a death; true when there were more than MAX_RESTARTS within the last minute."""
        self.deaths = [at for at in self.deaths if now - at < RESTART_WINDOW_SECONDS] + [now]
        return len(self.deaths) > MAX_RESTARTS


def end_with_parent() -> None:
    """Ask Linux to stop this process when its parent dies, however it dies."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def check_host(host: str, *, loopback_only: bool) -> str:
    """The address to listen on.

    Raises:
        ServingError: not an IP address or `localhost`; or one that others can reach although only loopback
            is allowed.
    """
    name = "127.0.0.1" if host == "localhost" else host
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        raise ServingError(
            f"--host: {host!r} is not an IP address; use for example 127.0.0.1, or 0.0.0.0 for all."
        ) from None
    if loopback_only and not address.is_loopback:
        raise ServingError(
            f"--host: demo mode serves this machine alone, and {host} can be reached by others. Leave --host "
            "out, or run without RATCHET_DEMO and with a SECRET_KEY."
        )
    return name


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens there yet."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def choose_port(host: str, wanted: int | None, default: int) -> int:
    """The wanted port, or the first free one from the default on.

    Raises:
        ServingError: the wanted port is taken, or all that were tried are.
    """
    if wanted is not None:
        if not is_free(host, wanted):
            raise ServingError(f"--port: {wanted} on {host} is taken (or not allowed); choose another.")
        return wanted
    for port in range(default, default + PORTS_TRIED):
        if is_free(host, port):
            return port
    raise ServingError(f"Ports {default} to {default + PORTS_TRIED - 1} are all taken; name one with --port.")


def answers(host: str, port: int, path: str, host_header: str) -> bool:
    """Whether a page is served there now."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path, headers={"Host": host_header})
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_until(ready: Callable[[], bool], child: Child, *, seconds: float) -> None:
    """Wait until the child is ready.

    Raises:
        ServingError: it ended first, or the time is over.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        status = child.end()
        if status is not None:
            raise ServingError(f"The {child.name} ended with status {status} while starting; see above.")
        if time.monotonic() > deadline:
            raise ServingError(f"The {child.name} did not answer within {seconds:.0f} seconds.")
        time.sleep(0.1)


def restart_ended(children: Sequence[Child], say: Callable[[str], None]) -> None:
    """Start again what has ended.

    Raises:
        ServingError: one ends again and again.
    """
    for child in children:
        status = child.end()
        if status is None:
            continue
        if child.died_too_often(time.monotonic()):
            raise ServingError(
                f"The {child.name} ended {MAX_RESTARTS + 1} times in a minute (status {status}); see above."
            )
        say(f"The {child.name} ended with status {status}; starting it again.")
        child.start()


def stop_all(children: Sequence[Child], say: Callable[[str], None]) -> None:
    """Ask all to stop, wait a few seconds, kill what is left."""
    started = [child for child in children if child.process is not None]
    for child in started:
        assert child.process is not None
        if child.process.poll() is None:
            child.process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for child in started:
        assert child.process is not None
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            say(f"The {child.name} did not stop within {STOP_SECONDS:.0f} seconds; killing it.")
        child.signal_group(signal.SIGKILL)
        child.process.wait()
