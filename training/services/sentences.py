"""What the trainer says of a run: kept in English, told in the reader's language.

`manage.py makemessages` knows `Sentence(...)` and `counted(...)`, so their words are found by translators.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext, ngettext


@dataclass(frozen=True)
class Sentence:
    """English words with named places, what stands there, and the words for many where there is a `count`."""

    words: str
    values: Mapping[str, str | int] = field(default_factory=dict)
    many: str = ""

    def __str__(self) -> str:
        words = self.many if self.many and self.values["count"] != 1 else self.words
        return fill(words, self.values)

    def tell(self) -> str:
        """The sentence in the reader's language."""
        if self.many:
            return fill(ngettext(self.words, self.many, int(self.values["count"])), self.values)
        return fill(gettext(self.words), self.values)

    def as_json(self) -> dict[str, Any]:
        """What a row keeps; `Sentence(**kept)` is the sentence again."""
        return {"words": self.words, "values": dict(self.values), "many": self.many}


def counted(one: str, many: str, **values: str | int) -> Sentence:
    """A sentence about `count` things."""
    return Sentence(one, values, many)


def fill(words: str, values: Mapping[str, str | int]) -> str:
    """The words with the values in their places; words without places may hold any sign."""
    return words % values if values else words


def retell(text: str, sentences: tuple[str, ...]) -> str:
    """A text that was kept as one of these sentences, in the reader's language; any other text as it is."""
    for words in sentences:
        pattern = re.sub(r"%\\\((\w+)\\\)s", r"(?P<\1>.+)", re.escape(words))
        if found := re.fullmatch(pattern, text, re.DOTALL):
            return fill(gettext(words), found.groupdict())
    return text
