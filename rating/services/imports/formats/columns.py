"""A table whose columns are named by hand: which is the prompt, which are responses, which the label."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

from rating.services.imports.formats.base import (
    Row,
    judged_pair,
    read_label,
    read_model,
    read_prompt,
    read_rater,
    read_reply,
)
from rating.services.imports.rows import ImportRow, LeftOut, Read, Response, Vote
from rating.services.items import MAX_COMPLETIONS
from rating.services.texts import TextError

TIES = {"tie", "0", "same", "equal"}
FIRST = {"1", "a", "first", "model_a", "left"}
SECOND = {"2", "b", "second", "model_b", "right"}
NAME = "columns"


@dataclass(frozen=True)
class Columns:
    """Which column is what; "" where there is none.

    Attributes:
        responses: columns of responses to be rated, or judged by `label`.
        label: for one response good or bad; for two which is better (1, 2 or 0 for a tie, or the column).
        model: the maker of the only response.
        rater: who judged.
    """

    prompt: str = ""
    responses: tuple[str, ...] = field(default_factory=tuple)
    chosen: str = ""
    rejected: str = ""
    label: str = ""
    model: str = ""
    rater: str = ""

    def check(self) -> None:
        """Refuse what does not fit together. Raises ValueError."""
        if not self.prompt:
            raise ValueError("prompt: name the column that holds the prompt.")
        if bool(self.chosen) != bool(self.rejected):
            raise ValueError(
                "rejected: name the columns of both the better and the worse response, or of neither."
            )
        if self.chosen and self.responses:
            raise ValueError("response: name responses, or the better and the worse one, not both.")
        if len(self.responses) > MAX_COMPLETIONS:
            raise ValueError(f"response: an item has at most {MAX_COMPLETIONS} responses.")
        if self.label and not 1 <= len(self.responses) <= 2:
            raise ValueError("label: labels one response or two; name their columns.")
        named = self.names()
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"The column {twice[0]!r} is named twice.")

    def names(self) -> list[str]:
        """All columns that are named."""
        others = (self.prompt, self.chosen, self.rejected, self.label, self.model, self.rater)
        return [*self.responses, *(name for name in others if name)]

    def to_json(self) -> dict[str, object]:
        """The columns as they are stored."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name))}

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> "Columns":
        """The columns as they were stored."""
        given = dict(stored)
        responses = given.pop("responses", ())
        assert isinstance(responses, list | tuple)
        return cls(responses=tuple(responses), **given)  # type: ignore[arg-type]  # texts, by to_json

    @classmethod
    def parse(cls, words: str) -> "Columns":
        """The columns of "prompt=question,response=a,response=b". Raises ValueError."""
        single: dict[str, str] = {}
        responses: list[str] = []
        known = [one.name for one in fields(cls) if one.name != "responses"]
        for part in filter(None, words.split(",")):
            role, _, column = (piece.strip() for piece in part.partition("="))
            if role == "response" and column:
                responses.append(column)
            elif role in known and column and role not in single:
                single[role] = column
            else:
                names = ", ".join(["response", *known])
                raise ValueError(
                    f"{part[:60]!r}: write ROLE=COLUMN, each role once but response; roles: {names}."
                )
        columns = cls(responses=tuple(responses), **single)
        columns.check()
        return columns


def reader_of(columns: Columns) -> Callable[[int, Row], Read]:
    """What reads rows by these columns."""
    columns.check()
    used = set(columns.names())

    def read(line: int, row: Row) -> Read:
        missing = next((name for name in (columns.prompt, columns.label) if name and name not in row), None)
        if missing is not None:
            raise TextError(f"{missing}: is missing; the columns named say that it is there.")
        prompt = read_prompt(row[columns.prompt], columns.prompt)
        made = ImportRow(line, prompt, ignored=row.keys() - used)
        return read_responses(made, row, columns)

    return read


def read_responses(made: ImportRow, row: Row, columns: Columns) -> Read:
    """Add the responses, and what the label says of them."""
    rater = "columns"
    if columns.rater and row.get(columns.rater) not in (None, ""):
        rater = read_rater("columns", row[columns.rater], columns.rater)
    if columns.chosen:
        sides = [read_reply(row.get(name), name) for name in (columns.chosen, columns.rejected)]
        return judged_pair(made, Response(sides[0]), Response(sides[1]), rater)
    model = read_model(row.get(columns.model), columns.model) if columns.model else ""
    given = [name for name in columns.responses if row.get(name) not in (None, "")]
    made.responses = [Response(read_reply(row[name], name), model) for name in given]
    made.items = [list(range(len(given)))] if given else []
    if len({response.text for response in made.responses}) < len(given):
        return LeftOut(made.line, "equal")
    label = row.get(columns.label) if columns.label else None
    if label not in (None, "") and len(given) == len(columns.responses):
        made.votes = [read_said(str(label), columns, rater)]
    return made


def read_said(label: str, columns: Columns, rater: str) -> Vote:
    """The vote that the label is."""
    if len(columns.responses) == 1:
        return Vote(rater, rating=read_label(label, columns.label))
    word = label.strip()
    if word in columns.responses:
        return Vote(rater, choice="prefer", preferred=columns.responses.index(word))
    word = word.lower()
    if word in TIES:
        return Vote(rater, choice="tie")
    if word in FIRST or word in SECOND:
        return Vote(rater, choice="prefer", preferred=int(word in SECOND))
    raise TextError(
        f"{columns.label}: expected 1, 2 or tie, or the name of a response's column; found {label[:40]!r}."
    )
