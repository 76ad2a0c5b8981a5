"""The formats of rows, in the order in which they are looked for."""

from collections.abc import Sequence

from rating.services.imports.formats.arena import ANSWERS, BATTLES, PANDALM, QUESTIONS, VOTES
from rating.services.imports.formats.base import Format, Row
from rating.services.imports.formats.chat import ALPACA, CHAT, OPENAI_PREFERENCE, SELF_INSTRUCT, SHAREGPT
from rating.services.imports.formats.hh_rlhf import HH_RLHF
from rating.services.imports.formats.responses import RESPONSES
from rating.services.imports.formats.tools import ARGILLA, LABEL_STUDIO
from rating.services.imports.formats.trl import COMPLETION, PREFERENCE, RANKING, SAMPLING, UNPAIRED

# The more particular a format, the earlier it is asked; our own takes what is left.
KNOWN: tuple[Format, ...] = (
    ARGILLA,
    LABEL_STUDIO,
    VOTES,
    BATTLES,
    ANSWERS,
    QUESTIONS,
    PANDALM,
    OPENAI_PREFERENCE,
    SHAREGPT,
    HH_RLHF,
    ALPACA,
    SELF_INSTRUCT,
    PREFERENCE,
    UNPAIRED,
    RANKING,
    COMPLETION,
    SAMPLING,
    CHAT,
    RESPONSES,
)
BY_NAME = {known.name: known for known in KNOWN}


def recognise(rows: Sequence[Row]) -> Format | None:
    """The format that the first rows of a file are in; None when it is none of ours."""
    if not rows:
        return None
    return next((known for known in KNOWN if known.recognises(rows)), None)
