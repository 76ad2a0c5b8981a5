"""Freeze a project's judgments into a DatasetSnapshot."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from rating.models import Project
from rating.services.answers import FLAGS
from training.models import DatasetSnapshot
from training.services.files import spare_collector
from training.services.queries import QueryError, SnapshotQuery, read_query
from training.services.rows import LEFT_OUT
from training.services.snapshots import SnapshotError, freeze_snapshot, query_of

OPTIONS: dict[str, dict[str, Any]] = {
    "since": {"metavar": "DAY", "help": "judged on this day (UTC, YYYY-MM-DD) or later"},
    "until": {"metavar": "DAY", "help": "judged on this day or before"},
    "raters": {"nargs": "+", "metavar": "PSEUDONYM", "help": "only these raters"},
    "without_raters": {"nargs": "+", "metavar": "PSEUDONYM", "help": "without these raters"},
    "min_raters": {"type": int, "metavar": "N", "help": "items that at least so many judged"},
    "min_agreement": {
        "type": float,
        "metavar": "SHARE",
        "help": "of an item's raters who said the same, 0 to 1",
    },
    "with_flags": {"nargs": "+", "choices": tuple(FLAGS), "help": "only with one of these flags"},
    "without_flags": {"nargs": "+", "choices": tuple(FLAGS), "help": "without these flags"},
    "guidelines": {"nargs": "+", "type": int, "metavar": "N", "help": "only under these guidelines"},
    "imported": {"choices": ("all", "only", "without"), "help": "imported judgments (default: all)"},
    "rows": {"choices": ("votes", "majority", "soft"), "help": "what becomes a row (default: votes)"},
    "weights": {"choices": ("equal", "reliability"), "help": "what a vote weighs (default: equal)"},
    "ties": {"choices": ("drop", "keep"), "help": "ties (default: drop)"},
    "margin": {"choices": ("none", "small", "large", "points"), "help": "what a strength is worth"},
    "max_per_rater": {"type": int, "metavar": "N", "help": "at most so many judgments of one rater"},
}
"""One for each choice of SnapshotQuery."""


class Command(BaseCommand):
    help = "Freeze a project's judgments into hashed, split files that recipes read."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument(
            "--like", type=int, metavar="N", help="begin with what snapshot N asked, as of then"
        )
        for name, settings in OPTIONS.items():
            parser.add_argument(f"--{name.replace('_', '-')}", **settings)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            project = Project.objects.get(slug=options["project"])
        except Project.DoesNotExist:
            raise CommandError(f"There is no project with the slug {options['project']!r}.") from None
        spare_collector()
        newest = DatasetSnapshot.objects.filter(project=project).first()
        try:
            snapshot = freeze_snapshot(project, read_options(project, options))
        except (SnapshotError, QueryError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(describe(snapshot, new=newest is None or snapshot.number > newest.number))


def read_options(project: Project, options: dict[str, Any]) -> SnapshotQuery:
    """The query that the options ask. Raises QueryError; CommandError: no snapshot to begin with."""
    asked: dict[str, Any] = {}
    if options.get("like") is not None:
        source = DatasetSnapshot.objects.filter(project=project, number=options["like"]).first()
        if source is None:
            raise CommandError(f"{project.slug} has no snapshot {options['like']}.")
        asked = query_of(source).model_dump()
    asked |= {name: options[name] for name in OPTIONS if options.get(name) is not None}
    return read_query(project, asked)


def describe(snapshot: DatasetSnapshot, *, new: bool) -> str:
    """The snapshot in lines of plain text."""
    what = "frozen" if new else "has the same query and the same rows: nothing has changed since"
    lines = [
        f"Snapshot {snapshot.number} {what}.",
        f"  content hash {snapshot.content_hash}",
        f"  directory {snapshot.directory}",
    ]
    judgments = snapshot.counts["judgments"]
    lines.append("  judgments: " + ", ".join(f"{count:,} {split}" for split, count in judgments.items()))
    lines += [f"  {name}: {rows:,} rows" for name, rows in snapshot.counts["rows"].items()]
    lines += [
        f"  left out: {count:,} ({LEFT_OUT[reason]})" for reason, count in snapshot.counts["left_out"].items()
    ]
    return "\n".join(lines)
