"""Texts at the door: what a conversation is, how it is hashed, which split it belongs to."""

import hashlib
import json
from typing import TypedDict

from django.utils.formats import number_format
from django.utils.translation import gettext as _

from rating.models import Split

ROLES = ("system", "user", "assistant")
MAX_TEXT = 1_000_000
CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def escape_unstorable(text: str) -> str:
    """The text with NUL and lone surrogates written as escapes: any database takes it, any page shows it."""
    return text.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()


class TextError(ValueError):
    """A text or conversation that cannot be taken; says which field, and what would be right."""

    def __init__(self, message: str) -> None:
        # The field's name may be somebody's text as well.
        super().__init__(escape_unstorable(message))


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
        words = _("%(field)s: expected a text, found %(type)s.")
        raise TextError(words % {"field": field, "type": type(text).__name__})
    if len(text) > MAX_TEXT:
        words = _("%(field)s: %(count)s characters are too many; at most %(limit)s are taken.")
        count, limit = (number_format(number, force_grouping=True) for number in (len(text), MAX_TEXT))
        raise TextError(words % {"field": field, "count": count, "limit": limit})
    if "\x00" in text:
        words = _("%(field)s: holds a NUL character (position %(position)s); remove it.")
        raise TextError(words % {"field": field, "position": text.index("\x00")})
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        words = _(
            "%(field)s: holds a lone surrogate (position %(position)s); write the whole character instead."
        )
        raise TextError(words % {"field": field, "position": error.start}) from None
    return text


def check_messages(messages: object, field: str = "prompt") -> list[Message]:
    """The conversation when it is one: messages with known roles and texts, the last not the assistant's.

    Raises:
        TextError: names the message and says what would be right.
    """
    if not isinstance(messages, list) or not messages:
        words = _("%(field)s: expected a list of chat messages, %(sample)s.")
        raise TextError(words % {"field": field, "sample": '[{"role": "user", "content": "..."}]'})
    checked: list[Message] = []
    for index, message in enumerate(messages):
        where = f"{field}[{index}]"
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise TextError(_("%(field)s: expected an object with `role` and `content`.") % {"field": where})
        if message["role"] not in ROLES:
            words = _("%(field)s: %(value)s is unknown; use one of %(known)s.")
            value, known = repr(message["role"]), ", ".join(ROLES)
            raise TextError(words % {"field": f"{where}.role", "value": value, "known": known})
        checked.append(
            {"role": message["role"], "content": check_text(message["content"], f"{where}.content")}
        )
    if checked[-1]["role"] == "assistant":
        words = _("%(field)s: ends with the assistant; a prompt ends with what is to be answered.")
        raise TextError(words % {"field": field})
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
