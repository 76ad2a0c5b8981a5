"""How many rows a query gives, before it is frozen: exactly where that is quick, else from a sample."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from django.db.models import Count

from rating.models import Project, Prompt
from training.services.making import Making, make_rows
from training.services.queries import (
    SnapshotQuery,
    collected_judgments,
    last_judgment,
    margins_of,
    narrow_choices,
)
from training.services.reading import iter_groups

SAMPLE = 2000
"""Prompts whose rows are made for the count."""


@dataclass(frozen=True)
class QueryCount:
    """What a query gives.

    Attributes:
        judgments: that it lets in by its choices.
        preferences, examples, ratings, rankings: rows of each kind.
        exact: counted to the last row; else projected from the first 2,000 prompts.
    """

    judgments: int
    preferences: int
    examples: int
    ratings: int
    rankings: int
    exact: bool

    @property
    def rows(self) -> int:
        """All rows to learn from."""
        return self.preferences + self.examples + self.ratings + self.rankings


def count_query(project: Project, query: SnapshotQuery) -> QueryCount:
    """What the query would give now: a handful of queries, whatever the size of the project.

    Weights by reliability change which way a row points, hardly how many there are: they are not measured.

    Raises:
        QueryError: `up_to` names none of the project's judgments.
    """
    judgments = count_judgments(project, query)
    making = Making(query, margins_of(project, query))
    kinds: Counter[str] = Counter()
    seen = 0
    prompts = Prompt.objects.filter(project=project).count() if query.prompts is None else query.prompts
    exact = prompts <= SAMPLE
    for group in iter_groups(project, query.model_copy(update={"prompts": min(prompts, SAMPLE)})):
        seen += len(group.judgments)
        kinds.update(row.kind for row in make_rows(group, making).rows)
    factor = 1.0 if exact else judgments / max(seen, 1)
    return QueryCount(
        judgments=seen if exact else judgments,
        preferences=round(kinds["preference"] * factor),
        examples=round(kinds["sft"] * factor),
        ratings=round(kinds["rating"] * factor),
        rankings=round(kinds["ranking"] * factor),
        exact=exact,
    )


def count_judgments(project: Project, query: SnapshotQuery) -> int:
    """How many judgments the choices let in, but for flags and agreement, which only the rows know."""
    last = last_judgment(project, query)
    judgments = narrow_choices(collected_judgments(project, last), query)
    if query.max_per_rater is None:
        return judgments.count()
    by_rater = judgments.values("rater").annotate(n=Count("pk"))
    return sum(min(row["n"], query.max_per_rater) for row in by_rater)
