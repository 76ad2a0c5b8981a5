"""Texts at the door: what a conversation is, how it is hashed, which split it belongs to."""

import hashlib
import json
from typing import TypedDict

from rating.models import Split

ROLES = ("system", "user", "assistant")
MAX_TEXT = 1_000_000
CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


class TextError(ValueError):
    """A text or conversation that cannot be taken; says which field, and what would be right."""


class Message(TypedDict):
    """One chat message."""

    role: str
    content: str


def check_text(text: object, field: str) -> str:
    """The text itself when it can be stored and shown everywhere.

    Raises:
        TextError: not a text, over 1,000,000 characters, or with characters that no database stores (NUL,
            lone surrogates).
    """
    if not isinstance(text, str):
        raise TextError(f"{field}: expected a text, found {type(text).__name__}.")
    if len(text) > MAX_TEXT:
        raise TextError(f"{field}: {len(text):,} characters are too many; at most {MAX_TEXT:,} are taken.")
    if "\x00" in text:
        raise TextError(f"{field}: holds a NUL character (position {text.index(chr(0))}); remove it.")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TextError(
            f"{field}: holds a lone surrogate (position {error.start}); write the whole character instead."
        ) from None
    return text


def check_messages(messages: object, field: str = "prompt") -> list[Message]:
    """The conversation when it is one: messages with known roles and texts, the last not the assistant's.

    Raises:
        TextError: names the message and says what would be right.
    """
    if not isinstance(messages, list) or not messages:
        raise TextError(f'{field}: expected a list of chat messages, [{{"role": "user", "content": "..."}}].')
    checked: list[Message] = []
    for index, message in enumerate(messages):
        where = f"{field}[{index}]"
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise TextError(f"{where}: expected an object with `role` and `content`.")
        if message["role"] not in ROLES:
            raise TextError(f"{where}.role: {message['role']!r} is unknown; use one of {', '.join(ROLES)}.")
        checked.append(
            {"role": message["role"], "content": check_text(message["content"], f"{where}.content")}
        )
    if checked[-1]["role"] == "assistant":
        raise TextError(f"{field}: ends with the assistant; a prompt ends with what is to be answered.")
    return checked


def hash_text(text: str) -> str:
    """sha256 of the text's UTF-8, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def hash_messages(messages: list[Message]) -> str:
    """sha256 of the conversation in canonical JSON: the prompt's identity within a project."""
    return hash_text(CANONICAL.encode(messages))


def split_of(messages: list[Message], eval_percent: int) -> Split:
    """The split a conversation belongs to, for ever: decided by a hash of its first user message.

    Conversations that open alike share most of their text, so they stay on one side.
    """
    opening = next((m["content"] for m in messages if m["role"] == "user"), messages[0]["content"])
    bucket = int(hash_text("split:" + " ".join(opening.split()))[:8], 16) % 100
    return Split.EVAL if bucket < eval_percent else Split.TRAIN
