"""Passages that raters mark in a response: found by their words, stored as a range of characters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from rating.models import Project, SpanMark
from rating.services.errors import AnswerError, read_words

MAX_MARKS = 10
MAX_REASON = 200
MARKUP = frozenset("*_`#>~|[]()\\$")


@dataclass(frozen=True)
class Mark:
    """A passage that the rater marked: `response` is its number as shown, `nth` how often it came before."""

    response: int
    passage: str
    verdict: str
    reason: str = ""
    nth: int = 0


StoredMark = tuple[int, int, int, str, str]


def find_passage(text: str, passage: str, nth: int = 0) -> tuple[int, int] | None:
    """Where the passage stands in the text: its first character and the one after its last, in code points.

    The words count: white space may differ, and Markdown's signs may be missing, as in what is shown.

    Args:
        nth: how many earlier occurrences to pass over; the last one is taken when there are fewer.
    """
    wanted = "".join(character for character in passage if _counts(character))
    if not wanted:
        return None
    places = [place for place, character in enumerate(text) if _counts(character)]
    bare = "".join(text[place] for place in places)
    found, start = -1, -1
    for _time in range(nth + 1):
        start = bare.find(wanted, start + 1)
        if start < 0:
            break
        found = start
    return None if found < 0 else (places[found], places[found + len(wanted) - 1] + 1)


def read_marks(
    project: Project, shown: Sequence[int], texts: Mapping[int, str], marks: Sequence[Mark]
) -> frozenset[StoredMark]:
    """The marks as (completion, start, end, verdict, reason).

    Raises:
        AnswerError: at `marks.<response>`: the project asks for none, or a mark does not fit its response.
    """
    if marks and not project.mark_spans:
        raise AnswerError(f"marks.{marks[0].response}", _("This project asks for no marks in a response."))
    return frozenset(_read_mark(project, shown, texts, mark) for mark in marks)


def _read_mark(project: Project, shown: Sequence[int], texts: Mapping[int, str], mark: Mark) -> StoredMark:
    field = f"marks.{mark.response}"
    if not 1 <= mark.response <= len(shown):
        raise AnswerError(field, _("A mark is in response 1 to %(count)s.") % {"count": len(shown)})
    if mark.verdict not in SpanMark.Verdict.values:
        raise AnswerError(field, _("Say whether the marked passage is good or bad."))
    passage = read_words(mark.passage, field, _("Passage"), 1_000_000)
    reason = read_words(mark.reason, field, _("Reason"), MAX_REASON)
    if project.span_reasons and reason not in project.span_reasons:
        words = _("A reason for a mark is one of: %(reasons)s.")
        raise AnswerError(field, words % {"reasons": ", ".join(project.span_reasons)})
    completion = shown[mark.response - 1]
    place = find_passage(texts[completion], passage, mark.nth)
    if place is None:
        words = _("These words are not in the response: “%(words)s”. Copy them from it.")
        raise AnswerError(field, words % {"words": passage[:60]})
    return completion, *place, mark.verdict, reason


def _counts(character: str) -> bool:
    return not character.isspace() and character not in MARKUP
