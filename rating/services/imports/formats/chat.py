"""Conversations and instructions to learn from: OpenAI's files, ShareGPT, Alpaca, self-instruct."""

from collections.abc import Sequence

from django.utils.translation import gettext_lazy as _

from rating.services.imports.formats.base import (
    Format,
    Row,
    all_have,
    judged_pair,
    need,
    read_conversation,
    read_prompt,
    read_reply,
    read_turns,
)
from rating.services.imports.rows import ImportRow, Read, Response
from rating.services.texts import Message, TextError, check_messages, check_text

CHAT_FIELDS = {"messages"}
OPENAI_FIELDS = {"input", "preferred_output", "non_preferred_output"}
SHAREGPT_FIELDS = {"conversations", "conversation", "system", "chosen", "rejected", "id"}
ALPACA_FIELDS = {"instruction", "input", "output", "system", "history", "chosen", "rejected"}


def recognises_chat(rows: Sequence[Row]) -> bool:
    """Whether the rows are whole conversations and nothing of our own format."""
    row = rows[0]
    return (
        isinstance(row.get("messages"), list) and not {"prompt", "response", "responses", "kind"} & row.keys()
    )


def read_chat(line: int, row: Row) -> Read:
    """A conversation; its last answer is the response. Raises TextError."""
    need(row, "messages")
    return read_conversation(line, row["messages"], "messages", row.keys() - CHAT_FIELDS)


def recognises_openai_preference(rows: Sequence[Row]) -> bool:
    """Whether the rows have a preferred and another output."""
    return all_have(rows[:1], "input", "preferred_output")


def read_openai_preference(line: int, row: Row) -> Read:
    """A judged pair. Raises TextError."""
    need(row, "input", "preferred_output", "non_preferred_output")
    asked = row["input"].get("messages") if isinstance(row["input"], dict) else None
    if asked is None:
        raise TextError("input: expected an object with `messages`.")
    made = ImportRow(line, read_prompt(asked, "input.messages"), ignored=row.keys() - OPENAI_FIELDS)
    chosen = Response(read_reply(row["preferred_output"], "preferred_output"))
    rejected = Response(read_reply(row["non_preferred_output"], "non_preferred_output"))
    return judged_pair(made, chosen, rejected, "openai-preference")


def recognises_sharegpt(rows: Sequence[Row]) -> bool:
    """Whether the rows have turns with `from` and `value`."""
    turns = rows[0].get("conversations", rows[0].get("conversation"))
    return isinstance(turns, list) and bool(turns) and isinstance(turns[0], dict)


def read_sharegpt(line: int, row: Row) -> Read:
    """A conversation; with `chosen` and `rejected`, the two answers to it. Raises TextError."""
    name = "conversations" if "conversations" in row else "conversation"
    turns = opening(row) + read_turns(row.get(name), name)
    ignored = row.keys() - SHAREGPT_FIELDS
    if row.get("chosen") is None and row.get("rejected") is None:
        return read_conversation(line, turns, name, ignored)
    need(row, "chosen", "rejected")
    made = ImportRow(line, check_messages(turns, name), ignored=ignored)
    chosen, rejected = read_reply(row["chosen"], "chosen"), read_reply(row["rejected"], "rejected")
    return judged_pair(made, Response(chosen), Response(rejected), "sharegpt")


def opening(row: Row) -> list[Message]:
    """The system's words that stand beside the conversation."""
    said = row.get("system")
    return [{"role": "system", "content": check_text(said, "system")}] if said else []


def recognises_alpaca(rows: Sequence[Row]) -> bool:
    """Whether the rows have an instruction and an output, or a better and a worse one."""
    return all_have(rows[:1], "instruction") and bool({"output", "chosen"} & rows[0].keys())


def read_alpaca(line: int, row: Row) -> Read:
    """An instruction with its output, or a judged pair. Raises TextError."""
    made = ImportRow(line, read_history(row) + read_instruction(row), ignored=row.keys() - ALPACA_FIELDS)
    if row.get("chosen") is not None:
        need(row, "chosen", "rejected")
        chosen, rejected = read_reply(row["chosen"], "chosen"), read_reply(row["rejected"], "rejected")
        return judged_pair(made, Response(chosen), Response(rejected), "alpaca")
    if "output" not in row:
        raise TextError("output: is missing; a row has `instruction`, `output` and perhaps `input`.")
    if row["output"] is not None:
        made.responses, made.items = [Response(check_text(row["output"], "output"))], [[0]]
    return made


def read_instruction(row: Row) -> list[Message]:
    """The instruction and, below it, its input."""
    need(row, "instruction")
    parts = [check_text(row["instruction"], "instruction")]
    if row.get("input"):
        parts.append(check_text(row["input"], "input"))
    text = "\n\n".join(part for part in parts if part.strip())
    return read_prompt(text, "instruction")


def read_history(row: Row) -> list[Message]:
    """The system's words and the earlier turns: a list of pairs of what was said and answered."""
    messages = opening(row)
    history = row.get("history") or []
    if not isinstance(history, list) or not all(
        isinstance(pair, list) and len(pair) == 2 for pair in history
    ):
        raise TextError("history: expected a list of pairs, each an instruction and its answer.")
    for number, (asked, answered) in enumerate(history):
        messages.append({"role": "user", "content": check_text(asked, f"history[{number}][0]")})
        messages.append({"role": "assistant", "content": check_text(answered, f"history[{number}][1]")})
    return messages


def recognises_self_instruct(rows: Sequence[Row]) -> bool:
    """Whether an instruction has instances of its own."""
    return all_have(rows[:1], "instruction", "instances")


def read_self_instruct(line: int, row: Row) -> Read:
    """A prompt with its output for each instance. Raises TextError."""
    need(row, "instruction", "instances")
    if not isinstance(row["instances"], list) or not all(isinstance(one, dict) for one in row["instances"]):
        raise TextError("instances: expected a list of objects with `input` and `output`.")
    made: list[ImportRow] = []
    for instance in row["instances"]:
        read = read_alpaca(line, {"instruction": row["instruction"], **instance})
        assert isinstance(read, ImportRow)
        made.append(read)
    return made


CHAT = Format("openai-chat", _("Conversations (OpenAI's chat fine-tuning)"), recognises_chat, read_chat)
OPENAI_PREFERENCE = Format(
    "openai-preference",
    _("OpenAI preferences, already judged"),
    recognises_openai_preference,
    read_openai_preference,
)
SHAREGPT = Format("sharegpt", _("ShareGPT conversations"), recognises_sharegpt, read_sharegpt)
ALPACA = Format("alpaca", _("Alpaca instructions"), recognises_alpaca, read_alpaca)
SELF_INSTRUCT = Format(
    "self-instruct", _("Self-instruct tasks with instances"), recognises_self_instruct, read_self_instruct
)
