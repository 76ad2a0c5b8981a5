"""HH-RLHF (Bai et al. 2022): `chosen` and `rejected`, each a whole dialogue as one text.

"\\n\\nHuman: ...\\n\\nAssistant: ..." in turns. Everything before the last Assistant turn is the prompt;
the two last turns are the completions, of which the chosen one was preferred.
"""

import re
from collections.abc import Sequence

from django.utils.translation import gettext_lazy as _

from rating.services.imports.formats.base import Format, Row, judged_pair
from rating.services.imports.rows import ImportRow, LeftOut, Read, Response
from rating.services.texts import Message, TextError, check_messages, check_text

RATER = "hh-rlhf"
FIELDS = {"chosen", "rejected"}
SPEAKER = re.compile(r"\n\n(Human|Assistant):")
OPENING = re.compile(r"\s*(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}


def recognises(rows: Sequence[Row]) -> bool:
    """Whether the first row has a transcript where one belongs."""
    row = rows[0]
    if "prompt" in row or not FIELDS & row.keys():
        return False
    return any(isinstance(row.get(name), str) and OPENING.match(row[name]) for name in FIELDS)


def read(line: int, row: Row) -> Read:
    """A judged pair, or why it is left out.

    Raises:
        TextError: a field is missing or no transcript.
    """
    for name in ("chosen", "rejected"):
        if name not in row:
            raise TextError(f"{name}: is missing; a row has `chosen` and `rejected`.")
        check_text(row[name], name)
    chosen, chosen_stray = split_turns(row["chosen"], "chosen")
    rejected, rejected_stray = split_turns(row["rejected"], "rejected")
    if chosen == rejected:
        return LeftOut(line, "equal")
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        return LeftOut(line, "no_response")
    if chosen[:-1] != rejected[:-1]:
        return LeftOut(line, "differs_earlier")
    if len(chosen) == 1:
        raise TextError("chosen: begins with the last response; a conversation begins with `\\n\\nHuman: `.")
    prompt = check_messages(chosen[:-1], "chosen")
    answers = [chosen[-1]["content"], rejected[-1]["content"]]
    noted = []
    if chosen_stray or rejected_stray:
        noted.append("stray_turn")
    if not all(message["content"] for message in prompt):
        noted.append("empty_turn")
    if not all(answers):
        noted.append("empty_response")
    if prompt[0]["role"] == "assistant":
        noted.append("opens_with_assistant")
    pair = ImportRow(line, prompt, noted=noted, ignored=row.keys() - FIELDS)
    return judged_pair(pair, Response(answers[0]), Response(answers[1]), RATER)


def split_turns(transcript: str, field: str) -> tuple[list[Message], bool]:
    """The turns as chat messages, and whether the same speaker spoke twice in a row (then joined into one).

    Chat templates expect speakers to alternate; in the source a repeated name is a slip of the pen.
    """
    parts = SPEAKER.split(transcript if transcript.startswith("\n\n") else f"\n\n{transcript.lstrip()}")
    if parts[0].strip() or len(parts) == 1:
        raise TextError(
            f"{field}: expected a transcript that begins with `\\n\\nHuman: `, "
            f"found {parts[0].strip()[:40]!r}."
        )
    turns: list[Message] = []
    stray = False
    for speaker, said in zip(parts[1::2], parts[2::2], strict=True):
        role, content = ROLES[speaker], said.strip()
        if turns and turns[-1]["role"] == role:
            stray = True
            turns[-1]["content"] = f"{turns[-1]['content']}\n\n{content}".strip()
        else:
            turns.append({"role": role, "content": content})
    return turns, stray


HH_RLHF = Format("hh-rlhf", _("HH-RLHF transcripts, already judged"), recognises, read)
