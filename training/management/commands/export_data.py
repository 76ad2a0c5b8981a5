"""Export what raters said as JSONL."""

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from rating.models import Project
from training.services.exports import EXPORT_FORMATS, iter_export, write_export


class Command(BaseCommand):
    help = "Export a project's preferences, examples, ratings or raw judgments as JSONL."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--format", choices=tuple(EXPORT_FORMATS), required=True)
        parser.add_argument("--split", choices=("train", "eval"), help="one part alone; without it, both")
        parser.add_argument("--out", required=True, metavar="FILE", help="`-` is the standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            project = Project.objects.get(slug=options["project"])
        except Project.DoesNotExist:
            raise CommandError(f"There is no project with the slug {options['project']!r}.") from None
        lines = iter_export(project, options["format"], split=options["split"])
        if options["out"] == "-":
            # Bytes, not text: the console's encoding has no say in what a dataset holds.
            with os.fdopen(os.dup(1), "wb") as out:
                out.writelines(lines)
            return
        path = Path(options["out"])
        try:
            count = write_export(lines, path)
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror or error}.") from error
        self.stdout.write(f"{count:,} rows written to {path}.")
