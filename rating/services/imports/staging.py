"""The first pass over a file: every row read, checked, hashed and laid aside, before anything is stored.

A file with a fault never takes the database's write lock, and what is hashed and looked through here is
not again while that lock is held.
"""

from __future__ import annotations

import heapq
import json
import marshal
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, BinaryIO, NamedTuple

from django.conf import settings

from rating.models import Project, Prompt
from rating.services.imports.formats.base import Row
from rating.services.imports.opening import Bounds
from rating.services.imports.reading import Progress, read_rows
from rating.services.imports.reports import MAX_ERRORS, ImportReport, LineError
from rating.services.imports.rows import ImportRow, LeftOut, Read, Vote, check_json, stored_json
from rating.services.makers import names_maker
from rating.services.texts import Message, TextError, split_of

MAX_RAW = 100_000
PIECE_ROWS = 1000
PIECE_CHARACTERS = 4_000_000
HEAD = struct.Struct(">QQ")
dump_json = json.JSONEncoder(ensure_ascii=True).encode

StagedVote = tuple[str, int, str, int | None, list[list[int]] | None, int | None, float | None]
"""Rater, place of the item, choice, place of the preferred one, ranking, rating on the scale, time."""
StagedResponse = tuple[str, str, str, bool]
"""Text, its hash, the maker's name, whether the text names its maker."""


class Staged(NamedTuple):
    """A checked row in plain values: what the database is asked for and given."""

    line: int
    prompt_hash: str
    split: str
    messages: str
    metadata: str
    responses: list[StagedResponse]
    items: list[list[int]]
    votes: list[StagedVote]
    noted: list[str]


@dataclass
class Stage:
    """The checked rows, on disk, in pieces in the file's order; `count` of them.

    A piece holds rows of one run of PIECE_ROWS lines, whose number stands before it: two stages that
    share the runs of a file between them are read as one by these numbers.
    """

    file: Any = field(default_factory=lambda: tempfile.TemporaryFile(dir=staging_directory()))  # noqa: SIM115
    count: int = 0
    waiting: list[tuple[Any, ...]] = field(default_factory=list)
    characters: int = 0
    run: int = 0

    def add(self, row: Staged) -> None:
        run = row.line // PIECE_ROWS
        if run != self.run or self.characters >= PIECE_CHARACTERS:
            self.flush()
            self.run = run
        self.waiting.append(row)
        self.count += 1
        for response in row.responses:
            self.characters += len(response[0])
        self.characters += len(row.messages)

    def flush(self) -> None:
        """Write what waits as one piece."""
        if self.waiting:
            piece = marshal.dumps([tuple(row) for row in self.waiting])
            self.file.write(HEAD.pack(self.run, len(piece)))
            self.file.write(piece)
        self.waiting, self.characters = [], 0
        self.file.flush()

    def pieces(self) -> Iterator[tuple[int, list[Staged]]]:
        """Each piece with the number of its run."""
        self.flush()
        self.file.seek(0)
        while head := self.file.read(HEAD.size):
            run, length = HEAD.unpack(head)
            # Our own file of a moment ago, which has no name: nobody else writes there.
            yield run, [Staged._make(row) for row in marshal.loads(self.file.read(length))]  # noqa: S302

    def close(self) -> None:
        self.file.close()


@dataclass
class Staging:
    """All checked rows of a file, in one stage or in several that share it."""

    stages: list[Stage]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(stage.count for stage in self.stages)

    def pieces(self) -> Iterator[list[Staged]]:
        """The rows in the file's order, some at a time."""
        for _run, rows in heapq.merge(*(stage.pieces() for stage in self.stages), key=itemgetter(0)):
            yield rows

    def close(self) -> None:
        """Forget the rows."""
        for stage in self.stages:
            stage.close()


def staging_directory() -> str:
    """Where what is being imported lies for a while."""
    directory = settings.HOME / "imports"
    directory.mkdir(parents=True, exist_ok=True)
    return str(directory)


class Checker:
    """What the first pass needs besides the row: the project's split and scale, and its questions."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.questions: dict[str, list[str]] | None = None

    def stage(self, row: ImportRow) -> Staged:
        """The row in plain values. Raises TextError."""
        if row.question:
            row.messages = self.find_question(row.question, row.messages)
        if row.metadata:
            check_json(row.metadata, "metadata")
        responses = [(one.text, one.hash(), one.model, names_maker(one.text)) for one in row.responses]
        noted = list(row.noted)
        for response in responses:
            if response[3]:
                noted.append("names_maker")
                break
        return Staged(
            row.line,
            row.prompt_hash,
            split_of(row.messages, self.project.eval_percent).value,
            stored_json(row.messages),
            dump_json(row.metadata) if row.metadata else "{}",
            responses,
            row.items,
            [self.stage_vote(vote) for vote in row.votes] if row.votes else [],
            noted,
        )

    def stage_vote(self, vote: Vote) -> StagedVote:
        rating = vote.rating
        if rating is not None:
            low, high = self.project.scale_min, self.project.scale_max
            if isinstance(rating, bool):
                rating = high if rating else low
            elif not low <= rating <= high:
                raise TextError(f"rating: {rating} is outside the project's scale, {low} to {high}.")
        return vote.rater, vote.item, vote.choice, vote.preferred, vote.ranking, rating, vote.at

    def find_question(self, number: str, answers: list[Message]) -> list[Message]:
        """The turns of an imported question up to the one to be answered. Raises TextError."""
        if self.questions is None:
            self.questions = read_questions(self.project)
        turns = self.questions.get(number)
        if turns is None:
            raise TextError(
                f"question_id: {number[:60]!r} is no question of this project; import the questions first."
            )
        if len(answers) >= len(turns):
            raise TextError(f"choices: answers {len(answers) + 1} turns; the question has {len(turns)}.")
        messages: list[Message] = []
        for turn, answer in zip(turns, answers, strict=False):
            messages += [{"role": "user", "content": turn}, answer]
        return [*messages, {"role": "user", "content": turns[len(answers)]}]


def read_questions(project: Project) -> dict[str, list[str]]:
    """The turns of the project's numbered questions, by number; of two with the same the newer."""
    found = Prompt.objects.filter(project=project, metadata__has_key="turns").order_by("pk")
    return {
        str(metadata.get("question_id")): metadata["turns"]
        for metadata in found.values_list("metadata", flat=True).iterator()
    }


Mine = Callable[[int], bool]


def stage_rows(
    file: BinaryIO,
    read: Callable[[int, Row], Read],
    report: ImportReport,
    checker: Checker,
    stage: Stage,
    *,
    bounds: Bounds,
    mine: Mine | None = None,
    rejects: BinaryIO | None = None,
    progress: Progress | None = None,
) -> list[LineError]:
    """Check every row and lay the good ones aside; the report counts the rest.

    Args:
        mine: whether a row of this number is this process's part of the file.
        rejects: where bad rows go, a line of JSON each; without it reading stops after a few.

    Returns:
        The first errors, when rows may not be refused one by one; the last may be one of the whole file.
    """
    errors: list[LineError] = []
    try:
        for number, row in read_rows(file, bounds, progress, mine):
            report.rows += 1
            error = (
                row if isinstance(row, LineError) else stage_row(number, row, read, report, checker, stage)
            )
            if error is None:
                continue
            if rejects is not None:
                report.refuse(error)
                rejects.write(reject_line(error, row))
                continue
            errors.append(error)
            if len(errors) >= MAX_ERRORS:
                break
    except LineError as error:
        errors.append(error)
    stage.flush()
    return errors


def stage_row(
    number: int,
    row: Row,
    read: Callable[[int, Row], Read],
    report: ImportReport,
    checker: Checker,
    stage: Stage,
) -> LineError | None:
    """Check one row and lay it aside; the error when it cannot be taken."""
    try:
        made = read(number, row)
        rows = made if isinstance(made, list) else [made]
        staged = [checker.stage(one) for one in rows if isinstance(one, ImportRow)]
    except TextError as error:
        return LineError(number, str(error))
    for one in rows:
        if isinstance(one, LeftOut):
            report.leave_out(one.reason, number)
        elif one.ignored:
            report.ignore_fields(one.ignored, number)
            break  # the other parts of the row have the same fields
    for ready in staged:
        stage.add(ready)
    return None


def reject_line(error: LineError, row: Row | LineError) -> bytes:
    """A refused row with its line and the reason, as a line of JSON."""
    held: object = row
    if isinstance(row, LineError):
        held = row.raw[:MAX_RAW].decode(errors="backslashreplace") or None
    told = {"line": error.line, "reason": error.message, "row": held}
    return (json.dumps(told, ensure_ascii=True, default=str) + "\n").encode()
