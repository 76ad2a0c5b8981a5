"""Models against each other: MT-Bench's questions, answers and votes, arena battles, PandaLM's labels."""

import json
from collections.abc import Sequence

from django.utils.translation import gettext_lazy as _

from rating.services.imports.formats.base import (
    Format,
    Row,
    all_have,
    need,
    read_model,
    read_prompt,
    read_rater,
    read_time,
    read_turns,
    split_last,
)
from rating.services.imports.formats.chat import read_instruction
from rating.services.imports.rows import ImportRow, LeftOut, Read, Response, Vote, check_json, single
from rating.services.texts import Message, TextError, check_text

QUESTION_FIELDS = {"question_id", "category", "turns", "text", "reference"}
ANSWER_FIELDS = {"question_id", "answer_id", "model_id", "choices", "text", "tstamp", "metadata", "generator"}
BATTLE_FIELDS = {"question_id", "model_a", "model_b", "winner", "judge", "conversation_a", "conversation_b"}
BATTLE_FIELDS |= {"turn", "tstamp", "language", "anony", "category"}
PANDALM_FIELDS = {"idx", "motivation_app", "cmp_key", "instruction", "input", "response1", "response2"}
WINNERS = {
    "model_a": Vote("", choice="prefer", preferred=0),
    "model_b": Vote("", choice="prefer", preferred=1),
    "tie": Vote("", choice="tie"),
    "tie (inconsistent)": Vote("", choice="tie"),
    "tie (bothbad)": Vote("", choice="both_bad"),
    "both_bad": Vote("", choice="both_bad"),
}


def read_question_id(row: Row) -> str:
    """The question's number as a text."""
    value = row.get("question_id")
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise TextError("question_id: is missing; a row has a number or a name there.")
    return check_text(str(value), "question_id")


def recognises_questions(rows: Sequence[Row]) -> bool:
    """Whether the rows are questions of one or more turns, without answers."""
    asked = all_have(rows[:1], "question_id") and bool({"turns", "text"} & rows[0].keys())
    return asked and not {"model_id", "answer_id", "choices", "conversation_a"} & rows[0].keys()


def read_question(line: int, row: Row) -> Read:
    """A prompt: the first turn; the others wait in its metadata for the answers. Raises TextError."""
    number = read_question_id(row)
    turns = row.get("turns", [row.get("text")])
    if not isinstance(turns, list) or not turns:
        raise TextError("turns: expected a list of what the user says, turn by turn.")
    for place, turn in enumerate(turns):
        check_text(turn, f"turns[{place}]")
    metadata = {name: row[name] for name in ("category", "reference") if row.get(name) is not None}
    metadata |= {"question_id": number, "turns": turns}
    check_json(metadata, "metadata")
    prompt = read_prompt(turns[0], "turns[0]")
    return ImportRow(line, prompt, metadata=metadata, ignored=row.keys() - QUESTION_FIELDS)


def recognises_answers(rows: Sequence[Row]) -> bool:
    """Whether the rows are one model's answers to numbered questions."""
    answered = all_have(rows[:1], "question_id") and bool({"choices", "text"} & rows[0].keys())
    return answered and bool({"model_id", "answer_id"} & rows[0].keys())


def read_answer(line: int, row: Row) -> Read:
    """A response for each turn; the question is looked up by its number. Raises TextError."""
    number, model = read_question_id(row), read_model(row.get("model_id"), "model_id")
    made: list[ImportRow] = []
    earlier: list[Message] = []
    for place, turn in enumerate(read_choice(row)):
        response = Response(check_text(turn, f"turns[{place}]"), model)
        ignored = row.keys() - ANSWER_FIELDS
        made.append(single(line, list(earlier), response, question=number, ignored=ignored))
        earlier.append({"role": "assistant", "content": response.text})
    return made


def read_choice(row: Row) -> list[object]:
    """What the model said, turn by turn; of several choices the first."""
    if "choices" not in row:
        need(row, "text")
        return [row["text"]]
    choices = row["choices"]
    first = choices[0] if isinstance(choices, list) and choices else None
    turns = first.get("turns") if isinstance(first, dict) else None
    if not isinstance(turns, list) or not turns:
        raise TextError("choices: expected a list whose first object has `turns`.")
    return turns


def recognises_votes(rows: Sequence[Row]) -> bool:
    """Whether two models' conversations were compared by a named judge, turn by turn."""
    return recognises_battles(rows) and all_have(rows[:1], "question_id", "judge", "turn")


def recognises_battles(rows: Sequence[Row]) -> bool:
    """Whether two models' conversations were compared."""
    return all_have(rows[:1], "model_a", "model_b", "winner", "conversation_a", "conversation_b")


def read_vote(line: int, row: Row) -> Read:
    """A judged pair of MT-Bench. Raises TextError."""
    return read_compared(line, row, "mt-bench")


def read_battle(line: int, row: Row) -> Read:
    """A judged pair of an arena. Raises TextError."""
    return read_compared(line, row, "arena")


def read_compared(line: int, row: Row, source: str) -> Read:
    """Two conversations up to the turn that was judged; the last answers are the responses."""
    need(row, "model_a", "model_b", "winner", "conversation_a", "conversation_b")
    turn = row.get("turn", 1_000)
    if isinstance(turn, str) and turn.isdecimal():
        turn = int(turn)
    if isinstance(turn, bool) or not isinstance(turn, int) or turn < 1:
        raise TextError(f"turn: expected a number from 1, found {str(turn)[:40]!r}.")
    sides = []
    for side in ("conversation_a", "conversation_b"):
        messages = read_turns(row[side], side)
        start = sum(message["role"] == "system" for message in messages[:1])
        sides.append(split_last(messages[: start + 2 * turn], side))
    (prompt, first), (other_prompt, second) = sides
    if first is None or second is None:
        return LeftOut(line, "no_response")
    if prompt != other_prompt:
        return LeftOut(line, "differs_earlier")
    if first == second:
        return LeftOut(line, "equal")
    responses = [
        Response(first, read_model(row["model_a"], "model_a")),
        Response(second, read_model(row["model_b"], "model_b")),
    ]
    rater = read_rater(source, row["judge"], "judge") if row.get("judge") is not None else source
    made = ImportRow(line, prompt, responses, [[0, 1]], ignored=row.keys() - BATTLE_FIELDS)
    if row.get("question_id") is not None:
        made.metadata = {"question_id": read_question_id(row)}
    made.votes = [read_winner(row, rater)]
    return made


def read_winner(row: Row, rater: str) -> Vote:
    """What the judge said."""
    said = WINNERS.get(row["winner"]) if isinstance(row["winner"], str) else None
    if said is None:
        known = ", ".join(WINNERS)
        raise TextError(f"winner: {str(row['winner'])[:60]!r} is unknown; use one of {known}.")
    return Vote(rater, choice=said.choice, preferred=said.preferred, at=read_time(row.get("tstamp")))


def recognises_pandalm(rows: Sequence[Row]) -> bool:
    """Whether an instruction has two responses and what annotators said of them."""
    return all_have(rows[:1], "instruction", "response1", "response2")


def read_pandalm(line: int, row: Row) -> Read:
    """A pair with the labels of its annotators: 0 a tie, 1 the first, 2 the second. Raises TextError."""
    need(row, "instruction", "response1", "response2")
    models = str(row.get("cmp_key") or "").split("_")
    first, second = models if len(models) == 2 else ("", "")
    annotators = sorted(name for name in row if name.startswith("annotator"))
    made = ImportRow(line, read_instruction(row), ignored=row.keys() - PANDALM_FIELDS - set(annotators))
    made.responses = [
        Response(read_written(row["response1"], "response1"), read_model(first, "cmp_key")),
        Response(read_written(row["response2"], "response2"), read_model(second, "cmp_key")),
    ]
    if not all(isinstance(row[name], str) for name in ("response1", "response2")):
        made.noted = ["not_text"]
    made.items = [[0, 1]]
    if made.responses[0].text == made.responses[1].text:
        return LeftOut(line, "equal")
    for name in annotators:
        label = row[name]
        if label is None or label == "":
            continue
        if str(label) not in {"0", "1", "2"}:
            raise TextError(f"{name}: expected 0 (a tie), 1 or 2, found {str(label)[:40]!r}.")
        place = int(label) - 1
        rater = read_rater("pandalm", name, name)
        choice, preferred = ("tie", None) if place < 0 else ("prefer", place)
        made.votes.append(Vote(rater, choice=choice, preferred=preferred))
    return made


def read_written(value: object, field: str) -> str:
    """A response; the published file has some that a table program took for booleans or numbers."""
    return check_text(json.dumps(value) if isinstance(value, bool | int | float) else value, field)


QUESTIONS = Format("mt-bench-questions", _("MT-Bench questions"), recognises_questions, read_question)
ANSWERS = Format("mt-bench-answers", _("MT-Bench answers of a model"), recognises_answers, read_answer)
VOTES = Format("mt-bench-votes", _("MT-Bench votes, already judged"), recognises_votes, read_vote)
BATTLES = Format("arena", _("Arena battles, already judged"), recognises_battles, read_battle)
PANDALM = Format("pandalm", _("PandaLM pairs with annotators' labels"), recognises_pandalm, read_pandalm)
