"""One row of a file, checked: what the formats are turned into before anything is stored."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from json.encoder import encode_basestring as quote
from json.encoder import encode_basestring_ascii as quote_ascii
from typing import Any

from rating.services.texts import Message, TextError, check_text, hash_text

MAX_DEPTH = 50
MAX_MODEL_NAME = 200
MAX_RATER_NAME = 200


@dataclass(slots=True)
class Response:
    """One response as it stands in the file; `model` is its maker's name there, if any."""

    text: str
    model: str = ""
    text_hash: str = ""

    def hash(self) -> str:
        """sha256 of the text, reckoned once."""
        if not self.text_hash:
            self.text_hash = hash_text(self.text)
        return self.text_hash


@dataclass(slots=True)
class Vote:
    """What somebody said of one of the row's items.

    Attributes:
        rater: the rater's name in the source; unique within the project.
        item: place of the item in `items`.
        choice: `prefer`, `tie`, `both_bad`, or "" for a ranking or a rating.
        preferred: place of the preferred response in `responses`, with `prefer`.
        ranking: places in `responses` in groups, best first, ties in one group.
        rating: of an item with one response: on the project's scale, or a boolean for thumbs.
        at: when, in seconds since 1970; None when the source does not say.
    """

    rater: str
    item: int = 0
    choice: str = ""
    preferred: int | None = None
    ranking: list[list[int]] | None = None
    rating: int | bool | None = None
    at: float | None = None


@dataclass
class ImportRow:
    """A prompt, its responses, which of them are rated together, and what was said of them.

    Attributes:
        items: for each item the places of its responses in `responses`, in canonical order.
        votes: with any, the items are judged and ask raters for nothing.
        noted: keys of reports.NOTED.
        ignored: names of fields that the format does not know.
        question: the number of an imported question whose turns are the prompt; `messages` are then the
            answers to the earlier turns.
    """

    line: int
    messages: list[Message]
    responses: list[Response] = field(default_factory=list)
    items: list[list[int]] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    noted: Sequence[str] = ()
    ignored: set[str] = field(default_factory=set)
    question: str = ""

    @cached_property
    def prompt_hash(self) -> str:
        """The prompt's identity within its project: `hash_messages`, sooner."""
        return hash_text(canonical(self.messages))


@dataclass(slots=True)
class LeftOut:
    """A row that is fine to read and yet not taken; `reason` is a key of reports.LEFT_OUT."""

    line: int
    reason: str


Read = ImportRow | LeftOut | list[ImportRow]
"""What a format makes of one row."""


def canonical(messages: list[Message]) -> str:
    """The messages in canonical JSON, as rating.services.texts.CANONICAL writes them, three times as fast."""
    said = [f'{{"content":{quote(one["content"])},"role":"{one["role"]}"}}' for one in messages]
    return f"[{','.join(said)}]"


def stored_json(messages: list[Message]) -> str:
    """The messages as they are stored: the JSON that Django writes."""
    said = [f'{{"role": "{one["role"]}", "content": {quote_ascii(one["content"])}}}' for one in messages]
    return f"[{', '.join(said)}]"


def single(line: int, messages: list[Message], response: Response, **more: Any) -> ImportRow:
    """A prompt with one response, rated alone."""
    return ImportRow(line, messages, [response], [[0]], **more)


def check_json(value: object, name: str, depth: int = 0) -> None:
    """Refuse what a JSON column cannot hold. Raises TextError naming the place."""
    if depth > MAX_DEPTH:
        raise TextError(f"{name}: is nested more than {MAX_DEPTH} levels deep.")
    if isinstance(value, str):
        check_text(value, name)
    elif isinstance(value, float) and not math.isfinite(value):
        raise TextError(f"{name}: is too big for a number.")
    elif isinstance(value, dict):
        for key, inner in value.items():
            check_text(key, f"{name}, name of a field")
            check_json(inner, f"{name}.{key}", depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            check_json(inner, f"{name}[{index}]", depth + 1)
    elif value is not None and not isinstance(value, bool | int | float):
        raise TextError(f"{name}: holds {type(value).__name__}, which JSON has no word for.")
