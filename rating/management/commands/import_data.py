"""Import a file of prompts, responses or judged pairs into a project."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from rating.models import Project
from rating.services.imports import FORMATS, ImportFailed, ImportReport, import_file


class Command(BaseCommand):
    help = "Import HH-RLHF transcripts, or prompts with responses to be rated (JSONL, plain or gzip)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--format", choices=FORMATS, default="auto", help="default: by the first row")
        parser.add_argument("--dry-run", action="store_true", help="report and keep nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        try:
            project = Project.objects.get(slug=options["project"])
        except Project.DoesNotExist:
            raise CommandError(f"There is no project with the slug {options['project']!r}.") from None
        try:
            with path.open("rb") as file:
                report = import_file(
                    project, file, format=options["format"], source=path.name, dry_run=options["dry_run"]
                )
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error.strerror or error}.") from error
        except ImportFailed as failed:
            more = "\nThere may be more: reading stopped there." if failed.more else ""
            lines = "\n".join(f"  {error}" for error in failed.errors)
            raise CommandError(f"Nothing was imported.\n{lines}{more}") from failed
        self.stdout.write(describe(report, path.name))


def describe(report: ImportReport, name: str) -> str:
    """The report in lines of plain text."""
    head = f"{name} ({report.format}): {report.rows:,} rows, {report.taken:,} taken, "
    head += f"{report.rows_left_out:,} left out"
    if report.dry_run:
        head += " (dry run: nothing was kept)"
    new = ("prompts", "completions", "items", "judgments")
    lines = [head, "  new: " + ", ".join(f"{getattr(report, word):,} {word}" for word in new)]
    for words, tally in report.remarks():
        more = ", ..." if tally.count > len(tally.lines) else ""
        where = ", ".join(f"{line:,}" for line in tally.lines) + more
        lines.append(f"  {words}: {tally.count:,} (line {where})")
    return "\n".join(lines)
