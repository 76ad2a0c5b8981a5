"""One row of a file, checked: what the formats are turned into before anything is stored."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rating.services.makers import names_maker
from rating.services.texts import Message, TextError, check_text, hash_messages, hash_text

MAX_DEPTH = 50


@dataclass
class Response:
    """One response as it stands in the file; `model` is its maker's name there, if any."""

    text: str
    model: str = ""

    @cached_property
    def text_hash(self) -> str:
        """sha256 of the text; reckoned when it is stored, not when the file is only checked."""
        return hash_text(self.text)

    @cached_property
    def names_maker(self) -> bool:
        """Whether the text seems to say which model or company wrote it."""
        return names_maker(self.text)


@dataclass
class ImportRow:
    """A prompt, its responses, and which of them are rated together.

    Attributes:
        items: for each item the places of its responses in `responses`, in canonical order.
        preferred: place of the preferred response in `responses`, when the one item is already judged.
        noted: keys of reports.NOTED.
        ignored: names of fields that the format does not know.
    """

    line: int
    messages: list[Message]
    responses: list[Response] = field(default_factory=list)
    items: list[list[int]] = field(default_factory=list)
    preferred: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    noted: Sequence[str] = ()
    ignored: set[str] = field(default_factory=set)

    @cached_property
    def prompt_hash(self) -> str:
        """The prompt's identity within its project."""
        return hash_messages(self.messages)


@dataclass(slots=True)
class LeftOut:
    """A row that is fine to read and yet not taken; `reason` is a key of reports.LEFT_OUT."""

    line: int
    reason: str


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
