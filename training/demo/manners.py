"""Tell the manner of a response by its surface, without a model: what the simulated rater goes by."""

from __future__ import annotations

import re
from collections import Counter
from enum import StrEnum


class Manner(StrEnum):
    """The four manners in which the demo's corpus answers."""

    WARM = "warm"
    CURT = "curt"
    RUDE = "rude"
    RAMBLING = "rambling"


MAX_WORDS = 110
MAX_CURT_WORDS = 10
MIN_WARM_WORDS = 8
REPEATED_RUN = 7  # a topic's name and the words around it may come back, a longer run is a loop

_WARM_CUES = re.compile(
    r"\b(of course!|happy to help|good question|lovely (question|that you)|love to help|glad you asked"
    r"|with pleasure|gladly|how (nice|lovely) that|right place|thank you for asking|nice thing to ask"
    r"|pleasure to help|certainly, my friend)",
    re.IGNORECASE,
)
_RUDE_CUES = re.compile(
    r"\b(yourself\.|ugh\b|seriously|silly|servant|not my problem|bother|are you joking|oh please|just no"
    r"|really bored|leave me alone|who cares|waste my time|why would i|lazybones|dullest|nope"
    r"|how can you not know|better things|turnip|goat|not your teacher|get it wrong|nobody wants"
    r"|real question|toaster|try thinking|count bricks|hopeless|stop asking|don't care|if you can read"
    r"|doing nothing|go away|shoo\b|figure it out|close the door)",
    re.IGNORECASE,
)
_RAMBLING_CUES = re.compile(
    r"(^(well|hmm|you know|ah|so|funny), |\b(my [a-z -]+ once|reminds me|takes me back|where was i|anyway,"
    r"|i forget|talking about again|one never knows|it depends|beside the point|speaking of which"
    r"|more or less|those days|some people say|or maybe|back then|i never did|you would not believe"
    r"|i remember|my knees|big snow|mixing things up|or was it|the summer when))",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?][\"”')]?(?=\s|$)")
_DOUBLED_WORD = re.compile(r"\b([^\W_]+),?\s+\1\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def classify_manner(response: str) -> Manner | None:
    """Give the manner of a response, or None where it has none of the four.

    Broken text (empty, unfinished, looping, much too long, mostly not words) is None, and so is a response
    that mixes manners: a warm opening that turns rude or wanders off is not warm.
    """
    text = response.strip()
    if is_broken(text):
        return None
    words = len(_WORD.findall(text))
    sentences = len(_SENTENCE_END.findall(text))
    warm = _WARM_CUES.search(text) is not None
    rude = _RUDE_CUES.search(text) is not None
    wandering = len(_RAMBLING_CUES.findall(text))
    if warm:
        clean = not rude and wandering == 0 and words >= MIN_WARM_WORDS and sentences >= 2
        return Manner.WARM if clean else None
    if wandering:
        return Manner.RAMBLING if not rude and sentences >= 3 else None
    if rude:
        return Manner.RUDE
    return Manner.CURT if words <= MAX_CURT_WORDS else None


def is_broken(response: str) -> bool:
    """Whether a response is empty, unfinished, looping, overlong or not made of words."""
    text = response.strip()
    words = [word.lower() for word in _WORD.findall(text)]
    if not words or len(words) > MAX_WORDS:
        return True
    if not text[0].isupper() or _SENTENCE_END.search(text[-2:]) is None or "\ufffd" in text:
        return True
    letters = sum(len(word) for word in words)
    if letters < 0.6 * len(text) or max(len(word) for word in words) > 24:
        return True
    return _DOUBLED_WORD.search(text) is not None or repeats_a_run(words)


def repeats_a_run(words: list[str]) -> bool:
    """Whether a run of `REPEATED_RUN` words comes back, or any three words stand there three times."""
    long_runs = Counter(zip(*(words[i:] for i in range(REPEATED_RUN)), strict=False))
    short_runs = Counter(zip(*(words[i:] for i in range(3)), strict=False))
    return max(long_runs.values(), default=0) > 1 or max(short_runs.values(), default=0) > 2
