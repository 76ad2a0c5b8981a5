"""A client of Ratchet's API: import a file, freeze a snapshot, load it, start and follow a run.

    project = Ratchet("https://ratchet.example", token).project("kind-answers")
    project.import_file("pairs.jsonl")
    snapshot = project.freeze()
    dataset = project.dataset(snapshot["number"], split="train")
    for event in project.follow(project.start_run("dpo", snapshot=snapshot["number"])["number"]):
        print(event["kind"], event["step"])

It needs nothing but Python; `dataset` needs datasets and `frame` pandas.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import datasets
    import pandas

__all__ = ["ApiError", "Project", "Ratchet"]

Json = dict[str, Any]
PIECE = 1 << 20
IMPORT_ENDS = ("succeeded", "refused", "failed", "cancelled", "uploaded")
RUN_ENDS = ("succeeded", "failed", "cancelled")


class ApiError(Exception):
    """The server refused: `status`, and `errors` as [{"field": ..., "message": ...}, ...]."""

    def __init__(self, status: int, detail: str, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(f"{status}: {detail}")
        self.status, self.detail, self.errors = status, detail, errors or []


class StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the token is for one server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


OPENER = urllib.request.build_opener(StayHere)


@dataclass(frozen=True)
class Ratchet:
    """A server and a token for it; `timeout` in seconds for each answer."""

    url: str
    token: str = field(repr=False)
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if urllib.parse.urlsplit(self.url).scheme not in ("http", "https"):
            raise ValueError(f"url: {self.url!r} begins with neither http:// nor https://.")

    def project(self, slug: str) -> Project:
        """The project of this address; nothing is asked yet."""
        return Project(self, slug)

    def projects(self) -> Iterator[Json]:
        """The projects that the token opens."""
        return self.pages("projects/")

    def ask(self, method: str, path: str, body: Json | None = None, **query: Any) -> Any:
        """The JSON that the server answers. Raises ApiError."""
        data = None if body is None else json.dumps(body).encode()
        with self.open(method, path, data, "application/json", query) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def pages(self, path: str, **query: Any) -> Iterator[Json]:
        """The rows of a list, page by page."""
        while True:
            page = self.ask("GET", path, **query)
            yield from page["results"]
            if page["next"] is None:
                return
            query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(page["next"]).query))

    def open(
        self,
        method: str,
        path: str,
        data: bytes | Iterable[bytes] | None = None,
        kind: str = "",
        query: Json | None = None,
        length: int | None = None,
    ) -> Any:
        """The open answer. Raises ApiError."""
        words = {name: value for name, value in (query or {}).items() if value is not None}
        address = f"{self.url.rstrip('/')}/api/{path}"
        address += f"?{urllib.parse.urlencode(words)}" if words else ""
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        if data is not None:
            headers["Content-Type"] = kind
        if length is not None:
            headers["Content-Length"] = str(length)
        request = urllib.request.Request(address, data, headers, method=method)  # noqa: S310 - checked above
        try:
            return OPENER.open(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            refuse(error)


def refuse(error: urllib.error.HTTPError) -> NoReturn:
    """Raise the ApiError that the answer tells."""
    with error:
        text = error.read()
    try:
        problem = json.loads(text)
    except ValueError:
        problem = {}
    raise ApiError(error.code, problem.get("detail", error.reason), problem.get("errors")) from None


@dataclass(frozen=True)
class Project:
    """A project of the server."""

    server: Ratchet
    slug: str

    def path(self, rest: str) -> str:
        return f"projects/{self.slug}/{rest}"

    def import_file(
        self, path: str | Path, *, wait: bool = True, poll: float = 1.0, **options: str | bool
    ) -> Json:
        """Upload a file and have it taken in; `format`, `keep_good` and `dry_run` as in the API.

        Returns the import: at its end with `wait`, else as it is queued.
        Raises ApiError; what became of the file is in `state`, `report` and `errors`.
        """
        path = Path(path)
        head, tail, kind = frame_upload(path.name, options)
        size = len(head) + path.stat().st_size + len(tail)
        pieces = read_pieces(path, head, tail)
        with self.server.open("POST", self.path("imports/"), pieces, kind, length=size) as answer:
            row: Json = json.loads(answer.read())
        while wait and row["state"] not in IMPORT_ENDS:
            time.sleep(poll)
            row = self.server.ask("GET", self.path(f"imports/{row['id']}/"))
        return row

    def freeze(self, **query: Any) -> Json:
        """Freeze a snapshot of what the query lets in, such as `rows="majority"`."""
        frozen: Json = self.server.ask("POST", self.path("snapshots/"), {"query": query})
        return frozen

    def rows(self, snapshot: int, *, fmt: str = "trl-preference", split: str | None = None) -> Iterator[Json]:
        """The snapshot's rows in a format, as they arrive."""
        wanted = {"format": fmt, "split": split, "file": "jsonl"}
        path = self.path(f"snapshots/{snapshot}/download/")
        with self.server.open("GET", path, query=wanted) as answer:
            for line in answer:
                yield json.loads(line)

    def dataset(self, snapshot: int, **wanted: Any) -> datasets.Dataset:
        """The rows as a `datasets.Dataset`, in memory; `fmt` and `split` as in `rows`."""
        import datasets

        return datasets.Dataset.from_list(list(self.rows(snapshot, **wanted)))

    def frame(self, snapshot: int, **wanted: Any) -> pandas.DataFrame:
        """The rows as a pandas frame; `fmt` and `split` as in `rows`."""
        import pandas

        return pandas.DataFrame(list(self.rows(snapshot, **wanted)))

    def start_run(
        self,
        recipe: str,
        settings: Json | None = None,
        *,
        snapshot: int | None = None,
        after: int | None = None,
    ) -> Json:
        """Queue a run; without a snapshot a new one is frozen."""
        body = {"recipe": recipe, "settings": settings or {}, "snapshot": snapshot, "after": after}
        body = {name: value for name, value in body.items() if value is not None}
        run: Json = self.server.ask("POST", self.path("runs/"), body)
        return run

    def run(self, number: int) -> Json:
        """How the run stands."""
        run: Json = self.server.ask("GET", self.path(f"runs/{number}/"))
        return run

    def follow(self, number: int, *, poll: float = 2.0) -> Iterator[Json]:
        """The run's events as they happen, until it has ended."""
        since = 0
        while True:
            ended = self.run(number)["state"] in RUN_ENDS
            for event in self.server.pages(self.path(f"runs/{number}/events/"), since=since):
                since = event["id"]
                yield event
            if ended:
                return
            time.sleep(poll)


def frame_upload(name: str, options: dict[str, str | bool]) -> tuple[bytes, bytes, str]:
    """What comes before and after the file in multipart/form-data, and the content type."""
    mark = uuid.uuid4().hex
    words = {key: str(value).lower() if isinstance(value, bool) else value for key, value in options.items()}
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in words.items()
    ]
    told = urllib.parse.quote(name)
    parts.append(
        f"--{mark}\r\nContent-Disposition: form-data; name=\"file\"; filename*=UTF-8''{told}\r\n"
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return "".join(parts).encode(), f"\r\n--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


def read_pieces(path: Path, head: bytes, tail: bytes) -> Iterator[bytes]:
    """The body, never all of it in memory."""
    yield head
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece
    yield tail
