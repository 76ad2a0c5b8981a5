"""Import a file of prompts, responses or judged rows into a project."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import BaseCommand, CommandError

from rating.models import Project
from rating.services.imports import FORMATS, Columns, ImportFailed, ImportReport, import_file


class Command(BaseCommand):
    help = "Import prompts, responses or judged rows from JSON Lines, JSON, CSV or Parquet, plain or gzip."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument(
            "--format",
            choices=FORMATS,
            default="auto",
            metavar="NAME",
            help=f"{', '.join(FORMATS)}; default: by the first rows",
        )
        parser.add_argument(
            "--columns",
            metavar="ROLE=COLUMN,...",
            help="roles: prompt, response (up to nine times), chosen, rejected, label, model, rater",
        )
        parser.add_argument("--dry-run", action="store_true", help="report and keep nothing")
        parser.add_argument(
            "--keep-good",
            action="store_true",
            help="take the good rows, and write the bad ones with their reasons to FILE.refused.jsonl",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise CommandError(f"There is no project with the slug {options['project']!r}.")
        try:
            columns = Columns.parse(options["columns"]) if options["columns"] else None
        except ValueError as error:
            raise CommandError(f"--columns: {error}") from None
        choices = {"format": options["format"], "columns": columns, "dry_run": options["dry_run"]}
        try:
            with path.open("rb") as file:
                report = self.take(project, file, path, keep_good=options["keep_good"], **choices)
        except OSError as error:
            raise CommandError(
                f"{error.filename or path} cannot be read: {error.strerror or error}."
            ) from error
        except ValueError as error:
            raise CommandError(f"--columns: {error}") from error
        except ImportFailed as failed:
            more = "\nThere may be more: reading stopped there." if failed.more else ""
            lines = "\n".join(f"  {error}" for error in failed.errors)
            raise CommandError(f"Nothing was imported.\n{lines}{more}") from failed
        self.stdout.write(describe(report, path.name))

    def take(
        self, project: Project, file: BinaryIO, path: Path, *, keep_good: bool, **choices: Any
    ) -> ImportReport:
        """Import the file; with `keep_good` the bad rows go into a file beside it, if there are any."""
        progress = None
        if sys.stderr.isatty():
            size = max(1, path.stat().st_size)

            def progress(read: int) -> None:
                self.stderr.write(f"\r{path.name}: {min(100, 100 * read // size)} % read", ending="")

        if not keep_good:
            return import_file(project, file, source=path.name, progress=progress, **choices)
        refused = path.with_name(f"{path.name}.refused.jsonl")
        with refused.open("wb") as rejects:
            report = import_file(
                project, file, source=path.name, progress=progress, rejects=rejects, **choices
            )
        if "refused" in report.left_out:
            self.stdout.write(f"The refused rows are in {refused}.")
        else:
            refused.unlink()
        return report


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
    lines += [f"  {error}" for error in report.errors]
    return "\n".join(lines)
