"""The first pass over a file: every row read, checked, hashed and laid aside, before anything is stored.

A file with a fault never takes the database's write lock, and what is hashed and looked through here is
not again while that lock is held.
"""

from __future__ import annotations

import json
import marshal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

from django.conf import settings

from rating.models import Project, Prompt
from rating.services.imports.formats.base import Row
from rating.services.imports.opening import Bounds
from rating.services.imports.reading import Progress, read_rows
from rating.services.imports.reports import MAX_ERRORS, ImportFailed, ImportReport, LineError
from rating.services.imports.rows import ImportRow, LeftOut, Read, Vote, check_json, stored_json
from rating.services.makers import names_maker
from rating.services.texts import Message, TextError, split_of

MAX_RAW = 100_000
PIECE_ROWS = 500
PIECE_CHARACTERS = 2_000_000
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
    """The checked rows, on disk, in the file's order; `count` of them."""

    file: Any = field(default_factory=lambda: tempfile.TemporaryFile(dir=staging_directory()))  # noqa: SIM115
    count: int = 0
    waiting: list[tuple[Any, ...]] = field(default_factory=list)
    characters: int = 0

    def add(self, row: Staged) -> None:
        self.waiting.append(tuple(row))
        self.count += 1
        self.characters += len(row.messages) + sum(len(response[0]) for response in row.responses)
        if len(self.waiting) >= PIECE_ROWS or self.characters >= PIECE_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Write what waits, as one piece with its length before it."""
        piece = marshal.dumps(self.waiting)
        self.file.write(len(piece).to_bytes(8, "big"))
        self.file.write(piece)
        self.waiting, self.characters = [], 0

    def __iter__(self) -> Iterator[Staged]:
        self.flush()
        self.file.seek(0)
        while head := self.file.read(8):
            # Our own file of a moment ago, which has no name: nobody else writes there.
            piece = marshal.loads(self.file.read(int.from_bytes(head, "big")))  # noqa: S302
            yield from map(Staged._make, piece)

    def close(self) -> None:
        self.file.close()


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
        return Staged(
            row.line,
            row.prompt_hash,
            split_of(row.messages, self.project.eval_percent).value,
            stored_json(row.messages),
            dump_json(row.metadata) if row.metadata else "{}",
            [(one.text, one.hash(), one.model, names_maker(one.text)) for one in row.responses],
            row.items,
            [self.stage_vote(vote) for vote in row.votes] if row.votes else [],
            list(row.noted),
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


def stage_file(
    project: Project,
    file: BinaryIO,
    read: Callable[[int, Row], Read],
    report: ImportReport,
    *,
    bounds: Bounds,
    rejects: BinaryIO | None = None,
    progress: Progress | None = None,
) -> Stage:
    """Check every row and lay the good ones aside; the report counts the rest.

    Args:
        rejects: where bad rows go, a line of JSON each; without it a file with one is refused.

    Raises:
        ImportFailed: with the first errors.
    """
    stage, checker = Stage(), Checker(project)
    errors: list[LineError] = []
    try:
        for number, row in read_rows(file, bounds, progress):
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
    except BaseException:
        stage.close()
        raise
    if errors:
        stage.close()
        raise ImportFailed(errors)
    return stage


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
