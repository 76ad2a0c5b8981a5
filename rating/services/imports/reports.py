"""What an import says afterwards: what went in, what was left out and why, what was wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from rating.services.texts import escape_unstorable

FIRST_LINES = 5
MAX_ERRORS = 20

LEFT_OUT: dict[str, str | Promise] = {
    "equal": gettext_lazy("Both responses are the same, so nothing was preferred"),
    "differs_earlier": gettext_lazy("The two conversations differ before the last turn"),
    "no_response": gettext_lazy("A conversation ends with the human, so there is no response"),
    "repeated": gettext_lazy("Repeats an earlier line of the file"),
    "known": gettext_lazy("Was in the project before"),
    "contradiction": gettext_lazy("The same responses, judged otherwise by the same rater; the first stands"),
    "refused": gettext_lazy("Has a fault; see the file of refused rows"),
}
NOTED: dict[str, str | Promise] = {
    "stray_turn": gettext_lazy("Taken with turns of the same speaker in a row joined into one"),
    "empty_turn": gettext_lazy("Taken with an empty turn in the conversation"),
    "empty_response": gettext_lazy("Taken with an empty response on one side"),
    "opens_with_assistant": gettext_lazy("Taken although the assistant opens the conversation"),
    "not_text": gettext_lazy("Taken with a response that is a number or true or false, written as a text"),
    "same_response": gettext_lazy("Taken with a response that the row gives twice kept once"),
    "names_maker": gettext_lazy(
        "Taken although a response names its own maker, so that raters may know who wrote it"
    ),
}


class LineError(ValueError):
    """A line that cannot be taken: which line, which field, what is wrong and what would be right.

    `line` is None when the fault is the file's as a whole; `unit` is `row` in files without lines. `raw` is
    what stands there, when it could not be read as a row.
    """

    def __init__(self, line: int | None, message: str, *, unit: str = "line", raw: bytes = b"") -> None:
        message = escape_unstorable(message)
        super().__init__(message if line is None else f"{unit} {line:,}: {message}")
        self.line = line
        self.message = message
        self.unit = unit
        self.raw = raw


class ImportFailed(Exception):
    """Nothing was imported. `errors` are the first 20 of the file; `more` says that reading stopped there."""

    def __init__(self, errors: list[LineError]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.errors = errors
        self.more = len(errors) >= MAX_ERRORS


@dataclass
class Tally:
    """How many rows, and the numbers of the first lines among them."""

    count: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, line: int) -> None:
        """Count one more row."""
        self.count += 1
        if len(self.lines) < FIRST_LINES:
            self.lines.append(line)

    def join(self, other: Tally) -> None:
        """Add what was counted elsewhere."""
        self.count += other.count
        self.lines = sorted([*self.lines, *other.lines])[:FIRST_LINES]


@dataclass
class ImportReport:
    """The counts of an import: `rows` is `taken` plus everything left out.

    `fields_ignored` are fields that the format does not know, by name. `dry_run` says nothing was kept.
    `errors` are the first faults among rows that were refused while the good ones were taken.
    """

    format: str
    dry_run: bool = False
    rows: int = 0
    taken: int = 0
    prompts: int = 0
    completions: int = 0
    items: int = 0
    judgments: int = 0
    left_out: dict[str, Tally] = field(default_factory=dict)
    noted: dict[str, Tally] = field(default_factory=dict)
    fields_ignored: dict[str, Tally] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def refuse(self, error: LineError) -> None:
        """Count a row that was refused although others are taken."""
        self.leave_out("refused", error.line or 0)
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(str(error))

    def add(self, other: ImportReport) -> None:
        """Add the counts of another part of the same import, whose lines follow."""
        for name in ("rows", "taken", "prompts", "completions", "items", "judgments"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("left_out", "noted", "fields_ignored"):
            mine: dict[str, Tally] = getattr(self, name)
            for key, tally in getattr(other, name).items():
                mine.setdefault(key, Tally()).join(tally)
        self.errors = [*self.errors, *other.errors][:MAX_ERRORS]

    def to_json(self) -> dict[str, Any]:
        """The report as it is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ImportReport:
        """The report as it was stored."""
        report = cls(**stored)
        for name in ("left_out", "noted", "fields_ignored"):
            setattr(report, name, {key: Tally(**tally) for key, tally in getattr(report, name).items()})
        return report

    def leave_out(self, reason: str, line: int) -> None:
        """Count a row that was not taken; `reason` is a key of LEFT_OUT."""
        self.left_out.setdefault(reason, Tally()).add(line)

    def note(self, remark: str, line: int) -> None:
        """Count a row that was taken with a remark, a key of NOTED."""
        self.noted.setdefault(remark, Tally()).add(line)

    def ignore_fields(self, names: set[str], line: int) -> None:
        """Count fields that were not read; of a file with thousands of names the first hundred are named."""
        for raw in sorted(names):
            name = escape_unstorable(raw[:60])
            if name in self.fields_ignored or len(self.fields_ignored) < 100:
                self.fields_ignored.setdefault(name, Tally()).add(line)

    @property
    def rows_left_out(self) -> int:
        """Rows that were not taken, for any reason."""
        return sum(tally.count for tally in self.left_out.values())

    def remarks(self) -> list[tuple[str, Tally]]:
        """Everything to be told besides the counts, in words: left out first, then taken with a remark."""
        words = [(_("%(what)s (left out)") % {"what": LEFT_OUT[key]}, t) for key, t in self.left_out.items()]
        words += [(str(NOTED[key]), tally) for key, tally in self.noted.items()]
        ignored = self.fields_ignored.items()
        words += [(_("Field not imported: %(name)s") % {"name": name}, tally) for name, tally in ignored]
        return words
