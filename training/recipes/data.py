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
from training.recipes.spec.rewards import STRENGTHS

Message = dict[str, str]
Messages = list[Message]
ROLES = ("system", "user", "assistant")


@dataclass
class Preference:
    prompt: Messages
    chosen: Messages
    rejected: Messages
    margin: float | None
    strength: str | None = None
    label: float | None = None
    tie: bool = False
    head: str | None = None

    @property
    def responses(self) -> list[Messages]:
        return [self.chosen, self.rejected]


@dataclass
class Ranking:
    """One prompt's responses with their ranks: 1 is the best, equal ranks are ties."""

    prompt: Messages
    completions: list[Messages]
    ranks: list[int]
    head: str | None = None

    @property
    def responses(self) -> list[Messages]:
        return self.completions


@dataclass
class RatedResponse:
    """A response with its ratings by head, each from 0 (bottom of the scale) to 1 (top); "" is the overall
    one.
    """

    prompt: Messages
    completion: Messages
    ratings: dict[str, float]

    @property
    def responses(self) -> list[Messages]:
        return [self.completion]


@dataclass
class Thumb:
    """A response that was good (label true) or not."""

    prompt: Messages
    completion: Messages
    label: bool

    @property
    def responses(self) -> list[Messages]:
        return [self.completion]


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


Row = TypeVar("Row", Preference, Demonstration, Ranking, RatedResponse, Thumb)


def read_preferences(path: Path) -> list[Preference]:
    """Rows {"prompt", "chosen", "rejected", "margin"?, "strength"?, "label"?, "tie"?, "head"?}.

    `label` is the probability that chosen is the better one. Raises RecipeError bad_data naming file and
    line.
    """
    return [
        Preference(
            read_messages(row, "prompt", where),
            read_response(row, "chosen", where),
            read_response(row, "rejected", where),
            read_number(row, "margin", where),
            read_strength(row, where),
            read_share(row, "label", where),
            read_flag(row, "tie", where) or False,
            read_name(row, "head", where),
        )
        for where, row in read_lines(path)
    ]


def read_rankings(path: Path) -> list[Ranking]:
    """Rows {"prompt", "completions", "ranks", "head"?}. Raises RecipeError bad_data naming file and line."""
    rows = []
    for where, row in read_lines(path):
        given, ranks = row.get("completions"), row.get("ranks")
        if not isinstance(given, list) or len(given) < 2:
            raise bad_data(f"{where}: completions must be a list of at least two responses")
        if not isinstance(ranks, list) or len(ranks) != len(given):
            raise bad_data(f"{where}: ranks must be a list of {len(given)} numbers, one for each completion")
        if not all(isinstance(rank, int) and not isinstance(rank, bool) and rank >= 1 for rank in ranks):
            raise bad_data(f"{where}: ranks must be whole numbers from 1, the best; equal ones are ties")
        completions = [read_response({"completions": each}, "completions", where) for each in given]
        prompt = read_messages(row, "prompt", where)
        rows.append(Ranking(prompt, completions, ranks, read_name(row, "head", where)))
    return rows


def read_ratings(path: Path) -> list[RatedResponse]:
    """Rows {"prompt", "completion", "rating"? and/or "ratings"?: {head: rating}}, ratings from 0 to 1.

    Raises RecipeError bad_data naming file and line.
    """
    rows = []
    for where, row in read_lines(path):
        given = row.get("ratings") or {}
        if not isinstance(given, dict):
            raise bad_data(f"{where}: ratings must be an object of numbers by head, or null")
        ratings = {name: read_share(given, name, f"{where}: ratings") for name in given}
        ratings[""] = read_share(row, "rating", where)
        found = {name: rating for name, rating in ratings.items() if rating is not None}
        if not found:
            raise bad_data(f"{where}: rating must be a number from 0 to 1 (or ratings, by head)")
        prompt = read_messages(row, "prompt", where)
        rows.append(RatedResponse(prompt, read_response(row, "completion", where), found))
    return rows


def read_thumbs(path: Path) -> list[Thumb]:
    """Rows {"prompt", "completion", "label"}. Raises RecipeError bad_data naming file and line."""
    rows = []
    for where, row in read_lines(path):
        label = read_flag(row, "label", where)
        if label is None:
            raise bad_data(f"{where}: label must be true (a good response) or false")
        prompt = read_messages(row, "prompt", where)
        rows.append(Thumb(prompt, read_response(row, "completion", where), label))
    return rows


def read_demonstrations(path: Path) -> list[Demonstration]:
    """Rows {"prompt", "completion"}, or pairs, of which the chosen response is imitated.

    Raises RecipeError bad_data naming file and line.
    """
    rows = []
    for where, row in read_lines(path):
        if "chosen" in row and "completion" in row:
            raise bad_data(f"{where}: has a completion and a chosen response; keep the one to imitate")
        response = read_response(row, "chosen" if "chosen" in row else "completion", where)
        rows.append(Demonstration(read_messages(row, "prompt", where), response))
    return rows


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


def read_number(row: dict[str, Any], name: str, where: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad_data(f"{where}: {name} must be a number or null")
    if not math.isfinite(value):
        raise bad_data(f"{where}: {name} must be finite")
    return float(value)


def read_share(row: dict[str, Any], name: str, where: str) -> float | None:
    value = read_number(row, name, where)
    if value is not None and not 0 <= value <= 1:
        raise bad_data(f"{where}: {name} must be from 0 to 1")
    return value


def read_flag(row: dict[str, Any], name: str, where: str) -> bool | None:
    value = row.get(name)
    if value is not None and not isinstance(value, bool):
        raise bad_data(f"{where}: {name} must be true or false")
    return value


def read_name(row: dict[str, Any], name: str, where: str) -> str | None:
    value = row.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise bad_data(f"{where}: {name} must be a text or null")
    return value


def read_strength(row: dict[str, Any], where: str) -> str | None:
    value = row.get("strength")
    if value is not None and value not in STRENGTHS:
        raise bad_data(f"{where}: strength must be one of {', '.join(STRENGTHS)}, or null")
    return None if value is None else str(value)


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
