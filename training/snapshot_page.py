"""What a snapshot's page shows: its card, where it went, and what differs from another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from training.charts import draw_bars
from training.models import DatasetSnapshot, TrainingRun
from training.query_form import tell_query
from training.services.cards import tell_gap
from training.services.differences import Difference, compare_snapshots
from training.services.rows import LEFT_OUT
from training.services.snapshots import DATA_FILES, MANIFEST, query_of

RATERS_SHOWN = 100
SNAPSHOTS_OFFERED = 100


@dataclass(frozen=True)
class Bars:
    """A chart of columns with its figures."""

    title: str
    svg: SafeString
    rows: list[tuple[str, int]]
    head: str


@dataclass(frozen=True)
class SnapshotPage:
    """Everything on the page.

    Attributes:
        card: the data card; empty for a snapshot from before there were any.
        against: the snapshot that it is compared with, if one was chosen; `difference` is None when its
            files are gone.
        moved: whether the difference was asked for.
    """

    snapshot: DatasetSnapshot
    query: list[tuple[str | Promise, str]]
    left_out: list[tuple[str | Promise, int]]
    files: list[tuple[str, int | None]]
    card: dict[str, Any]
    gaps: list[str]
    charts: list[Bars]
    runs: list[TrainingRun]
    others: list[DatasetSnapshot]
    against: DatasetSnapshot | None = None
    difference: Difference | None = None

    @property
    def raters(self) -> list[dict[str, Any]]:
        """The raters with the most judgments."""
        raters: list[dict[str, Any]] = self.card.get("raters", [])
        return raters[:RATERS_SHOWN]


def read_page(snapshot: DatasetSnapshot, against: int | None = None) -> SnapshotPage:
    """The page of a snapshot.

    Args:
        against: the number of the snapshot to compare it with; an unknown one compares with none.
    """
    siblings = DatasetSnapshot.objects.filter(project=snapshot.project).exclude(pk=snapshot.pk)
    other = siblings.filter(number=against).first() if against is not None else None
    card: dict[str, Any] = snapshot.counts.get("card", {})
    return SnapshotPage(
        snapshot,
        tell_query(query_of(snapshot)),
        told_left_out(snapshot),
        told_files(snapshot),
        card,
        [tell_gap(gap) for gap in card.get("gaps", [])],
        draw_card(card),
        list(
            TrainingRun.objects.filter(snapshot=snapshot).select_related("model_version").order_by("-number")
        ),
        list(siblings.only("number", "created_at", "project")[:SNAPSHOTS_OFFERED]),
        other,
        try_compare(other, snapshot) if other else None,
    )


def try_compare(before: DatasetSnapshot, after: DatasetSnapshot) -> Difference | None:
    """The difference, unless a file is gone."""
    try:
        return compare_snapshots(before, after)
    except OSError:
        return None


def told_left_out(snapshot: DatasetSnapshot) -> list[tuple[str | Promise, int]]:
    """What was left out, in words."""
    return [(LEFT_OUT.get(reason, reason), n) for reason, n in snapshot.counts["left_out"].items()]


def told_files(snapshot: DatasetSnapshot) -> list[tuple[str, int | None]]:
    """The manifest, and the files that have rows with how many."""
    rows = snapshot.counts["rows"]
    return [(MANIFEST, None), *((name, rows[name]) for name in DATA_FILES if rows.get(name))]


def draw_card(card: dict[str, Any]) -> list[Bars]:
    """The card's charts: lengths, raters, scripts."""
    lengths = card.get("lengths", {})
    titles = {
        "prompt": _("Length of the prompts"),
        "chosen": _("Length of chosen responses"),
        "rejected": _("Length of rejected responses"),
    }
    charts = [
        make_bars(
            title, _("characters"), [(str(1 << int(bits) >> 1), n) for bits, n in lengths[name].items()]
        )
        for name, title in titles.items()
        if lengths.get(name)
    ]
    if len(card.get("raters", [])) > 1:
        counted = [(entry["rater"], entry["judgments"]) for entry in card["raters"][:20]]
        charts.append(make_bars(_("Judgments by rater"), _("rater"), counted))
    if len(card.get("scripts", {})) > 1:
        charts.append(make_bars(_("Prompts by script"), _("script"), list(card["scripts"].items())))
    return charts


def make_bars(title: str, head: str, rows: list[tuple[str, int]]) -> Bars:
    return Bars(title, draw_bars(title, [(label, float(n)) for label, n in rows], x_label=head), rows, head)
