"""What an evaluation's page shows: the prompts with both responses, where that spoils nothing."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, F, Prefetch, Q, QuerySet
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from rating.models import ItemCompletion, Judgment
from training.charts import draw_interval
from training.models import Evaluation, EvaluationItem
from training.services.evaluations import EvaluationResult

SHOWN_PROMPTS = 100
SIDES = {Judgment.Choice.A.value: 0, Judgment.Choice.B.value: 1}


@dataclass(frozen=True)
class Said:
    """One judgment from the candidate's side: `state` is won, lost or "" (neither); `words` for people."""

    state: str
    words: str


@dataclass(frozen=True)
class Compared:
    """One prompt with both responses and what was said of them, from the candidate's side."""

    messages: list[dict[str, str]]
    candidate: str
    baseline: str
    said: list[Said]
    candidate_reward: float | None
    baseline_reward: float | None


@dataclass(frozen=True)
class Agreement:
    """How often the reward model prefers the response that a rater preferred; ties are left out."""

    agreed: float
    of: int

    @property
    def share(self) -> float:
        """Between 0 and 1; equal scores count half."""
        return self.agreed / self.of


def draw_win_rate(result: EvaluationResult) -> SafeString:
    """The win rate with its interval against a draw; empty while nothing was judged."""
    if result.win_rate is None or result.low is None or result.high is None:
        return SafeString("")
    return draw_interval(gettext("Win rate of the candidate"), result.low, result.win_rate, result.high)


def read_places(evaluation: Evaluation) -> QuerySet[EvaluationItem]:
    """The evaluation's prompts with responses and judgments, in a constant number of queries."""
    return evaluation.places.select_related("item__prompt").prefetch_related(
        Prefetch("item__places", ItemCompletion.objects.select_related("completion")),
        Prefetch("item__judgments", Judgment.objects.in_force().select_related("rater").order_by("pk")),
    )


def read_comparisons(evaluation: Evaluation) -> list[Compared]:
    """At most SHOWN_PROMPTS prompts that may be seen: all when it is closed, else those fully judged."""
    places = read_places(evaluation).order_by("pk")
    if evaluation.state != Evaluation.State.CLOSED:
        judged = Count("item__judgments", filter=Q(item__judgments__superseded_by__isnull=True))
        places = places.annotate(judged=judged).filter(judged__gte=F("item__overlap"))
    return [compare(place) for place in places[:SHOWN_PROMPTS]]


def compare(place: EvaluationItem) -> Compared:
    """One prompt's row."""
    texts = {where.position: where.completion.text for where in place.item.places.all()}
    return Compared(
        messages=place.item.prompt.messages,
        candidate=texts[place.candidate_position],
        baseline=texts[1 - place.candidate_position],
        said=[say_choice(judgment, place.candidate_position) for judgment in place.item.judgments.all()],
        candidate_reward=place.candidate_reward,
        baseline_reward=place.baseline_reward,
    )


def say_choice(judgment: Judgment, candidate_position: int) -> Said:
    """A judgment in words, from the candidate's side."""
    if judgment.choice not in SIDES:
        return Said("", str(judgment.get_choice_display()))
    if SIDES[judgment.choice] == candidate_position:
        return Said("won", gettext("Candidate is better"))
    return Said("lost", gettext("Baseline is better"))


def read_agreement(evaluation: Evaluation) -> Agreement | None:
    """How far the reward model agrees with the raters; None when there is nothing to compare."""
    place = "item__evaluation_place__"
    rows = (
        Judgment.objects.in_force()
        .filter(**{place + "evaluation": evaluation, "choice__in": list(SIDES)})
        .exclude(Q(**{place + "candidate_reward": None}) | Q(**{place + "baseline_reward": None}))
        .values_list(
            "choice", place + "candidate_position", place + "candidate_reward", place + "baseline_reward"
        )
    )
    points = [
        0.5 if candidate == baseline else float((candidate > baseline) == (SIDES[choice] == position))
        for choice, position, candidate, baseline in rows
    ]
    return Agreement(sum(points), len(points)) if points else None
