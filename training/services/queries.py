"""The query of a snapshot: which judgments, and how they become rows. Stored with it, and hashed."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, Self

from django.db.models import Count, F, Max, Q, Window
from django.db.models.functions import RowNumber
from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rating.models import Guidelines, Item, Judgment, Project, Prompt, Rater
from rating.models.judgments import JudgmentQuerySet
from rating.services.answers import FLAGS
from rating.services.texts import escape_unstorable

MARGINS: dict[str, dict[str, float]] = {
    "none": {},
    "small": {"significantly": 1.0, "better": 2 / 3, "slightly": 1 / 3, "negligibly": 0.0},
    "large": {"significantly": 3.0, "better": 2.0, "slightly": 1.0, "negligibly": 0.0},
}
SEVEN_POINTS = {"significantly": 3.0, "better": 2.0, "slightly": 1.0}
EIGHT_POINTS = {"significantly": 3.5, "better": 2.5, "slightly": 1.5, "negligibly": 0.5}


class QueryError(ValueError):
    """A query that cannot be asked: `problems` are (field, what is wrong and what would be right)."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__(" ".join(f"{name}: {message}" for name, message in problems))
        self.problems = problems


class SnapshotQuery(BaseModel):
    """Which judgments of a project, and how they become rows.

    Attributes:
        since, until: days (UTC) on which they were judged, both included.
        raters: pseudonyms of the only raters that count; none named: all.
        without_raters: pseudonyms of raters that do not count.
        min_raters: judgments that an item needs, counted after the choices above.
        min_agreement: the share of an item's judgments, from 0 to 1, that must say the same.
        with_flags: only judgments with at least one of these flags; none named: with or without any.
        without_flags: no judgment with one of these flags.
        guidelines: numbers of the only guidelines that were shown; none named: all.
        imported: all, only those that came judged in a file, or only those that were given here.
        rows: a row for each vote; one by the majority of the votes on two responses; or one with a soft
            label, the preferred one's share of the votes.
        weights: whether all votes weigh the same, or by the raters' agreement with others, as in
            training.agreement.
        ties: left out, or kept as two rows, one each way, with the label 0.5 and the weight 0.5.
        margin: what a strength is worth: nothing, Llama 2's small or large values, or points from the middle.
        max_per_rater: at most so many judgments of one rater, always the same ones.
        up_to: the last judgment there was; None until it is frozen.
        prompts: how many prompts there were; None until it is frozen.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    since: date | None = None
    until: date | None = None
    raters: tuple[str, ...] = ()
    without_raters: tuple[str, ...] = ()
    min_raters: int = Field(1, ge=1, le=1000)
    min_agreement: float = Field(0.0, ge=0, le=1)
    with_flags: tuple[str, ...] = ()
    without_flags: tuple[str, ...] = ()
    guidelines: tuple[int, ...] = ()
    imported: Literal["all", "only", "without"] = "all"
    rows: Literal["votes", "majority", "soft"] = "votes"
    weights: Literal["equal", "reliability"] = "equal"
    ties: Literal["drop", "keep"] = "drop"
    margin: Literal["none", "small", "large", "points"] = "none"
    max_per_rater: int | None = Field(None, ge=1, le=1_000_000_000)
    up_to: uuid.UUID | None = None
    prompts: int | None = Field(None, ge=0)

    @field_validator("raters", "without_raters", "with_flags", "without_flags", "guidelines", mode="after")
    @classmethod
    def sort_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """The same choices are the same query, in whatever order they were made."""
        return tuple(sorted(set(values)))

    @field_validator("with_flags", "without_flags")
    @classmethod
    def know_flags(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [value for value in values if value not in FLAGS]:
            words = _("“%(value)s” is unknown; use some of %(known)s.")
            raise ValueError(words % {"value": unknown[0][:60], "known": ", ".join(FLAGS)})
        return values

    @model_validator(mode="after")
    def agree(self) -> Self:
        if self.since and self.until and self.since > self.until:
            words = _("%(until)s is before %(since)s; give a later day.")
            raise ValueError("until: " + words % {"until": self.until, "since": self.since})
        if self.weights == "reliability" and self.rows == "votes":
            raise ValueError(
                "weights: " + _("single votes have no weights; choose the rows majority or soft.")
            )
        return self

    @property
    def choices(self) -> dict[str, Any]:
        """What was chosen and differs from the defaults, as JSON; without the bounds in time."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"up_to", "prompts"})

    @property
    def plain(self) -> bool:
        """Whether a judgment counts by itself, whatever others said of its item."""
        return self.min_raters == 1 and self.min_agreement == 0


def read_query(project: Project, data: dict[str, Any]) -> SnapshotQuery:
    """A query from plain values, checked against the project.

    Raises:
        QueryError: names each field, what is wrong and what would be right.
    """
    try:
        query = SnapshotQuery.model_validate(data)
    except ValidationError as error:
        raise QueryError([tell(problem) for problem in error.errors()]) from None
    problems = []
    for name, field, known in (
        ("raters", "pseudonym", Rater.objects.filter(project=project)),
        ("without_raters", "pseudonym", Rater.objects.filter(project=project)),
        ("guidelines", "number", Guidelines.objects.filter(project=project)),
    ):
        wanted = getattr(query, name)
        if wanted:
            asked = [value for value in wanted if escape_unstorable(str(value)) == str(value)]
            found = set(known.filter(**{f"{field}__in": asked}).values_list(field, flat=True))
            if missing := [value for value in wanted if value not in found]:
                problems.append(
                    (
                        name,
                        _("“%(value)s” is not in this project; look at its pages.")
                        % {"value": str(missing[0])[:60]},
                    )
                )
    if problems:
        raise QueryError(problems)
    return query


def tell(problem: Any) -> tuple[str, str]:
    """One of pydantic's errors as (field, message)."""
    message = problem["msg"].removeprefix("Value error, ")
    if problem["loc"]:
        return str(problem["loc"][0]), message
    name, _, rest = message.partition(": ")
    return name, rest


def bind_query(project: Project, query: SnapshotQuery) -> SnapshotQuery:
    """The query with its bounds in time: what there is now, where it does not say another."""
    known = query.model_dump()
    if query.up_to is None:
        last = Judgment.objects.of_project(project.pk).order_by("-pk").values_list("public_id", flat=True)
        known["up_to"] = last.first()
    if query.prompts is None:
        known["prompts"] = Prompt.objects.filter(project=project).count()
    return SnapshotQuery(**known)


def last_judgment(project: Project, query: SnapshotQuery) -> int:
    """The id of the last judgment that counts, 0 without any.

    Raises:
        QueryError: `up_to` names none of the project's judgments.
    """
    judgments = Judgment.objects.of_project(project.pk)
    if query.up_to is None:
        return judgments.aggregate(last=Max("pk"))["last"] or 0
    pk = judgments.filter(public_id=query.up_to).values_list("pk", flat=True).first()
    if pk is None:
        words = _("There is no judgment %(value)s in this project.")
        raise QueryError([("up_to", words % {"value": query.up_to})])
    return pk


def collected_judgments(project: Project, last: int) -> JudgmentQuerySet:
    """What could be learned from when `last` was the last judgment."""
    judgments: JudgmentQuerySet = Judgment.objects.of_project(project.pk)
    return narrow_time(judgments, last).filter(item__purpose=Item.Purpose.COLLECT)


def narrow_time(judgments: JudgmentQuerySet, last: int) -> JudgmentQuerySet:
    """Those in force when `last` was the last judgment."""
    in_force = Q(superseded_by__isnull=True) | Q(superseded_by__gt=last)
    return judgments.filter(in_force, pk__lte=last)


def narrow_choices(judgments: JudgmentQuerySet, query: SnapshotQuery) -> JudgmentQuerySet:
    """Those that the query's choices by themselves let in; caps and agreement come later."""
    if query.since:
        judgments = judgments.filter(judged_at__gte=start_of(query.since))
    if query.until:
        judgments = judgments.filter(judged_at__lt=start_of(query.until + timedelta(days=1)))
    if query.raters:
        judgments = judgments.filter(rater__pseudonym__in=query.raters)
    if query.without_raters:
        judgments = judgments.exclude(rater__pseudonym__in=query.without_raters)
    if query.guidelines:
        judgments = judgments.filter(guidelines__number__in=query.guidelines)
    if query.imported != "all":
        judgments = judgments.filter(assignment__isnull=query.imported == "only")
    return judgments


def start_of(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)


def flags_fit(query: SnapshotQuery, flags: list[str]) -> bool:
    """Whether a judgment with these flags counts; no database asks JSON lists alike."""
    if query.with_flags and not any(flag in query.with_flags for flag in flags):
        return False
    return not any(flag in query.without_flags for flag in flags)


def cap_raters(judgments: JudgmentQuerySet, query: SnapshotQuery) -> dict[int, uuid.UUID]:
    """For each rater above the cap, the public id of the last judgment that counts, in their order.

    Public ids are random, so the lowest ones are a sample by lot; a new judgment moves at most one out.
    """
    if query.max_per_rater is None:
        return {}
    busy = judgments.values("rater").annotate(n=Count("pk")).filter(n__gt=query.max_per_rater)
    turn = Window(RowNumber(), partition_by=F("rater"), order_by=F("public_id").asc())
    edges = (
        judgments.filter(rater__in=[row["rater"] for row in busy])
        .annotate(turn=turn)
        .filter(turn=query.max_per_rater)
    )
    return dict(edges.values_list("rater_id", "public_id"))


def margins_of(project: Project, query: SnapshotQuery) -> dict[str, float]:
    """What each strength is worth; empty for no margins.

    `points` counts from the middle of the row: seven points are 3, 2, 1; eight, which have no middle, and
    four strengths are 3.5, 2.5, 1.5, 0.5.
    """
    if query.margin != "points":
        return MARGINS[query.margin]
    return SEVEN_POINTS if project.comparison == Project.Comparison.SEVEN else EIGHT_POINTS
