"""What a format is, and what several of them read alike: prompts, messages, responses, votes."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils.functional import Promise

from rating.services.imports.rows import (
    MAX_MODEL_NAME,
    MAX_RATER_NAME,
    ImportRow,
    LeftOut,
    Read,
    Response,
    Vote,
)
from rating.services.texts import Message, TextError, check_messages, check_text, hash_text

Row = dict[str, Any]
# Who spoke, in the words of the formats, and in ours.
SPEAKERS = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "system": "system",
    "developer": "system",
}
LABELS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


@dataclass(frozen=True)
class Format:
    """A format of rows.

    Attributes:
        name: the word for it in commands and addresses.
        label: its name for people.
        recognises: whether the first rows of a file are in it.
        read: what a row (its number and fields) says. Raises TextError.
    """

    name: str
    label: str | Promise
    recognises: Callable[[Sequence[Row]], bool]
    read: Callable[[int, Row], Read]


def all_have(rows: Sequence[Row], *names: str) -> bool:
    """Whether every row has all these fields."""
    return bool(rows) and all(set(names) <= row.keys() for row in rows)


def need(row: Row, *names: str) -> None:
    """Refuse a row that lacks one of the fields."""
    for name in names:
        if row.get(name) is None:
            given = ", ".join(f"`{known}`" for known in names)
            raise TextError(f"{name}: is missing; a row has {given}.")


def read_turns(value: object, field: str) -> list[Message]:
    """Chat messages (`role`, `content`) or ShareGPT's turns (`from`, `value`), in our words.

    The content may be OpenAI's list of parts, all of them text.
    """
    if not isinstance(value, list) or not value:
        raise TextError(f'{field}: expected a list of chat messages, [{{"role": "user", "content": "..."}}].')
    return [read_turn(turn, f"{field}[{index}]") for index, turn in enumerate(value)]


def read_turn(turn: object, where: str) -> Message:
    """One message."""
    if not isinstance(turn, dict) or not (
        {"role", "content"} <= turn.keys() or {"from", "value"} <= turn.keys()
    ):
        raise TextError(f"{where}: expected an object with `role` and `content`, or `from` and `value`.")
    role_field, text_field = ("role", "content") if "role" in turn else ("from", "value")
    said = turn[role_field]
    role = SPEAKERS.get(said) if isinstance(said, str) else None
    if role is None:
        known = ", ".join(SPEAKERS)
        raise TextError(f"{where}.{role_field}: {str(said)[:60]!r} is unknown; use one of {known}.")
    if turn.get("tool_calls") or turn.get("function_call"):
        raise TextError(f"{where}: calls a tool; only conversations in text are taken.")
    return {"role": role, "content": read_content(turn[text_field], f"{where}.{text_field}")}


def read_content(content: object, where: str) -> str:
    """The text of a message."""
    if isinstance(content, list):
        parts = []
        for index, part in enumerate(content):
            if not isinstance(part, dict) or part.get("type") != "text":
                raise TextError(f"{where}[{index}]: is no text; only conversations in text are taken.")
            parts.append(check_text(part.get("text"), f"{where}[{index}].text"))
        return "".join(parts)
    return check_text(content, where)


def read_prompt(value: object, field: str) -> list[Message]:
    """A prompt given as a text or as messages."""
    if isinstance(value, list):
        return check_messages(read_turns(value, field), field)
    if not isinstance(value, str):
        raise TextError(f"{field}: expected a text or chat messages, found {type(value).__name__}.")
    if not check_text(value, field).strip():
        raise TextError(f"{field}: is empty; give what is to be answered.")
    return [{"role": "user", "content": value}]


def read_reply(value: object, field: str) -> str:
    """A response given as a text, as one message, or as a list that holds it alone."""
    if isinstance(value, str):
        return check_text(value, field)
    if isinstance(value, dict):
        value = [value]
    turns = read_turns(value, field)
    if len(turns) != 1 or turns[0]["role"] != "assistant":
        raise TextError(f"{field}: expected one message of the assistant, found {len(turns)} messages.")
    return turns[0]["content"]


def split_last(turns: list[Message], field: str) -> tuple[list[Message], str | None]:
    """The prompt, and the response when the assistant has the last word."""
    if turns[-1]["role"] != "assistant":
        return check_messages(turns, field), None
    if len(turns) == 1:
        raise TextError(f"{field}: begins with the last response; a conversation begins with the user.")
    return check_messages(turns[:-1], field), turns[-1]["content"]


def read_conversation(line: int, value: object, field: str, ignored: set[str]) -> ImportRow:
    """A conversation whose last answer, if it has one, is the response."""
    messages, reply = split_last(read_turns(value, field), field)
    row = ImportRow(line, messages, ignored=ignored)
    if reply is not None:
        row.responses, row.items = [Response(reply)], [[0]]
    return row


def judged_pair(row: ImportRow, chosen: Response, rejected: Response, rater: str) -> ImportRow | LeftOut:
    """Add a pair of which the first was preferred, in an order that says nothing about the preference.

    The order is drawn by a hash of the texts, so that it is the same each time.
    """
    if chosen.text == rejected.text:
        return LeftOut(row.line, "equal")
    pair = sorted([chosen, rejected], key=lambda one: hash_text(row.prompt_hash + one.hash()))
    row.responses = pair
    row.items = [[0, 1]]
    row.votes = [Vote(rater, choice="prefer", preferred=pair.index(chosen))]
    return row


def read_model(value: object, field: str) -> str:
    """The name of a response's maker; "" when there is none."""
    name = "" if value is None else check_text(value, field)
    if len(name) > MAX_MODEL_NAME:
        raise TextError(f"{field}: is over {MAX_MODEL_NAME} characters.")
    return name


def read_rater(source: str, value: object, field: str) -> str:
    """The rater's name with that of the source before it; an e-mail address becomes a short hash."""
    if isinstance(value, dict):
        value = value.get("id") or value.get("username") or value.get("email")
    if isinstance(value, list):
        value = "-".join(str(part) for part in value)
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise TextError(f"{field}: expected the rater's name or number, found {type(value).__name__}.")
    name = check_text(str(value), field)
    if EMAIL.fullmatch(name):
        name = hashlib.sha256(name.encode()).hexdigest()[:12]
    if len(source) + len(name) + 1 > MAX_RATER_NAME:
        raise TextError(f"{field}: is over {MAX_RATER_NAME} characters.")
    return f"{source}/{name}"


def read_time(value: object) -> float | None:
    """Seconds since 1970 of a number or an ISO 8601 text; None when it is neither or lies ahead."""
    if value is None or isinstance(value, bool):
        return None
    try:
        seconds = (
            float(value)
            if isinstance(value, int | float)
            else datetime.fromisoformat(str(value).replace("Z", "+00:00"))
        )
    except ValueError:
        return None
    if isinstance(seconds, datetime):
        aware = seconds if seconds.tzinfo else seconds.replace(tzinfo=UTC)
        seconds = aware.timestamp()
    return seconds if 0 < seconds < datetime.now(UTC).timestamp() + 86_400 else None


def read_label(value: object, field: str) -> bool:
    """A boolean, also as CSV writes it."""
    if isinstance(value, bool):
        return value
    label = LABELS.get(str(value).strip().lower()) if isinstance(value, str | int) else None
    if label is None:
        raise TextError(f"{field}: expected true or false, found {str(value)[:40]!r}.")
    return label
