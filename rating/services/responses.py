"""What is said of each response and of the item: ratings in dimensions, answers to questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from rating.models import Dimension, Project, Question
from rating.prepared import Prepared, whole
from rating.services.errors import AnswerError, read_words

MAX_ANSWER = 5_000
HIGHEST = 4

Given = bool | int | str | tuple[str, ...]
StoredRating = tuple[int, int | None, int]
StoredAnswer = tuple[int, int | None, Given]


@dataclass(frozen=True)
class Asking:
    """What a project asks of an item with a number of responses."""

    project: Project
    dimensions: tuple[Dimension, ...]
    questions: tuple[Question, ...]


def asking_of(project: Project, count: int) -> Asking:
    """What the project asks of an item with `count` responses. One query, two where responses are rated."""
    rates = count == 1 or project.rate_each
    dimensions = tuple(_DIMENSIONS(project=project.pk)) if rates else ()
    return Asking(project, dimensions, tuple(_QUESTIONS(project=project.pk)))


def field_name(kind: str, key: str, number: int | None = None) -> str:
    """The name of a field about a response, such as `rating_kind.2`; a dot is in no key."""
    return f"{kind}_{key}" if number is None else f"{kind}_{key}.{number}"


def read_single(
    asking: Asking, completion: int, rating: int | None, given: Mapping[str, int]
) -> set[StoredRating]:
    """The ratings of the only response: by dimension, or as a whole where the project has no dimensions."""
    if asking.dimensions:
        if rating is not None:
            raise _by_dimension(asking.dimensions)
        found = _read_ratings(asking.dimensions, completion, given, None)
        if not found:
            raise AnswerError("rating", _("Rate the response in at least one dimension."))
        return found
    if given:
        raise AnswerError("rating", _("This project rates a response as a whole, not by dimension."))
    if rating is None:
        raise AnswerError("rating", _("Rate the response."))
    low, high = asking.project.scale_min, asking.project.scale_max
    if not low <= rating <= high:
        raise AnswerError("rating", _("A rating is from %(low)s to %(high)s.") % {"low": low, "high": high})
    return {(completion, None, rating)}


def read_each(asking: Asking, shown: Sequence[int], given: Sequence[Mapping[str, int]]) -> set[StoredRating]:
    """The ratings of two responses or more, one mapping for each response shown."""
    if any(given) and not asking.dimensions:
        raise AnswerError("rating", _("A rating is for a single response; this item has more."))
    if len(given) > len(shown):
        words = ngettext(
            "This item has %(count)s response, and there are more ratings.",
            "This item has %(count)s responses, and there are more ratings.",
            len(shown),
        )
        raise AnswerError("rating", words % {"count": len(shown)})
    found: set[StoredRating] = set()
    for number, completion in enumerate(shown, start=1):
        ratings = given[number - 1] if number <= len(given) else {}
        found |= _read_ratings(asking.dimensions, completion, ratings, number)
    return found


def read_questions(
    asking: Asking, shown: Sequence[int], item: Mapping[str, Given], responses: Sequence[Mapping[str, Given]]
) -> frozenset[StoredAnswer]:
    """The answers: about the item, and about each response shown, by the key of the question."""
    by_scope = {scope: [q for q in asking.questions if q.scope == scope] for scope in Question.Scope.values}
    if len(responses) > len(shown):
        words = ngettext(
            "This item has %(count)s response, and there are more answers.",
            "This item has %(count)s responses, and there are more answers.",
            len(shown),
        )
        raise AnswerError("answers", words % {"count": len(shown)})
    found = _read_answers(by_scope[Question.Scope.ITEM], None, item, None)
    for number, completion in enumerate(shown, start=1):
        given = responses[number - 1] if number <= len(responses) else {}
        found |= _read_answers(by_scope[Question.Scope.RESPONSE], completion, given, number)
    return frozenset(found)


def _read_ratings(
    dimensions: Sequence[Dimension], completion: int, given: Mapping[str, int], number: int | None
) -> set[StoredRating]:
    if set(given) - {dimension.key for dimension in dimensions}:
        raise _by_dimension(dimensions)
    found: set[StoredRating] = set()
    for dimension in dimensions:
        name, value = field_name("rating", dimension.key, number), given.get(dimension.key)
        if value is None and dimension.required:
            raise AnswerError(
                name, _("Rate the response for: %(dimension)s.") % {"dimension": dimension.name}
            )
        if value is not None and not dimension.low <= value <= dimension.high:
            scale = {"low": dimension.low, "high": dimension.high}
            raise AnswerError(name, _("A rating is from %(low)s to %(high)s.") % scale)
        if value is not None:
            found.add((completion, dimension.pk, value))
    return found


def _read_answers(
    questions: Sequence[Question], completion: int | None, given: Mapping[str, Given], number: int | None
) -> set[StoredAnswer]:
    unknown = sorted(set(given) - {question.key for question in questions})
    if unknown:
        of_item = _("This project asks no question of the item called %(key)s.")
        of_response = _("This project asks no question of the response called %(key)s.")
        raise AnswerError("answers", (of_item if number is None else of_response) % {"key": unknown[0]})
    found: set[StoredAnswer] = set()
    for question in questions:
        name = field_name("answer", question.key, number)
        value = given.get(question.key, "")
        value = _read_answer(question, name, value) if value not in ("", ()) else ""
        if value not in ("", ()):
            found.add((question.pk, completion, value))
        elif question.required:
            yes_no = question.kind == Question.Kind.YES_NO
            raise AnswerError(name, _("Answer yes or no.") if yes_no else _("Answer this question."))
    return found


def _read_answer(question: Question, name: str, value: Given) -> Given:
    """The value when it fits the question's kind; tags come back in the order of the options."""
    kind = question.kind
    if kind == Question.Kind.YES_NO and not isinstance(value, bool):
        raise AnswerError(name, _("Answer yes or no."))
    if kind == Question.Kind.SCALE and (type(value) is not int or not 0 <= value <= HIGHEST):
        raise AnswerError(name, _("An answer is from 0 to %(highest)s.") % {"highest": HIGHEST})
    if kind == Question.Kind.CHOICE and value not in question.options:
        raise AnswerError(name, _("An answer is one of: %(options)s.") % _options(question))
    if kind == Question.Kind.TEXT:
        if not isinstance(value, str):
            raise AnswerError(name, _("Answer in words."))
        return read_words(value, name, _("Answer"), MAX_ANSWER)
    if kind == Question.Kind.TAGS:
        if not isinstance(value, tuple | list) or set(value) - set(question.options):
            raise AnswerError(name, _("Tags are some of: %(options)s.") % _options(question))
        return tuple(option for option in question.options if option in value)
    return value


def _by_dimension(dimensions: Sequence[Dimension]) -> AnswerError:
    keys = ", ".join(dimension.key for dimension in dimensions)
    return AnswerError("rating", _("This project rates by dimension: %(keys)s.") % {"keys": keys})


def _options(question: Question) -> dict[str, str]:
    return {"options": ", ".join(question.options)}


# What every answer asks for, see rating.prepared.
_DIMENSIONS = Prepared(lambda: Dimension.objects.in_force().filter(project=whole("project")))
_QUESTIONS = Prepared(lambda: Question.objects.in_force().filter(project=whole("project")))
