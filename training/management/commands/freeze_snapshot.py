"""Freeze a project's judgments into a DatasetSnapshot."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from rating.models import Project
from training.models import DatasetSnapshot
from training.services.rows import LEFT_OUT
from training.services.snapshots import SnapshotError, freeze_snapshot


class Command(BaseCommand):
    help = "Freeze a project's judgments into hashed, split files that recipes read."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            project = Project.objects.get(slug=options["project"])
        except Project.DoesNotExist:
            raise CommandError(f"There is no project with the slug {options['project']!r}.") from None
        before = DatasetSnapshot.objects.filter(project=project).first()
        try:
            snapshot = freeze_snapshot(project)
        except SnapshotError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(describe(snapshot, new=snapshot != before))


def describe(snapshot: DatasetSnapshot, *, new: bool) -> str:
    """The snapshot in lines of plain text."""
    what = "frozen" if new else "is the latest already: nothing has changed since"
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
