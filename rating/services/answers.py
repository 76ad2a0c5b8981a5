"""What a rater answers, in shown positions, and what it means in canonical completions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from rating.models import Assignment, Judgment, Project
from rating.services.errors import AnswerError, read_words
from rating.services.points import STRENGTHS, takes_tie, wants_strength
from rating.services.responses import (
    Given,
    StoredAnswer,
    StoredRating,
    asking_of,
    read_each,
    read_questions,
    read_single,
)
from rating.services.spans import Mark, StoredMark, read_marks

__all__ = ["FLAGS", "AnswerError", "JudgmentAnswer", "Mark", "Verdict", "clamp_seconds", "read_answer"]

MAX_RATIONALE = 20_000
MAX_INTENT = 5_000
MAX_REWRITE = 100_000
MAX_SECONDS = 86_400.0

FLAGS = {
    "harmful": gettext_lazy("Harmful content"),
    "private": gettext_lazy("Private data of a person"),
    "prompt_unclear": gettext_lazy("The prompt makes no sense"),
    "unsure": gettext_lazy("I cannot judge this well"),
}


@dataclass(frozen=True)
class JudgmentAnswer:
    """What the rater said, in the order in which the completions were shown.

    Two completions: `choice` is "1" (the first shown is better), "2", "tie" or "both_bad"; `strength` may go
    with "1" and "2", see rating.services.points. One completion: `rating`, or `ratings` by the key of the
    dimension where the project has dimensions. Three to nine: `ranks`, the place of each completion shown, 1
    the best, equal places are ties; or `best`, the number of the picked one, where the project asks for that.
    Two or more: `response_ratings` are the ratings of each response shown, by the key of the dimension;
    `none_good` instead of a choice or ranks says that none is good enough.
    `answers` are the answers by the key of the question, `response_answers` the same for each response shown.
    Where the project asks for the more harmful response, "better" and "best" above mean more harmful.
    `seconds` is the browser's word for the time spent.
    """

    choice: str = ""
    rating: int | None = None
    ratings: Mapping[str, int] = field(default_factory=dict)
    response_ratings: Sequence[Mapping[str, int]] = ()
    ranks: Sequence[int | None] = ()
    best: int | None = None
    none_good: bool = False
    strength: str = ""
    safety: str = ""
    answers: Mapping[str, Given] = field(default_factory=dict)
    response_answers: Sequence[Mapping[str, Given]] = ()
    marks: Sequence[Mark] = ()
    intent: str = ""
    rewrite: str = ""
    flags: Sequence[str] = ()
    rationale: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Verdict:
    """An answer in canonical words, ready to be stored: completions, dimensions, questions by their ids."""

    choice: str = ""
    preferred_id: int | None = None
    strength: str = ""
    ranking: list[list[int]] | None = None
    none_good: bool = False
    asked: str = Project.Asked.BETTER.value
    safety: str = ""
    ratings: frozenset[StoredRating] = frozenset()
    answers: frozenset[StoredAnswer] = frozenset()
    marks: frozenset[StoredMark] = frozenset()
    intent: str = ""
    rewrite: str = ""
    flags: tuple[str, ...] = ()
    rationale: str = ""


def read_answer(
    project: Project, assignment: Assignment, canonical: Sequence[int], answer: JudgmentAnswer
) -> Verdict:
    """The answer in canonical words.

    Args:
        canonical: the item's completion ids in the order of their positions.

    Raises:
        AnswerError: the answer does not fit the item or the project.
    """
    shown: list[int] = assignment.order_shown
    _refuse_other_kinds(project, len(shown), answer)
    asking = asking_of(project, len(shown))
    choice, preferred_id, ranking = "", None, None
    if len(shown) == 2:
        choice, preferred_id = _read_choice(project, shown, canonical, answer)
    elif len(shown) > 2 and not answer.none_good:
        ranking = _read_ranking(project, shown, answer)
    if len(shown) == 1:
        ratings = read_single(asking, shown[0], answer.rating, answer.ratings)
    else:
        ratings = read_each(asking, shown, answer.response_ratings)
    return Verdict(
        choice=choice,
        preferred_id=preferred_id,
        strength=_read_strength(project, answer.strength, preferred_id),
        ranking=ranking,
        none_good=answer.none_good,
        asked=project.asked if len(shown) > 1 else Project.Asked.BETTER.value,
        safety=_read_safety(project, answer.safety, preferred_id, len(shown)),
        ratings=frozenset(ratings),
        answers=read_questions(asking, shown, answer.answers, answer.response_answers),
        marks=_read_marks(project, assignment, answer.marks),
        intent=_read_intent(project, answer.intent),
        rewrite=_read_rewrite(project, assignment, answer.rewrite),
        flags=_read_flags(answer.flags),
        rationale=_read_rationale(project, answer.rationale),
    )


def clamp_seconds(seconds: float | None, held: float) -> float | None:
    """The time spent as far as it can be true: no longer than the lease was held, at most a day."""
    if seconds is None or not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), max(held, 0.0), MAX_SECONDS)


def _read_choice(
    project: Project, shown: Sequence[int], canonical: Sequence[int], answer: JudgmentAnswer
) -> tuple[str, int | None]:
    """The choice and the preferred completion: the other one where the more harmful is picked."""
    choice, harmful = answer.choice, project.asked == Project.Asked.HARMFUL
    which = _("Say which response is more harmful.") if harmful else _("Say which response is better.")
    if answer.none_good:
        return Judgment.Choice.BOTH_BAD.value, None
    if choice in ("1", "2"):
        picked = int(choice) - 1
        preferred = shown[1 - picked if harmful else picked]
        return ("a" if preferred == canonical[0] else "b"), preferred
    if choice == "tie" and not takes_tie(project):
        raise AnswerError("choice", _("This project takes no tie. %(what)s") % {"what": which})
    if choice == "both_bad" and not project.allow_both_bad:
        raise AnswerError("choice", _("This project does not take “both bad”. %(what)s") % {"what": which})
    if choice not in ("tie", "both_bad"):
        raise AnswerError("choice", which)
    return choice, None


def _read_ranking(project: Project, shown: Sequence[int], answer: JudgmentAnswer) -> list[list[int]]:
    """Groups of completion ids, best first, ties in one group; gaps between the numbers mean nothing."""
    ranks: Sequence[int | None] = answer.ranks
    if project.pick_best:
        if answer.best is None or not 1 <= answer.best <= len(shown):
            words = ngettext(
                "Pick one of the %(count)s response.", "Pick one of the %(count)s responses.", len(shown)
            )
            raise AnswerError("best", words % {"count": len(shown)})
        ranks = [1 if number == answer.best else 2 for number in range(1, len(shown) + 1)]
    placed = [(rank, completion) for rank, completion in zip(ranks, shown, strict=False) if rank is not None]
    if len(ranks) != len(shown) or len(placed) != len(shown):
        words = ngettext(
            "Give the %(count)s response a place; equal ones share one.",
            "Give each of the %(count)s responses a place; equal ones share one.",
            len(shown),
        )
        raise AnswerError("ranks", words % {"count": len(shown)})
    if any(not 1 <= rank <= len(shown) for rank, _completion in placed):
        raise AnswerError("ranks", _("A place is from 1 to %(highest)s.") % {"highest": len(shown)})
    groups = [
        [completion for _rank, completion in group]
        for _rank, group in groupby(sorted(placed), lambda p: p[0])
    ]
    return groups[::-1] if project.asked == Project.Asked.HARMFUL else groups


def _refuse_other_kinds(project: Project, count: int, answer: JudgmentAnswer) -> None:
    """A choice, ratings and ranks exclude each other: what does not fit the item was meant for another."""
    if answer.choice and count != 2:
        raise AnswerError("choice", _("A choice is between two responses; this item has another number."))
    if (answer.rating is not None or answer.ratings) and count != 1:
        raise AnswerError("rating", _("A rating is for a single response; this item has more."))
    if (answer.ranks or answer.best is not None) and count < 3:
        raise AnswerError("ranks", _("Places are for three responses or more."))
    if answer.ranks and project.pick_best:
        raise AnswerError("best", _("This project asks for one response, not for places."))
    if answer.best is not None and not project.pick_best:
        raise AnswerError("ranks", _("This project asks for the place of each response."))
    if answer.none_good and (not project.allow_none or count < 2):
        raise AnswerError(
            "choice" if count == 2 else "none_good", _("“None is good enough” is not asked here.")
        )
    if answer.none_good and (answer.choice or answer.best or any(rank is not None for rank in answer.ranks)):
        raise AnswerError(
            "choice" if count == 2 else "none_good", _("None is good enough, or one is better: not both.")
        )


def _read_strength(project: Project, strength: str, preferred_id: int | None) -> str:
    offered = STRENGTHS[project.comparison]
    if strength and strength not in offered:
        raise AnswerError("strength", _("How much better is one of: %(strengths)s.") % _words(offered))
    if strength and preferred_id is None:
        raise AnswerError(
            "strength", _("How much better goes with one better response; leave it empty here.")
        )
    if not strength and preferred_id is not None and wants_strength(project):
        raise AnswerError("strength", _("Say how much better: %(strengths)s.") % _words(offered))
    return strength


def _words(strengths: Sequence[str]) -> dict[str, str]:
    """The strengths for a sentence, as the desk calls them."""
    return {"strengths": ", ".join(str(Judgment.Strength(strength).label) for strength in strengths)}


def _read_safety(project: Project, safety: str, preferred_id: int | None, count: int) -> str:
    asked = project.pair_safety and count == 2
    if safety and not asked:
        raise AnswerError("safety", _("The safety of a pair is not asked here."))
    if asked and safety not in Judgment.Safety.values:
        raise AnswerError("safety", _("Say which of the two responses are safe."))
    if safety == Judgment.Safety.CHOSEN_SAFE and preferred_id is None:
        raise AnswerError("safety", _("No response was chosen; say whether both are safe or both unsafe."))
    return safety


def _read_marks(project: Project, assignment: Assignment, marks: Sequence[Mark]) -> frozenset[StoredMark]:
    return read_marks(project, assignment.order_shown, _texts(assignment), marks) if marks else frozenset()


def _read_intent(project: Project, intent: str) -> str:
    intent = read_words(intent, "intent", _("Intent"), MAX_INTENT)
    if intent and not project.ask_intent:
        raise AnswerError("intent", _("The intent of an attack is not asked here."))
    if project.ask_intent and not intent:
        raise AnswerError("intent", _("Say first what the attack wants to reach."))
    return intent


def _read_rewrite(project: Project, assignment: Assignment, rewrite: str) -> str:
    rewrite = read_words(rewrite, "rewrite", _("Better response"), MAX_REWRITE)
    if rewrite and not project.allow_rewrite:
        raise AnswerError("rewrite", _("Writing a better response is not asked here."))
    if rewrite and any(text.strip() == rewrite for text in _texts(assignment).values()):
        raise AnswerError(
            "rewrite", _("This is one of the responses as it is: change it, or leave it empty.")
        )
    return rewrite


def _texts(assignment: Assignment) -> dict[int, str]:
    """The texts of the responses, by completion."""
    places = assignment.item.places.values_list("completion_id", "completion__text")
    return dict(places)


def _read_flags(flags: Sequence[str]) -> tuple[str, ...]:
    unknown = [flag for flag in flags if flag not in FLAGS]
    if unknown:
        raise AnswerError("flags", _("A flag is one of: %(flags)s.") % {"flags": ", ".join(FLAGS)})
    return tuple(flag for flag in FLAGS if flag in flags)


def _read_rationale(project: Project, rationale: str) -> str:
    rationale = read_words(rationale, "rationale", _("Reason"), MAX_RATIONALE)
    if rationale and project.rationale == Project.Rationale.OFF:
        raise AnswerError("rationale", _("A reason is not asked here."))
    if not rationale and project.rationale == Project.Rationale.REQUIRED:
        raise AnswerError("rationale", _("Say why."))
    return rationale
