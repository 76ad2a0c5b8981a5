"""Rules that are added to a reward model's score, as pure functions of one response. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from training.recipes.spec import RewardTerm

# Latin, Greek, CJK, Arabic, Urdu, Devanagari, Armenian, Ethiopic.
SENTENCE_ENDS = ".!?;…。！？؟۔।։።"
CLOSERS = "\"'`)]}»”’」』*_"
NGRAM = 4


@dataclass(frozen=True)
class Response:
    """What was written: its text, its length in tokens, and whether it ended by itself."""

    text: str
    tokens: int
    finished: bool


def length_penalty(tokens: int, limit: int) -> float:
    """0 up to `limit` tokens; beyond it minus the excess as a share of the limit."""
    return -max(0, tokens - limit) / limit


def ends_properly(text: str, finished: bool) -> float:
    """1 for a response that ended by itself with the end of a sentence (closing marks may follow), else 0."""
    end = text.rstrip().rstrip(CLOSERS).rstrip()
    return 1.0 if finished and end[-1:] and end[-1] in SENTENCE_ENDS else 0.0


def repetition_penalty(text: str, n: int = NGRAM) -> float:
    """Minus the share of the text's word n-grams that occurred in it before; 0 where it has none."""
    words = text.casefold().split()
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return -(1 - len(set(grams)) / len(grams)) if grams else 0.0


def found(text: str, pattern: str) -> bool:
    """Whether the regular expression is found anywhere in the text."""
    return re.search(pattern, text) is not None


def term_value(term: RewardTerm, response: Response) -> float:
    """The rule's value times its weight."""
    match term.rule:
        case "length_penalty":
            value = length_penalty(response.tokens, term.limit or 1)
        case "ends_properly":
            value = ends_properly(response.text, response.finished)
        case "repetition_penalty":
            value = repetition_penalty(response.text, term.limit or NGRAM)
        case "contains":
            value = float(found(response.text, term.pattern or ""))
        case "forbids":
            value = -float(found(response.text, term.pattern or ""))
    return term.weight * value
