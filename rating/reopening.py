"""A stored judgment as the form that it was given on: of completions in shown positions again."""

from typing import Any

from rating.desk import AnswerForm
from rating.models import Answer, Judgment, Project, Rating, SpanMark
from rating.services.responses import field_name
from rating.services.spans import find_passage

MOST_OCCURRENCES = 10_000


def filled_in(judgment: Judgment, form: AnswerForm) -> dict[str, Any]:
    """The values of the form's fields, by name, for the answer that is stored.

    Sent back unchanged they are read into the same verdict.
    """
    assert judgment.assignment is not None, "an imported judgment was given on no form"
    shown: list[int] = judgment.assignment.order_shown
    number_of = {completion: number for number, completion in enumerate(shown, start=1)}
    return {
        "flags": judgment.flags,
        "rationale": judgment.rationale,
        "intent": judgment.intent,
        "rewrite": judgment.rewrite.text if judgment.rewrite else "",
        "safety": judgment.safety,
        **_choice(judgment, form, number_of),
        **_places(judgment, number_of),
        **_ratings(judgment, number_of),
        **_answers(judgment, number_of),
        **_marks(judgment, number_of),
    }


def _choice(judgment: Judgment, form: AnswerForm, number_of: dict[int, int]) -> dict[str, Any]:
    """What was said of two; a row of points has the strength in it."""
    if len(number_of) != 2:
        return {}
    if judgment.none_good:
        return {"choice": "none"}
    if judgment.preferred_id is None:
        return {"choice": judgment.choice}
    number = number_of[judgment.preferred_id]
    picked = str(3 - number if judgment.asked == Project.Asked.HARMFUL else number)
    if form.is_points and judgment.strength:
        return {"choice": f"{picked}:{judgment.strength}"}
    return {"choice": picked, "strength": judgment.strength}


def _places(judgment: Judgment, number_of: dict[int, int]) -> dict[str, Any]:
    """What was said of three or more: places, or the one that was picked."""
    if judgment.none_good:
        return {"none_good": True, "best": "none"}
    if not judgment.ranking:
        return {}
    harmful = judgment.asked == Project.Asked.HARMFUL
    groups = judgment.ranking[::-1] if harmful else judgment.ranking
    places = {
        f"rank_{number_of[completion]}": place
        for place, group in enumerate(groups, start=1)
        for completion in group
    }
    return {"best": str(number_of[groups[0][0]]), **places}


def _ratings(judgment: Judgment, number_of: dict[int, int]) -> dict[str, int]:
    ratings: list[Rating] = list(judgment.ratings.select_related("dimension"))
    found = {}
    for rating in ratings:
        number = number_of[rating.completion_id] if len(number_of) > 1 else None
        key = rating.dimension.key if rating.dimension else ""
        found[field_name("rating", key, number) if key else "rating"] = rating.value
    return found


def _answers(judgment: Judgment, number_of: dict[int, int]) -> dict[str, Any]:
    answers: list[Answer] = list(judgment.answers.select_related("question"))
    found = {}
    for answer in answers:
        number = number_of[answer.completion_id] if answer.completion_id else None
        value = answer.value
        if isinstance(value, bool):
            value = "yes" if value else "no"
        found[field_name("answer", answer.question.key, number)] = value
    return found


def _marks(judgment: Judgment, number_of: dict[int, int]) -> dict[str, Any]:
    marks: list[SpanMark] = list(
        judgment.span_marks.select_related("completion").order_by("completion", "start")
    )
    rows = dict.fromkeys(number_of.values(), 0)
    found: dict[str, Any] = {}
    for mark in marks:
        number = number_of[mark.completion_id]
        name = f"mark_{number}_{rows[number]}"
        rows[number] += 1
        text = mark.completion.text
        found |= {
            f"{name}_passage": text[mark.start : mark.end],
            f"{name}_verdict": mark.verdict,
            f"{name}_reason": mark.reason,
            f"{name}_nth": _occurrence(text, mark.start, mark.end),
        }
    return found


def _occurrence(text: str, start: int, end: int) -> int:
    """How many occurrences of the passage stand before this one."""
    for nth in range(MOST_OCCURRENCES):
        place = find_passage(text, text[start:end], nth)
        if place is None or place[0] >= start:
            return nth
    return MOST_OCCURRENCES
