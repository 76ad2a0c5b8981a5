"""Prompts with responses to be rated, one JSON object per line.

{"prompt": text or messages, "responses": [text or {"text", "model"}, ...], "kind": ..., "metadata": {...}},
or "response" for a single one, or "messages" whose last one, when the assistant's, is the response.
"""

from collections.abc import Sequence
from typing import Any

from django.utils.translation import gettext_lazy as _

from rating.services.imports.formats.base import Format, Row, read_model
from rating.services.imports.rows import ImportRow, LeftOut, Read, Response, check_json
from rating.services.items import MAX_COMPLETIONS
from rating.services.texts import Message, TextError, check_messages, check_text

FIELDS = {"prompt", "messages", "response", "responses", "kind", "metadata"}
KINDS = {"single": (1, MAX_COMPLETIONS), "pair": (2, 2), "ranking": (3, MAX_COMPLETIONS)}


def recognises(rows: Sequence[Row]) -> bool:
    """Whether the first row has a prompt, and anything else of ours."""
    row = rows[0]
    return bool({"prompt", "messages"} & row.keys())


def read(line: int, row: Row) -> Read:
    """A prompt with none to nine responses, to be rated together or (kind `single`) one by one.

    Raises:
        TextError: a field is missing, unfit, or contradicts another.
    """
    messages, own = read_prompt(row)
    responses = read_responses(row, own)
    kind = read_kind(row, len(responses))
    unique: dict[object, Response] = {}
    for response in responses:
        # Rated against each other the same text of two makers could only tie; one by one both count.
        same = (response.text, response.model) if kind == "single" else response.text
        unique.setdefault(same, response)
    if len(responses) > 1 and len(unique) == 1 and kind != "single":
        return LeftOut(line, "equal")
    places = list(range(len(unique)))
    items = [[place] for place in places] if kind == "single" else [places] if places else []
    return ImportRow(
        line,
        messages,
        list(unique.values()),
        items,
        metadata=read_metadata(row),
        noted=["same_response"] if len(unique) < len(responses) else [],
        ignored=row.keys() - FIELDS,
    )


def read_prompt(row: dict[str, Any]) -> tuple[list[Message], str | None]:
    """The prompt's messages, and the response that `messages` ends with, if it does."""
    if "prompt" in row and "messages" in row:
        raise TextError("messages: `prompt` is there too; give one of the two.")
    if "messages" in row:
        messages = row["messages"]
        last = messages[-1] if isinstance(messages, list) and messages else None
        if isinstance(last, dict) and last.get("role") == "assistant":
            return check_messages(messages[:-1], "messages"), check_text(
                last.get("content"), "messages[-1].content"
            )
        return check_messages(messages, "messages"), None
    if "prompt" not in row:
        raise TextError("prompt: is missing; a row has `prompt` (a text or chat messages) or `messages`.")
    prompt = row["prompt"]
    if isinstance(prompt, list):
        return check_messages(prompt), None
    if not isinstance(prompt, str):
        raise TextError(f"prompt: expected a text or chat messages, found {type(prompt).__name__}.")
    if not check_text(prompt, "prompt").strip():
        raise TextError("prompt: is empty; give what is to be answered.")
    return [{"role": "user", "content": prompt}], None


def read_responses(row: dict[str, Any], own: str | None) -> list[Response]:
    """The responses of `responses`, `response` or the end of `messages`, whichever one is there."""
    given = [name for name in ("responses", "response") if name in row]
    if len(given) + (own is not None) > 1:
        raise TextError(f"{given[-1]}: the row gives its response in two ways; give one of them.")
    if own is not None:
        return [Response(own)]
    if "response" in row:
        return [read_response(row["response"], "response")]
    values = row.get("responses", [])
    if not isinstance(values, list):
        raise TextError(f"responses: expected a list of responses, found {type(values).__name__}.")
    if len(values) > MAX_COMPLETIONS:
        raise TextError(f"responses: {len(values)} are too many; one item has at most {MAX_COMPLETIONS}.")
    return [read_response(value, f"responses[{index}]") for index, value in enumerate(values)]


def read_response(value: object, name: str) -> Response:
    if isinstance(value, dict):
        if "text" not in value:
            raise TextError(f'{name}: expected a text or {{"text": ..., "model": ...}}; `text` is missing.')
        unknown = sorted(value.keys() - {"text", "model"})
        if unknown:
            raise TextError(f"{name}: {unknown[0][:60]!r} is unknown; a response has `text` and `model`.")
        model = read_model(value.get("model"), f"{name}.model")
        return Response(check_text(value["text"], f"{name}.text"), model)
    return Response(check_text(value, name))


def read_kind(row: dict[str, Any], count: int) -> str:
    """How the responses are rated: as the row says, or by their number."""
    if row.get("kind") is None:
        return "single" if count == 1 else "pair" if count == 2 else "ranking"
    kind = row["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise TextError(f"kind: {str(kind)[:60]!r} is unknown; use one of {', '.join(KINDS)}.")
    low, high = KINDS[kind]
    if not low <= count <= high:
        number = str(low) if low == high else f"{low} to {high}"
        raise TextError(f"kind: {kind!r} needs {number} responses, and the row has {count}.")
    return kind


def read_metadata(row: dict[str, Any]) -> dict[str, Any]:
    metadata = row.get("metadata")
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise TextError(f"metadata: expected an object, found {type(metadata).__name__}.")
    check_json(metadata, "metadata")
    return metadata


RESPONSES = Format("responses", _("Prompts, with or without responses"), recognises, read)
