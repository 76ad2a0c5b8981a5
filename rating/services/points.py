"""How points between two responses are stored: as a choice and a strength, never as left and right.

On a row of points the first is "response 1 is significantly better", the last "response 2 is significantly
better", in the order shown. Each point is a choice of a shown response and a strength; the choice is then
turned into the canonical completion like any other.

| strength        | eight points | seven points |
|-----------------|--------------|--------------|
| significantly   | 1 and 8      | 1 and 7      |
| better          | 2 and 7      | 2 and 6      |
| slightly        | 3 and 6      | 3 and 5      |
| negligibly      | 4 and 5      |              |
| tie             |              | 4            |
"""

from rating.models import Judgment, Project

Comparison = Project.Comparison
STRENGTHS: dict[str, tuple[str, ...]] = {
    Comparison.CHOICE: tuple(Judgment.Strength.values),
    Comparison.STRENGTHS: tuple(Judgment.Strength.values),
    Comparison.SEVEN: tuple(Judgment.Strength.values)[:3],
    Comparison.EIGHT: tuple(Judgment.Strength.values),
}


def shown_points(comparison: str) -> list[tuple[str, str]]:
    """The points of a row from the first shown response to the second: choice and strength of each.

    The choice is "1", "2" or "tie" as in JudgmentAnswer. Empty for a comparison that is no row of points.
    """
    if comparison not in (Comparison.SEVEN, Comparison.EIGHT):
        return []
    strengths = STRENGTHS[comparison]
    first, second = [("1", strength) for strength in strengths], [("2", s) for s in reversed(strengths)]
    return [*first, *([("tie", "")] if comparison == Comparison.SEVEN else []), *second]


def takes_tie(project: Project) -> bool:
    """Whether two responses may be called equally good: seven points have a middle, eight have none."""
    if project.comparison == Comparison.SEVEN:
        return True
    return project.allow_tie and project.comparison != Comparison.EIGHT


def wants_strength(project: Project) -> bool:
    """Whether a better response needs a strength."""
    return project.comparison != Comparison.CHOICE
