"""Export what raters said, as it is now or as a snapshot froze it."""

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from rating.models import Project
from training.models import DatasetSnapshot
from training.services.encoding import FILE_KINDS
from training.services.exports import EXPORT_FORMATS, Export, ExportError, iter_export, write_export
from training.services.files import spare_collector


class Command(BaseCommand):
    help = "Export a project's preferences, examples, ratings, rankings or raw judgments."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--format", choices=tuple(EXPORT_FORMATS), required=True)
        parser.add_argument("--snapshot", type=int, metavar="N", help="its rows; without it, as they are now")
        parser.add_argument("--split", choices=("train", "eval"), help="one part alone; without it, both")
        parser.add_argument("--file", choices=tuple(FILE_KINDS), default="jsonl", help="the kind of file")
        parser.add_argument("--gzip", action="store_true", help="compressed (Parquet: compressed better)")
        parser.add_argument("--out", required=True, metavar="FILE", help="`-` is the standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        spare_collector()
        try:
            pieces = iter_export(read_export(options))
        except ExportError as error:
            raise CommandError(str(error)) from error
        if options["out"] == "-":
            # Bytes, not text: the console's encoding has no say in what a dataset holds.
            with os.fdopen(os.dup(1), "wb") as out:
                out.writelines(pieces)
            return
        path = Path(options["out"])
        try:
            size = write_export(pieces, path)
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror or error}.") from error
        self.stdout.write(f"{size:,} bytes written to {path}.")


def read_export(options: dict[str, Any]) -> Export:
    """What the options ask for. Raises CommandError: no such project or snapshot. ExportError: see Export."""
    try:
        project = Project.objects.get(slug=options["project"])
    except Project.DoesNotExist:
        raise CommandError(f"There is no project with the slug {options['project']!r}.") from None
    snapshot = None
    if options["snapshot"] is not None:
        snapshot = DatasetSnapshot.objects.filter(project=project, number=options["snapshot"]).first()
        if snapshot is None:
            raise CommandError(f"{project.slug} has no snapshot {options['snapshot']}.")
    return Export(
        project,
        options["format"],
        split=options["split"],
        snapshot=snapshot,
        file=options["file"],
        compressed=options["gzip"],
    )
