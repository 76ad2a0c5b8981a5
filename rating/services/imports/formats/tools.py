"""What other annotation tools export: Argilla's records (both generations) and Label Studio's tasks.

Neither says which field is the prompt: it is found by the usual names, and so are the responses.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.utils.translation import gettext_lazy as _

from rating.services.imports.formats.base import (
    Format,
    Row,
    read_label,
    read_prompt,
    read_rater,
    read_reply,
    read_time,
)
from rating.services.imports.formats.trl import ranked_vote
from rating.services.imports.rows import ImportRow, LeftOut, Read, Response, Vote
from rating.services.items import MAX_COMPLETIONS
from rating.services.texts import TextError

PROMPTS = (
    "prompt",
    "instruction",
    "question",
    "query",
    "messages",
    "conversation",
    "chat",
    "context",
    "input",
    "text",
)
REPLY = re.compile(
    r"(response|answer|completion|output|generation|reply|candidate|model|chosen|rejected)s?([-_ ]?\w{1,3})?"
)
SIDES = {"left": 0, "a": 0, "first": 0, "1": 0, "right": 1, "b": 1, "second": 1, "2": 1}
TIES = {"tie", "same", "equal", "both", "neutral", "0"}
THUMBS = {"good": True, "bad": False, "thumbs_up": True, "thumbs_down": False, "up": True, "down": False}
SUBMITTED = {"submitted", "completed", None}


def read_fields(
    line: int, fields: Mapping[str, Any], items: Mapping[str, str], where: str
) -> tuple[ImportRow, dict[str, int]]:
    """The prompt and the responses among named texts, and each response's place by its name.

    `items` are responses for certain, such as those of a list to be ranked.
    """
    asked = next((name for name in PROMPTS if fields.get(name) not in (None, "", [])), None)
    if asked is None:
        raise TextError(
            f"{where}: has no prompt; one of the fields is called {', '.join(PROMPTS[:4])} or the like."
        )
    prompt = read_prompt(fields[asked], f"{where}.{asked}")
    made = ImportRow(line, prompt)
    places: dict[str, int] = {}
    named = {name: value for name, value in fields.items() if name != asked and REPLY.fullmatch(name.lower())}
    for name, value in {**named, **items}.items():
        if value is None:
            continue
        for number, inner in enumerate(value if is_list_of_texts(value) else [value], start=1):
            label = f"{name}-{number}" if is_list_of_texts(value) else name
            places[label] = len(made.responses)
            made.responses.append(Response(read_reply(inner, f"{where}.{label}")))
    if len(made.responses) > MAX_COMPLETIONS:
        raise TextError(f"{where}: {len(made.responses)} responses are too many; at most {MAX_COMPLETIONS}.")
    made.items = [list(range(len(made.responses)))] if made.responses else []
    return made, places


def is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(inner, str) for inner in value)


def vote_of(rater: str, value: object, places: Mapping[str, int], where: str) -> Vote | None:
    """The vote that a value is, however the tool says it; None when it is none on the responses."""
    count = len(places)
    if (
        isinstance(value, list)
        and value
        and all(isinstance(inner, dict) and "rank" in inner for inner in value)
    ):
        groups: dict[Any, list[int]] = {}
        for inner in value:
            groups.setdefault(inner["rank"], []).append(place_of(inner.get("value"), places, where))
        return ranked_vote(rater, [groups[rank] for rank in sorted(groups)])
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if count == 1:
        return rating_of(rater, value)
    if not isinstance(value, str | int) or isinstance(value, bool) or count < 2:
        return None
    word = str(value).strip().lower()
    if count == 2 and word in TIES and word not in places:
        return Vote(rater, choice="tie")
    by_name = {name.lower(): place for name, place in places.items()}
    place = by_name.get(word, SIDES.get(word) if count == 2 else None)
    if place is None:
        return None
    if count == 2:
        return Vote(rater, choice="prefer", preferred=place)
    return Vote(rater, ranking=[[place], [other for other in range(count) if other != place]])


def rating_of(rater: str, value: object) -> Vote | None:
    """A rating of the only response."""
    if isinstance(value, str) and value.strip().lower() in THUMBS:
        return Vote(rater, rating=THUMBS[value.strip().lower()])
    if isinstance(value, bool) or (isinstance(value, str) and value.strip().lower() in {"true", "false"}):
        return Vote(rater, rating=read_label(value, "label"))
    if isinstance(value, int | float) and value == int(value):
        return Vote(rater, rating=int(value))
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 4:
        return Vote(rater, rating=int(value))
    return None


def place_of(name: object, places: Mapping[str, int], where: str) -> int:
    """The place of the response of this name."""
    if str(name) not in places:
        raise TextError(f"{where}: {str(name)[:60]!r} is none of the responses: {', '.join(places)[:200]}.")
    return places[str(name)]


def add_votes(made: ImportRow, votes: list[Vote]) -> Read:
    """The row with its votes, one a rater: a second question about the same responses says nothing new."""
    seen: set[str] = set()
    for vote in votes:
        if vote.rater not in seen:
            seen.add(vote.rater)
            made.votes.append(vote)
    if len({response.text for response in made.responses}) < len(made.responses):
        return LeftOut(made.line, "equal")
    return made


# --- Argilla


def recognises_argilla(rows: Sequence[Row]) -> bool:
    """Whether the rows are records with `fields`, or have columns such as `preference.responses`."""
    row = rows[0]
    if (
        isinstance(row.get("fields"), dict)
        and {"responses", "suggestions", "status", "_server_id"} & row.keys()
    ):
        return True
    flat = any(name.endswith((".responses", "-suggestion", ".suggestion")) for name in row)
    return flat and any(name in PROMPTS for name in row)


def read_argilla(line: int, row: Row) -> Read:
    """A record with what annotators answered. Raises TextError."""
    fields = row["fields"] if isinstance(row.get("fields"), dict) else texts_of(row)
    made, places = read_fields(line, fields, {}, "fields")
    votes = []
    for question, rater, value in argilla_answers(row):
        vote = vote_of(read_rater("argilla", rater, "user_id"), value, places, question)
        if vote is not None:
            votes.append(vote)
    return add_votes(made, votes)


def texts_of(row: Row) -> dict[str, Any]:
    """The columns of a flat row that are fields of the record."""
    return {name: value for name, value in row.items() if "." not in name and not is_answers(value)}


def is_answers(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(inner, dict) and {"user_id", "value"} <= inner.keys() for inner in value)
    )


def argilla_answers(row: Row) -> Iterator[tuple[str, object, object]]:
    """(question, rater, value) of every submitted answer, in any of Argilla's ways of writing them."""
    responses = row.get("responses") if isinstance(row.get("fields"), dict) else None
    if isinstance(responses, list):  # the first generation: a list of {user_id, status, values}
        responses = [one for one in responses if isinstance(one, dict) and one.get("status") in SUBMITTED]
        for one in responses:
            values = one.get("values")
            for question, answer in values.items() if isinstance(values, dict) else ():
                yield question, one.get("user_id") or "unknown", inner_value(answer)
        return
    named = responses if isinstance(responses, dict) else {n: v for n, v in row.items() if is_answers(v)}
    for question, answers in named.items():
        for answer in answers if isinstance(answers, list) else ():
            if isinstance(answer, dict) and answer.get("status") in SUBMITTED:
                yield question, answer.get("user_id") or "unknown", answer.get("value")
    for name, values in row.items():
        if name.endswith(".responses") and isinstance(values, list):
            raters, states = row.get(f"{name}.users"), row.get(f"{name}.status")
            for place, value in enumerate(values):
                rater = raters[place] if isinstance(raters, list) and place < len(raters) else "unknown"
                state = states[place] if isinstance(states, list) and place < len(states) else None
                if state in SUBMITTED:
                    yield name.removesuffix(".responses"), rater, value


def inner_value(answer: object) -> object:
    return answer.get("value") if isinstance(answer, dict) else answer


# --- Label Studio


def recognises_label_studio(rows: Sequence[Row]) -> bool:
    """Whether the rows are tasks with `data` and `annotations`, or the small export of them."""
    row = rows[0]
    if isinstance(row.get("data"), dict) and {"annotations", "completions", "predictions"} & row.keys():
        return True
    return {"annotation_id", "annotator"} <= row.keys()


def read_label_studio(line: int, row: Row) -> Read:
    """A task with its annotations. Raises TextError."""
    if not isinstance(row.get("data"), dict):
        return read_small_export(line, row)
    made, places = read_fields(line, *split_items(row["data"]), "data")
    votes = []
    annotations = row.get("annotations", row.get("completions")) or []
    for number, annotation in enumerate(annotations if isinstance(annotations, list) else []):
        if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
            continue
        where = f"annotations[{number}]"
        rater = read_rater("label-studio", annotation.get("completed_by", "unknown"), f"{where}.completed_by")
        for value in result_values(annotation.get("result")):
            vote = vote_of(rater, value, places, f"{where}.result")
            if vote is not None:
                vote.at = read_time(annotation.get("updated_at") or annotation.get("created_at"))
                votes.append(vote)
    return add_votes(made, votes)


def split_items(data: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The task's texts, and the items of a list to be ranked: their text by their id."""
    texts: dict[str, Any] = {}
    items: dict[str, str] = {}
    for name, value in data.items():
        listed = (
            isinstance(value, list) and value and all(isinstance(one, dict) and "id" in one for one in value)
        )
        if listed:
            keys = ("body", "text", "html", "title")
            items |= {str(one["id"]): next((one[key] for key in keys if one.get(key)), "") for one in value}
        else:
            texts[name] = value
    return texts, items


def result_values(result: object) -> Iterator[object]:
    """What each part of an annotation's result chose."""
    for part in result if isinstance(result, list) else ():
        value = part.get("value") if isinstance(part, dict) else None
        if not isinstance(value, dict):
            continue
        ranked = value.get("ranker")
        if isinstance(value.get("selected"), str):
            yield value["selected"]
        elif isinstance(value.get("choices"), list):
            yield value["choices"]
        elif isinstance(value.get("rating"), int | float):
            yield value["rating"]
        elif isinstance(ranked, dict | list):
            order = next(iter(ranked.values()), []) if isinstance(ranked, dict) else ranked
            if isinstance(order, list):
                yield [{"rank": rank, "value": str(name)} for rank, name in enumerate(order)]


def read_small_export(line: int, row: Row) -> Read:
    """A row of JSON-MIN or CSV: the task's fields beside the answers, one row an annotation."""
    made, places = read_fields(line, row, {}, "row")
    rater = read_rater("label-studio", row.get("annotator", "unknown"), "annotator")
    votes = []
    known = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", *PROMPTS, *places}
    for name, value in row.items():
        if name in known:
            continue
        value = value.get("selected", value.get("choices")) if isinstance(value, dict) else value
        vote = vote_of(rater, value, places, name) if value is not None else None
        if vote is not None:
            vote.at = read_time(row.get("updated_at") or row.get("created_at"))
            votes.append(vote)
    return add_votes(made, votes)


ARGILLA = Format("argilla", _("Argilla records"), recognises_argilla, read_argilla)
LABEL_STUDIO = Format("label-studio", _("Label Studio tasks"), recognises_label_studio, read_label_studio)
