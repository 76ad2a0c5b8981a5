"""What the pages of projects count: a few queries, however many projects, items and judgments there are."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta

from django.db.models import Count, Exists, OuterRef
from django.db.models.functions import TruncDate
from django.utils import timezone

from rating.models import Item, Judgment, Membership, Project, Role, User

DAYS = 14
CHART_WIDTH, CHART_HEIGHT, BAR_GAP = 560, 96, 8


@dataclass(frozen=True)
class ProjectCard:
    """A project on the start page, and what this account does in it."""

    project: Project
    roles: frozenset[str]
    has_open: bool

    @property
    def roles_in_words(self) -> list[str]:
        """The roles for the card's badges, always in the same order."""
        return [role.in_words for role in Role if role.value in self.roles]


@dataclass(frozen=True)
class Counts:
    """A project in figures."""

    items: int
    judged: int
    open: int
    judgments: int
    raters: int


@dataclass(frozen=True)
class Bar:
    """A day's judgments as a bar; x, y, width and height in the units of the chart's viewBox."""

    day: date
    count: int
    x: int
    y: int
    width: int
    height: int


def project_cards(user: User) -> list[ProjectCard]:
    """The projects that the account may see, each with its roles there. Two queries."""
    roles: dict[int, set[str]] = defaultdict(set)
    for project_id, role in Membership.objects.filter(user=user).values_list("project_id", "role"):
        roles[project_id].add(role)
    everywhere = {Role.ADMIN.value, Role.OPERATOR.value} if user.is_superuser else set()
    waiting = Item.objects.filter(project=OuterRef("pk"), open_slots__gt=0)
    projects = Project.objects.visible_to(user).annotate(has_open=Exists(waiting)).order_by("name", "pk")
    return [
        ProjectCard(project, frozenset(roles[project.pk] | everywhere), project.has_open)
        for project in projects
    ]


def project_counts(project: Project) -> Counts:
    """The project in figures. Three queries."""
    items = Item.objects.filter(project=project)
    said: dict[str, int] = (
        Judgment.objects.in_force()
        .of_project(project.pk)
        .aggregate(
            judgments=Count("pk"), judged=Count("item", distinct=True), raters=Count("rater", distinct=True)
        )
    )
    return Counts(items=items.count(), open=items.filter(open_slots__gt=0).count(), **said)


def judgments_per_day(project: Project, days: int = DAYS) -> list[Bar]:
    """The project's judgments of the last days, today last, as bars of a chart. One query."""
    today = timezone.localdate()
    first = today - timedelta(days=days - 1)
    counted = (
        Judgment.objects.in_force()
        .of_project(project.pk)
        .filter(judged_at__date__gte=first)
        .annotate(day=TruncDate("judged_at"))
        .values_list("day")
        .annotate(count=Count("pk"))
    )
    by_day = dict(counted)
    most = max(by_day.values(), default=0) or 1
    step = CHART_WIDTH // days
    bars = []
    for index in range(days):
        count = by_day.get(first + timedelta(days=index), 0)
        height = max(round(CHART_HEIGHT * count / most), 2 if count else 0)
        bars.append(
            Bar(
                day=first + timedelta(days=index),
                count=count,
                x=index * step + BAR_GAP // 2,
                y=CHART_HEIGHT - height,
                width=step - BAR_GAP,
                height=height,
            )
        )
    return bars
