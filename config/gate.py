"""How many requests one web process works on at once.

Python runs one thread at a time. Threads that take turns in the middle of a request, some of them holding the
database's write lock, make everybody wait: eight at once took a third fewer answers of the desk than one
after another. So requests wait at a gate, first come, first served. What takes long by its nature passes by:
uploads, and the body of a streamed response, which is sent outside.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

UPLOAD_BYTES = 64 * 1024

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Gate:
    """A WSGI application that lets `places` requests at a time into another, first come, first served."""

    def __init__(self, application: Application, places: int) -> None:
        self.application = application
        self.free = places
        self.waiting: deque[threading.Lock] = deque()
        self.lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if is_upload(environ):
            return self.application(environ, start_response)
        with self.place():
            return self.application(environ, start_response)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Wait for one's turn; who leaves hands the place to the next in line: nobody is overtaken."""
        turn = None
        with self.lock:
            if self.free:
                self.free -= 1
            else:
                turn = threading.Lock()
                turn.acquire()
                self.waiting.append(turn)
        if turn is not None:
            turn.acquire()
        try:
            yield
        finally:
            with self.lock:
                if self.waiting:
                    self.waiting.popleft().release()
                else:
                    self.free += 1


def is_upload(environ: dict[str, Any]) -> bool:
    """Whether the request's body is longer than any form that is typed in; of unknown length is."""
    try:
        return int(environ.get("CONTENT_LENGTH") or 0) > UPLOAD_BYTES or "HTTP_TRANSFER_ENCODING" in environ
    except ValueError:
        return True
