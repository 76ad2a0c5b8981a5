"""What an import says afterwards: what went in, what was left out and why, what was wrong."""

from dataclasses import dataclass, field

FIRST_LINES = 5
MAX_ERRORS = 20

LEFT_OUT = {
    "equal": "Both responses are the same, so nothing was preferred",
    "differs_earlier": "The two conversations differ before the last turn",
    "no_response": "A conversation ends with the human, so there is no response",
    "repeated": "Repeats an earlier line of the file",
    "known": "Was in the project before",
    "contradiction": "The same two responses with the opposite preference; the first stands",
}
NOTED = {
    "stray_turn": "Taken with turns of the same speaker in a row joined into one",
    "empty_turn": "Taken with an empty turn in the conversation",
    "empty_response": "Taken with an empty response on one side",
    "opens_with_assistant": "Taken although the assistant opens the conversation",
    "same_response": "Taken with a response that the row gives twice kept once",
    "names_maker": "Taken although a response names its own maker, so that raters may know who wrote it",
}


class LineError(ValueError):
    """A line that cannot be taken: which line, which field, what is wrong and what would be right.

    `line` is None when the fault is the file's as a whole.
    """

    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message if line is None else f"line {line:,}: {message}")
        self.line = line
        self.message = message


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


@dataclass
class ImportReport:
    """The counts of an import: `rows` is `taken` plus everything left out.

    `fields_ignored` are fields that the format does not know, by name. `dry_run` says nothing was kept.
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

    def leave_out(self, reason: str, line: int) -> None:
        """Count a row that was not taken; `reason` is a key of LEFT_OUT."""
        self.left_out.setdefault(reason, Tally()).add(line)

    def note(self, remark: str, line: int) -> None:
        """Count a row that was taken with a remark, a key of NOTED."""
        self.noted.setdefault(remark, Tally()).add(line)

    def ignore_fields(self, names: set[str], line: int) -> None:
        """Count fields that were not read; of a file with thousands of names the first hundred are named."""
        for raw in sorted(names):
            name = raw[:60].encode(errors="backslashreplace").decode()
            if name in self.fields_ignored or len(self.fields_ignored) < 100:
                self.fields_ignored.setdefault(name, Tally()).add(line)

    @property
    def rows_left_out(self) -> int:
        """Rows that were not taken, for any reason."""
        return sum(tally.count for tally in self.left_out.values())

    def remarks(self) -> list[tuple[str, Tally]]:
        """Everything to be told besides the counts, in words: left out first, then taken with a remark."""
        words = [(f"{LEFT_OUT[key]} (left out)", tally) for key, tally in self.left_out.items()]
        words += [(NOTED[key], tally) for key, tally in self.noted.items()]
        words += [(f"Field not imported: {key}", tally) for key, tally in self.fields_ignored.items()]
        return words
