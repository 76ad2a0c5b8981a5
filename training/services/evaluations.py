"""Blind comparisons: two model versions answer the same held-out prompts, raters say whose is better."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from django.db import transaction
from django.db.models import Count, Max, Sum
from django.utils import timezone
from django.utils.translation import gettext

from rating.models import Completion, Item, Judgment, ModelVersion, Project, Prompt, Split, User
from rating.services.audit import record_event
from rating.services.items import create_item
from training.models import Evaluation, EvaluationItem, TrainingRun
from training.services.runs import Purpose, RunError, lock_project, queue_run
from training.services.sampling import (
    EVALUATION_PRIORITY,
    fit_new_tokens,
    group_samples,
    is_storable,
    new_completion,
    prompts_by_hash,
    read_samples,
)
from training.services.versions import user_model
from training.statistics import e_value, wilson_interval

EVALUATION_PROMPTS = 30
EVALUATION_TEMPERATURE = 0.7
DECIDED_AT = 20.0


class EvaluationError(ValueError):
    """An evaluation that cannot be started or closed: which field, and what would be right."""

    def __init__(self, field: str, message: str) -> None:
        self.field, self.message = field, message
        super().__init__(f"{field}: {message}")


@dataclass(frozen=True)
class EvaluationResult:
    """The figures of an evaluation, from the candidate's side.

    Judgments in force are counted, not items: an item that three raters judged counts three times. A prompt
    that both answered alike counts as one tie. `ties` holds those, ties and "both bad". `judged` is wins +
    losses + ties and `total` what it can become; `win_rate` is (wins + ties / 2) / judged with Wilson's 95%
    interval `low` to `high`. `e_value` looks at wins and losses alone; from 20 on the comparison is
    `decided`. `reward_win_rate` is the reward model's opinion of the same answers (ties half), `mean_kl` the
    mean KL of the candidate's answers to the model its line began with, in nats per response. None: not
    measured (yet).
    """

    wins: int
    losses: int
    ties: int
    both_bad: int
    same_responses: int
    judged: int
    total: int
    win_rate: float | None
    low: float | None
    high: float | None
    e_value: float
    decided: bool
    reward_win_rate: float | None
    mean_kl: float | None
    baseline_mean_kl: float | None
    verdict: str

    def as_evidence(self) -> dict[str, Any]:
        """The figures as JSON; an e-value that no JSON number holds is left out, `decided` says it."""
        figures = asdict(self)
        if self.e_value == float("inf"):
            figures["e_value"] = None
        return figures


@transaction.atomic
def start_evaluation(
    project: Project,
    candidate: ModelVersion,
    *,
    baseline: ModelVersion | None = None,
    prompts: int = EVALUATION_PROMPTS,
    temperature: float = EVALUATION_TEMPERATURE,
    user: User | None = None,
) -> Evaluation:
    """Queue the run in which candidate and baseline (the user model unless told) answer held-out prompts.

    Raises:
        EvaluationError: names the field and says what would be right.
    """
    baseline = baseline or user_model(project)
    if baseline is None:
        raise EvaluationError("baseline", gettext("The project has no user model to compare with yet."))
    if not 1 <= prompts <= 10_000:
        raise EvaluationError("prompts", gettext("Use a whole number from 1 to 10,000."))
    lock_project(project)
    check_pair(project, candidate, baseline)
    number = Evaluation.objects.filter(project=project).aggregate(last=Max("number"))["last"] or 0
    settings = {
        "limit": prompts,
        "samples_per_prompt": 1,
        "temperature": temperature,
        "max_new_tokens": fit_new_tokens(candidate, baseline),
    }
    try:
        run = queue_run(project, "sample", settings, purpose=Purpose.EVALUATE, policy=candidate, user=user)
    except RunError as error:
        field, message = error.problems[0]
        raise EvaluationError(field, message) from error
    evaluation = Evaluation.objects.create(
        project=project, number=number + 1, candidate=candidate, baseline=baseline, sampling_run=run
    )
    compared = {"candidate": candidate.name, "baseline": baseline.name}
    record_event("evaluation.started", project, evaluation.number, **compared)
    return evaluation


def check_pair(project: Project, candidate: ModelVersion, baseline: ModelVersion) -> None:
    """Refuse two versions that cannot be compared here and now.

    Raises:
        EvaluationError: names the field.
    """
    for field, version in (("candidate", candidate), ("baseline", baseline)):
        if version.project_id != project.pk:
            raise EvaluationError(field, gettext("is a model version of another project."))
        if version.kind != ModelVersion.Kind.POLICY:
            refused = gettext("%(name)s is a reward model; only policies write responses.")
            raise EvaluationError(field, refused % {"name": version.name})
    if candidate.pk == baseline.pk:
        refused = gettext("%(name)s is the baseline itself; choose another version.")
        raise EvaluationError("candidate", refused % {"name": candidate.name})
    if not Prompt.objects.filter(project=project, split=Split.EVAL).exists():
        raise EvaluationError(
            "prompts",
            gettext("The project has no held-out prompts: import more, or raise its share of eval prompts."),
        )
    going_on = Evaluation.objects.filter(
        project=project,
        candidate=candidate,
        baseline=baseline,
        state__in=(Evaluation.State.SAMPLING, Evaluation.State.OPEN),
    ).first()
    if going_on:
        refused = gettext("Evaluation %(number)s compares these two already.")
        raise EvaluationError("candidate", refused % {"number": going_on.number})


@transaction.atomic
def open_evaluation(run: TrainingRun) -> Evaluation:
    """Store both versions' answers and put them up for blind rating, ahead of everything else.

    Which of the two is at position 0 is drawn per item. Prompts that both answered alike are counted, not
    shown; with nothing to show the evaluation is closed at once.
    """
    evaluation = Evaluation.objects.select_related("candidate", "baseline", "project").get(sampling_run=run)
    writers = {"candidate": evaluation.candidate, "baseline": evaluation.baseline}
    groups = group_samples(read_samples(run))
    prompts = prompts_by_hash(run, groups)
    pairs: list[Pair] = []
    for key, rows in groups.items():
        answers = {row["model"]: row for row in rows}
        if key not in prompts or answers.keys() != writers.keys() or not all(map(is_storable, rows)):
            continue
        if answers["candidate"]["response"] == answers["baseline"]["response"]:
            evaluation.same_responses += 1
            continue
        order = draw_order()
        completions = [new_completion(prompts[key], answers[name], writers[name], run) for name in order]
        pairs.append(Pair(answers, order, completions))
    # In the order drawn: ids that told the candidate from the baseline would give the blind away.
    Completion.objects.bulk_create([completion for pair in pairs for completion in pair.completions])
    EvaluationItem.objects.bulk_create([place_pair(evaluation, pair) for pair in pairs])
    evaluation.state = Evaluation.State.OPEN if pairs else Evaluation.State.CLOSED
    evaluation.closed_at = None if pairs else timezone.now()
    evaluation.save(update_fields=["state", "closed_at", "same_responses"])
    return evaluation


@dataclass(frozen=True)
class Pair:
    """Both answers to one prompt: rows by "candidate" and "baseline", and the order drawn for the item."""

    answers: dict[str, dict[str, Any]]
    order: list[str]
    completions: list[Completion]


def draw_order() -> list[str]:
    """Which of the two stands at position 0 of the item, by lot."""
    return random.choice([["candidate", "baseline"], ["baseline", "candidate"]])  # noqa: S311


def place_pair(evaluation: Evaluation, pair: Pair) -> EvaluationItem:
    """Make the item of one prompt; returns its unsaved place in the evaluation."""
    item = create_item(
        evaluation.project,
        pair.completions[0].prompt,
        pair.completions,
        purpose=Item.Purpose.EVALUATE,
        priority=EVALUATION_PRIORITY,
    )
    return EvaluationItem(
        evaluation=evaluation,
        item=item,
        candidate_position=pair.order.index("candidate"),
        candidate_reward=pair.answers["candidate"].get("reward"),
        baseline_reward=pair.answers["baseline"].get("reward"),
    )


@transaction.atomic
def close_evaluation(evaluation: Evaluation) -> Evaluation:
    """End an open evaluation: its items are handed out no more. One that is closed already stays as it is.

    Raises:
        EvaluationError: it is still being written, or it failed.
    """
    changed = Evaluation.objects.filter(pk=evaluation.pk, state=Evaluation.State.OPEN).update(
        state=Evaluation.State.CLOSED, closed_at=timezone.now()
    )
    if changed:
        record_event("evaluation.closed", evaluation.project, evaluation.number)
        Item.objects.filter(evaluation_place__evaluation=evaluation, open_slots__gt=0).update(open_slots=0)
    evaluation.refresh_from_db()
    if evaluation.state != Evaluation.State.CLOSED:
        if evaluation.state == Evaluation.State.FAILED:
            raise EvaluationError("evaluation", gettext("It failed, so it cannot be closed."))
        raise EvaluationError("evaluation", gettext("It is still writing responses, so it cannot be closed."))
    return evaluation


def evaluation_result(evaluation: Evaluation) -> EvaluationResult:
    """The evaluation's figures as they stand."""
    return evaluation_results([evaluation])[evaluation.pk]


@dataclass
class Tally:
    """Counts of one evaluation while they are gathered."""

    wins: int = 0
    losses: int = 0
    ties: int = 0
    both_bad: int = 0
    places: int = 0
    reward_score: float = 0.0
    rewarded: int = 0


def evaluation_results(evaluations: Iterable[Evaluation]) -> dict[int, EvaluationResult]:
    """The figures of several evaluations by their pk; three queries for any number of them."""
    wanted = list(evaluations)
    tallies = {evaluation.pk: Tally() for evaluation in wanted}
    count_votes(tallies)
    score_rewards(tallies)
    slots = dict(
        Item.objects.filter(evaluation_place__evaluation__in=list(tallies))
        .values_list("evaluation_place__evaluation")
        .annotate(slots=Sum("overlap"))
    )
    metrics = dict(
        TrainingRun.objects.filter(evaluation__in=list(tallies)).values_list("evaluation", "result__metrics")
    )
    return {
        evaluation.pk: make_result(
            evaluation, tallies[evaluation.pk], slots.get(evaluation.pk, 0), metrics.get(evaluation.pk) or {}
        )
        for evaluation in wanted
    }


def count_votes(tallies: dict[int, Tally]) -> None:
    """Count the judgments in force by what they mean for the candidate."""
    votes = (
        Judgment.objects.in_force()
        .filter(item__evaluation_place__evaluation__in=list(tallies))
        .values_list(
            "item__evaluation_place__evaluation", "item__evaluation_place__candidate_position", "choice"
        )
        .annotate(count=Count("pk"))
    )
    for pk, position, choice, count in votes:
        tally = tallies[pk]
        if choice == Judgment.Choice.TIE:
            tally.ties += count
        elif choice == Judgment.Choice.BOTH_BAD:
            tally.both_bad += count
        elif choice == (Judgment.Choice.A, Judgment.Choice.B)[position]:
            tally.wins += count
        elif choice:
            tally.losses += count


def score_rewards(tallies: dict[int, Tally]) -> None:
    """Sum up what the reward model thinks: 1 for the candidate, 1/2 for equal scores."""
    rows = EvaluationItem.objects.filter(evaluation__in=list(tallies)).values_list(
        "evaluation", "candidate_reward", "baseline_reward"
    )
    for pk, candidate, baseline in rows:
        tally = tallies[pk]
        tally.places += 1
        if candidate is not None and baseline is not None:
            tally.rewarded += 1
            tally.reward_score += 1.0 if candidate > baseline else 0.5 if candidate == baseline else 0.0


def make_result(
    evaluation: Evaluation, tally: Tally, slots: int, metrics: dict[str, Any]
) -> EvaluationResult:
    """The figures from the counts."""
    same = evaluation.same_responses
    ties = tally.ties + tally.both_bad + same
    judged = tally.wins + tally.losses + ties
    score = tally.wins + ties / 2
    low, high = wilson_interval(score, judged) if judged else (None, None)
    evidence = e_value(tally.wins, tally.losses)
    return EvaluationResult(
        wins=tally.wins,
        losses=tally.losses,
        ties=ties,
        both_bad=tally.both_bad,
        same_responses=same,
        judged=judged,
        total=max(judged, slots + same),
        win_rate=score / judged if judged else None,
        low=low,
        high=high,
        e_value=evidence,
        decided=evidence >= DECIDED_AT,
        # Equal answers get equal scores, so they are half right here too.
        reward_win_rate=(tally.reward_score + same / 2) / (tally.rewarded + same) if tally.rewarded else None,
        mean_kl=metrics.get("candidate/kl"),
        baseline_mean_kl=metrics.get("baseline/kl"),
        verdict=say_verdict(evaluation, tally, judged, evidence),
    )


def say_verdict(evaluation: Evaluation, tally: Tally, judged: int, evidence: float) -> str:
    """One plain sentence about where the comparison stands."""
    words = {
        "candidate": evaluation.candidate.name,
        "baseline": evaluation.baseline.name,
        "wins": tally.wins,
        "losses": tally.losses,
    }
    return choose_verdict(evaluation, tally, judged, evidence) % words


def choose_verdict(evaluation: Evaluation, tally: Tally, judged: int, evidence: float) -> str:
    """The sentence with places for the names and the votes."""
    if evaluation.state == Evaluation.State.FAILED:
        return gettext("The responses could not be written, so there is nothing to compare.")
    if evaluation.state == Evaluation.State.SAMPLING:
        return gettext("%(candidate)s and %(baseline)s are writing their responses.")
    if not tally.places:
        return gettext("%(candidate)s and %(baseline)s answered every prompt alike.")
    if judged == evaluation.same_responses:
        return gettext("Nobody has compared the responses yet.")
    if evidence < DECIDED_AT and evaluation.state == Evaluation.State.OPEN:
        return gettext(
            "Not decided: %(candidate)s stands %(wins)s to %(losses)s against %(baseline)s, which chance "
            "alone may do. More comparisons may decide it."
        )
    if evidence < DECIDED_AT:
        return gettext(
            "Not decided: %(candidate)s stands %(wins)s to %(losses)s against %(baseline)s, which chance "
            "alone may do."
        )
    if tally.wins > tally.losses:
        return gettext("%(candidate)s is better than %(baseline)s: %(wins)s to %(losses)s.")
    return gettext("%(candidate)s is worse than %(baseline)s: %(wins)s to %(losses)s.")
