"""The dataset files of a run: JSONL rows, checked line by line, and cut to a length. Imports no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from training.recipes.errors import RecipeError
from training.recipes.rundir import Run

Message = dict[str, str]
Messages = list[Message]
ROLES = ("system", "user", "assistant")


@dataclass
class Preference:
    prompt: Messages
    chosen: Messages
    rejected: Messages
    margin: float | None

    @property
    def responses(self) -> list[Messages]:
        return [self.chosen, self.rejected]


@dataclass
class Demonstration:
    prompt: Messages
    completion: Messages

    @property
    def responses(self) -> list[Messages]:
        return [self.completion]


@dataclass
class PromptRow:
    id: str
    prompt: Messages
    tags: tuple[str, ...] = ()


Row = TypeVar("Row", Preference, Demonstration)


def read_preferences(path: Path) -> list[Preference]:
    """Rows {"prompt", "chosen", "rejected", "margin"?}. Raises RecipeError bad_data naming file and line."""
    rows = []
    for where, row in read_lines(path):
        margin = row.get("margin")
        if margin is not None and (isinstance(margin, bool) or not isinstance(margin, int | float)):
            raise bad_data(f"{where}: margin must be a number or null")
        if margin is not None and not math.isfinite(margin):
            raise bad_data(f"{where}: margin must be finite")
        rows.append(
            Preference(
                read_messages(row, "prompt", where),
                read_response(row, "chosen", where),
                read_response(row, "rejected", where),
                None if margin is None else float(margin),
            )
        )
    return rows


def read_demonstrations(path: Path) -> list[Demonstration]:
    """Rows {"prompt", "completion"}. Raises RecipeError bad_data naming file and line."""
    return [
        Demonstration(read_messages(row, "prompt", where), read_response(row, "completion", where))
        for where, row in read_lines(path)
    ]


def read_prompts(path: Path) -> list[PromptRow]:
    """Rows {"id", "prompt", "tags"?}; ids are unique. Raises RecipeError bad_data naming file and line."""
    rows: dict[str, PromptRow] = {}
    for where, row in read_lines(path):
        name = row.get("id")
        if not isinstance(name, str) or not name:
            raise bad_data(f"{where}: id must be a text that names the prompt")
        if name in rows:
            raise bad_data(f"{where}: id {name!r} was used before")
        rows[name] = PromptRow(name, read_messages(row, "prompt", where), read_tags(row, where))
    return list(rows.values())


def read_tags(row: dict[str, Any], where: str) -> tuple[str, ...]:
    """Short words about a prompt, for example `safety`; none where the row has none."""
    tags = row.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise bad_data(f'{where}: tags must be a list of texts, for example ["safety"]')
    return tuple(tags)


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each non-blank line as ("file, line n", object); an absent or empty file is an error."""
    if not path.is_file():
        raise bad_data(f"{path.name}: there is no such file in the run directory ({path.parent.name}/)")
    count = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path.name}, line {number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                json.dumps(row, ensure_ascii=False).encode()  # half of a surrogate pair is no text
            except ValueError as error:
                raise bad_data(f"{where}: not valid JSON ({error})") from error
            if not isinstance(row, dict):
                raise bad_data(f"{where}: must be a JSON object")
            count += 1
            yield where, row
    if not count:
        raise bad_data(f"{path.name}: has no rows; at least one is needed")


def read_messages(row: dict[str, Any], name: str, where: str) -> Messages:
    """Chat messages [{"role", "content"}, ...], at least one; extra keys of a message are dropped."""
    value = row.get(name)
    if not isinstance(value, list) or not value:
        raise bad_data(f"{where}: {name} must be a list of at least one message")
    messages = []
    for message in value:
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if role not in ROLES or not isinstance(content, str):
            raise bad_data(
                f"{where}: {name} needs messages with a role ({', '.join(ROLES)}) and a text content"
            )
        messages.append({"role": str(role), "content": content})
    return messages


def read_response(row: dict[str, Any], name: str, where: str) -> Messages:
    messages = read_messages(row, name, where)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise bad_data(f"{where}: {name} must be one message with the role assistant")
    return messages


def bad_data(message: str) -> RecipeError:
    return RecipeError("bad_data", message)


def fit_rows(rows: list[Row], tokenizer: Any, max_length: int, run: Run, name: str) -> list[Row]:
    """Cut prompts from the left so that each row fits max_length tokens; warn of what was cut or left out.

    Raises RecipeError bad_data when nothing remains.
    """
    kept: list[Row] = []
    cut = 0
    for row in rows:
        prompt = fit_prompt(tokenizer, row.prompt, row.responses, max_length)
        if prompt is None:
            continue
        cut += prompt != row.prompt
        row.prompt = prompt
        kept.append(row)
    if cut:
        message = (
            f"{cut} of {len(rows)} {name} had a prompt that was cut from the left to fit {max_length} tokens"
        )
        run.emit("warning", message=message)
    if len(kept) < len(rows):
        message = (
            f"{len(rows) - len(kept)} of {len(rows)} {name} were longer than max_length ({max_length} tokens)"
        )
        run.emit("warning", message=f"{message} and were left out")
    if not kept:
        raise bad_data(f"none of the {len(rows)} {name} fits max_length ({max_length} tokens): raise it")
    return kept


def fit_prompt(
    tokenizer: Any, prompt: Messages, responses: list[Messages], max_length: int
) -> Messages | None:
    """The prompt, cut from the left until it fits max_length tokens with each of the responses; None if it
    cannot.

    Whole turns go first (a leading system message stays), then the beginning of the last turn's text.
    """

    def excess(messages: Messages) -> int:
        if not responses:
            return len(encode_chat(tokenizer, messages, prompt_only=True)) - max_length
        return max(len(encode_chat(tokenizer, messages + response)) for response in responses) - max_length

    system = prompt[:1] if prompt[0]["role"] == "system" and len(prompt) > 1 else []
    turns = prompt[len(system) :]
    while excess(system + turns) > 0 and len(turns) > 1:
        turns = turns[1:]
        if len(turns) > 1 and turns[0]["role"] == "assistant":
            turns = turns[1:]
    last = turns[0]
    tokens: list[int] = []
    while (over := excess(system + turns)) > 0:
        tokens = tokens or tokenizer.encode(last["content"], add_special_tokens=False)
        if len(tokens) <= over:
            return None
        tokens = tokens[over:]
        turns = [{"role": last["role"], "content": tokenizer.decode(tokens)}]
    return system + turns


def encode_chat(tokenizer: Any, messages: Messages, *, prompt_only: bool = False) -> list[int]:
    """Token ids of a conversation through the chat template; `prompt_only` ends where the response begins."""
    ids = tokenizer.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=prompt_only, return_dict=False
    )
    return list(ids)


def prompt_encoder(tokenizer: Any, room: int) -> Callable[[Messages], list[int]]:
    """A function from a prompt to its token ids, cut from the left to at most `room` tokens."""

    def encode(prompt: Messages) -> list[int]:
        fitted = fit_prompt(tokenizer, prompt, [], room)
        if fitted is None:
            raise bad_data(f"a prompt does not fit {room} tokens whatever is cut: raise max_length")
        return encode_chat(tokenizer, fitted, prompt_only=True)

    return encode
