"""A JSON document: an array of objects, or an object that has such a list; read a piece at a time."""

import codecs
import io
import json
from collections.abc import Iterator
from typing import Any

from rating.services.imports.jsonl import DECODER, MAX_LINE, Rows
from rating.services.imports.reports import LineError

PIECE = 1 << 16
SPACE = " \t\n\r"
LIST_OF_ROWS = "a JSON file holds an array of objects, or an object that has such a list"


class Scanner:
    """The text of a document with a place in it; what lies before the place is forgotten."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self.stream = stream
        self.decode = codecs.getincrementaldecoder("utf-8")()
        self.text = ""
        self.at = 0
        self.line = 1
        self.row = 1
        self.ended = False

    def more(self, size: int = PIECE) -> bool:
        """Read on; False at the end of the file."""
        if self.ended:
            return False
        self.line += self.text.count("\n", 0, self.at)
        self.text, self.at = self.text[self.at :], 0
        raw = self.stream.read(size)
        try:
            self.text += self.decode.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            raise self.fault(f"is not UTF-8 near here ({error.reason}); save the file so.") from None
        self.ended = not raw
        return not self.ended

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in SPACE:
                    return self.text[self.at]
                self.at += 1
            if not self.more():
                return ""

    def take(self, wanted: str) -> None:
        """Step over one character. Raises LineError when another stands there."""
        found = self.peek()
        if found != wanted:
            if not found:
                raise self.fault("the file is cut off here; get the whole file again.")
            raise self.fault(f"is not valid JSON (expected {wanted}, found {found!r}); {LIST_OF_ROWS}.")
        self.at += 1

    def value(self) -> Any:
        """The next JSON value. Raises LineError."""
        self.peek()
        size = PIECE
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if len(self.text) - self.at > MAX_LINE:
                    raise self.fault(self.too_long_or(error)) from None
                # Twice as much each time: a long value is looked through a few times, not a thousand.
                if not self.more(size):
                    raise self.cut_or_wrong(error) from None
                size *= 2
            except (ValueError, RecursionError) as error:
                raise self.fault(f"is not valid JSON ({error}).") from None
            else:
                self.at = end
                return value

    def too_long_or(self, error: json.JSONDecodeError) -> str:
        if error.pos - self.at > MAX_LINE // 2 or "Unterminated" in error.msg:
            return f"is longer than {MAX_LINE:,} characters; split what it holds into rows."
        return f"is not valid JSON ({error.msg}, line {self.line_of(error.pos):,})."

    def cut_or_wrong(self, error: json.JSONDecodeError) -> LineError:
        if error.pos >= len(self.text.rstrip()) or "Unterminated" in error.msg:
            return self.fault("the file is cut off here; get the whole file again.")
        return self.fault(f"is not valid JSON ({error.msg}, line {self.line_of(error.pos):,}).")

    def line_of(self, position: int) -> int:
        return self.line + self.text.count("\n", 0, position)

    def fault(self, words: str) -> LineError:
        """The error at the present row."""
        return LineError(self.row, words, unit="row")


def read_json(stream: io.BufferedReader) -> Rows:
    """Each object of the document's list as (row number from 1, object), or the error in its place.

    Raises:
        LineError: the document cannot be read any further.
    """
    scanner = Scanner(stream)
    if scanner.peek() == "[":
        yield from read_list(scanner)
    else:
        yield from read_object(scanner)
    if scanner.peek():
        raise scanner.fault("something follows after the end of the document; remove it.")


def read_list(scanner: Scanner) -> Rows:
    """The objects of an array, one at a time."""
    scanner.take("[")
    if scanner.peek() == "]":
        scanner.take("]")
        return
    while True:
        if not scanner.peek():
            scanner.take("]")
        value = scanner.value()
        if isinstance(value, dict):
            yield scanner.row, value
        else:
            words = f"holds {type(value).__name__}; {LIST_OF_ROWS}."
            yield scanner.row, scanner.fault(words)
        scanner.row += 1
        if scanner.peek() != ",":
            break
        scanner.take(",")
    scanner.take("]")


def read_object(scanner: Scanner) -> Rows:
    """The rows of the first list of objects in an object; what stands beside it is passed over."""
    scanner.take("{")
    found = False
    while scanner.peek() != "}":
        key = scanner.value()
        scanner.take(":")
        if not found and scanner.peek() == "[" and holds_objects(scanner):
            found = True
            yield from read_list(scanner)
        elif not isinstance(key, str):
            raise scanner.fault(f"is not valid JSON (a name is a text); {LIST_OF_ROWS}.")
        else:
            scanner.value()
        if scanner.peek() == ",":
            scanner.take(",")
        elif scanner.peek() != "}":
            scanner.take("}")
    scanner.take("}")
    if not found:
        raise LineError(None, f"The file has no rows; {LIST_OF_ROWS}.")


def holds_objects(scanner: Scanner) -> bool:
    """Whether the list that begins here begins with an object."""
    while True:
        rest = scanner.text[scanner.at + 1 :].lstrip(SPACE)
        if rest:
            return rest[0] == "{"
        if not scanner.more():
            return False


def iter_values(rows: Rows) -> Iterator[dict[str, Any]]:
    """The rows that could be read."""
    for _, row in rows:
        if not isinstance(row, LineError):
            yield row
