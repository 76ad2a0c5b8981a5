import threading

import pytest

from config.gate import UPLOAD_BYTES, Gate


class Busy:
    """An application that notes who comes in, and lets nobody out before it is told."""

    def __init__(self):
        self.inside, self.most, self.came = 0, 0, []
        self.lock, self.leave = threading.Lock(), threading.Semaphore(0)

    def __call__(self, environ, start_response):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.came.append(environ["PATH_INFO"])
        assert self.leave.acquire(timeout=30)
        with self.lock:
            self.inside -= 1
        return [b"done"]


def start(gate, *paths, **environ):
    threads = []
    for path in paths:
        thread = threading.Thread(target=gate, args=({"PATH_INFO": path, **environ}, None), daemon=True)
        waiting = len(gate.waiting)
        thread.start()
        threads.append(thread)
        until(lambda thread=thread, waiting=waiting: len(gate.waiting) > waiting or gate.application.inside)
    return threads


def until(condition):
    for _ in range(3000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("waited in vain")


def test_requests_come_in_one_by_one_in_their_order():
    busy = Busy()
    gate = Gate(busy, 1)
    threads = start(gate, "first")
    for number, path in enumerate(["second", "third", "fourth"], start=1):
        threads += start(gate, path)
        until(lambda number=number: len(gate.waiting) == number)
    busy.leave.release(4)
    for thread in threads:
        thread.join(30)
    assert busy.came == ["first", "second", "third", "fourth"]
    assert (busy.most, gate.free) == (1, 1)


@pytest.mark.parametrize(
    "environ",
    [
        {"CONTENT_LENGTH": str(UPLOAD_BYTES + 1)},
        {"CONTENT_LENGTH": "much"},
        {"HTTP_TRANSFER_ENCODING": "chunked"},
    ],
    ids=["long", "unclear", "chunked"],
)
def test_an_upload_passes_by(environ):
    busy = Busy()
    gate = Gate(busy, 1)
    threads = start(gate, "page")
    threads += start(gate, "upload", **environ)
    until(lambda: busy.inside == 2)
    busy.leave.release(2)
    for thread in threads:
        thread.join(30)
    assert gate.free == 1


def test_an_error_gives_the_place_back():
    def broken(environ, start_response):
        raise ValueError("broken")

    gate = Gate(broken, 1)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"):
            gate({"PATH_INFO": "/"}, None)
    assert gate.free == 1
