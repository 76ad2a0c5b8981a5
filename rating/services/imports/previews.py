"""A look at the first rows of a file as they will be shown, before anything is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from django.utils.translation import gettext as _

from rating.services.imports.formats import BY_NAME, recognise
from rating.services.imports.formats.base import Row
from rating.services.imports.formats.columns import NAME as COLUMNS
from rating.services.imports.formats.columns import Columns, reader_of
from rating.services.imports.importing import LOOKED_AT
from rating.services.imports.opening import Bounds
from rating.services.imports.reading import KINDS, find_kind, first_rows, read_rows
from rating.services.imports.reports import LEFT_OUT, LineError
from rating.services.imports.rows import ImportRow, LeftOut, Read, Vote
from rating.services.texts import Message, TextError, escape_unstorable

SHOWN = 3
MAX_COLUMNS = 200


@dataclass
class ShownResponse:
    """One response; `said` is what was said of it, in a word."""

    text: str
    model: str
    said: str = ""


@dataclass
class ShownRow:
    """A row as raters would see it, or why it is not taken."""

    number: int
    messages: list[Message] = field(default_factory=list)
    responses: list[ShownResponse] = field(default_factory=list)
    judged_by: list[str] = field(default_factory=list)
    fault: str = ""


@dataclass
class Preview:
    """What a file seems to be.

    Attributes:
        kind: what kind of file, for people; "" when it cannot be read.
        recognised: the name of the format that its rows are in; "" for none.
        columns: the names of the fields of the first rows.
        fault: why the file cannot be read at all.
    """

    kind: str = ""
    recognised: str = ""
    columns: list[str] = field(default_factory=list)
    rows: list[ShownRow] = field(default_factory=list)
    fault: str = ""


def look_at(
    file: BinaryIO, *, format_name: str = "auto", columns: Columns | None = None, max_bytes: int | None = None
) -> Preview:
    """The first rows, read in the format that is named or recognised. Never raises for what is in them."""
    bounds, preview = Bounds(max_bytes), Preview()
    try:
        preview.kind = KINDS[find_kind(file, bounds)]
        next(iter(read_rows(file, bounds)), None)
    except LineError as error:
        preview.fault = str(error)
        return preview
    rows = first_rows(file, LOOKED_AT, bounds)
    found = recognise([row for _number, row in rows])
    preview.recognised = found.name if found else ""
    names = dict.fromkeys(name for _number, row in rows for name in row if name == escape_unstorable(name))
    preview.columns = list(names)[:MAX_COLUMNS]
    read = reader_for(format_name, columns, preview.recognised)
    if read is not None:
        preview.rows = [show_row(number, row, read) for number, row in rows[:SHOWN]]
    return preview


def reader_for(
    format_name: str, columns: Columns | None, recognised: str
) -> Callable[[int, Row], Read] | None:
    """What reads the rows; None as long as nothing says how."""
    if format_name == COLUMNS:
        return reader_of(columns) if columns else None
    known = BY_NAME.get(recognised if format_name == "auto" else format_name)
    return known.read if known else None


def show_row(number: int, row: Row, read: Callable[[int, Row], Read]) -> ShownRow:
    """One row; of several prompts in it the first."""
    try:
        made: Any = read(number, row)
    except TextError as error:
        return ShownRow(number, fault=str(error))
    made = made[0] if isinstance(made, list) and made else made
    if isinstance(made, LeftOut):
        return ShownRow(number, fault=str(LEFT_OUT[made.reason]))
    if not isinstance(made, ImportRow):
        return ShownRow(number, fault=_("Nothing is in this row."))
    shown = ShownRow(number, made.messages)
    shown.responses = [ShownResponse(one.text, one.model) for one in made.responses]
    for vote in made.votes[:1]:
        say(vote, shown.responses)
    shown.judged_by = [vote.rater for vote in made.votes]
    return shown


def say(vote: Vote, responses: list[ShownResponse]) -> None:
    """Put what the vote says on the responses."""
    if vote.preferred is not None:
        responses[vote.preferred].said = _("preferred")
    elif vote.ranking is not None:
        for rank, group in enumerate(vote.ranking, start=1):
            for place in group:
                responses[place].said = _("rank %(rank)d") % {"rank": rank}
    elif vote.choice:
        for response in responses:
            response.said = _("equally good") if vote.choice == "tie" else _("both bad")
    elif vote.rating is not None and responses:
        words = {True: _("good"), False: _("bad")}
        thumbs = isinstance(vote.rating, bool)
        responses[0].said = (
            words[bool(vote.rating)] if thumbs else _("rated %(rating)d") % {"rating": vote.rating}
        )
