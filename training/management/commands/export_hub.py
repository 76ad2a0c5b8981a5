"""Write a snapshot as a dataset folder for the Hugging Face Hub, and upload it if asked to."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from training.models import DatasetSnapshot
from training.services.exports import EXPORT_FORMATS, ExportError
from training.services.files import spare_collector
from training.services.hub import OFFERED, HubError, push_folder, write_hub_folder


class Command(BaseCommand):
    help = "Write a snapshot as a dataset folder for the Hugging Face Hub; --push uploads it with HF_TOKEN."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--snapshot", type=int, required=True, metavar="N")
        parser.add_argument("--formats", nargs="+", choices=tuple(EXPORT_FORMATS)[:-1], default=OFFERED)
        parser.add_argument("--file", choices=("jsonl", "parquet"), default="jsonl")
        parser.add_argument("--out", required=True, metavar="FOLDER", help="new or empty")
        parser.add_argument("--push", metavar="OWNER/NAME", help="upload it as this dataset")
        parser.add_argument("--public", action="store_true", help="for everybody; without it, private")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = DatasetSnapshot.objects.filter(project__slug=options["project"], number=options["snapshot"])
        snapshot = wanted.select_related("project").first()
        if snapshot is None:
            raise CommandError(f"{options['project']} has no snapshot {options['snapshot']}.")
        spare_collector()
        folder = Path(options["out"])
        try:
            written = write_hub_folder(
                snapshot, folder, formats=tuple(options["formats"]), file=options["file"]
            )
            self.stdout.write(f"{folder}: {', '.join(written)}")
            if options["push"]:
                self.stdout.write(push_folder(folder, options["push"], private=not options["public"]))
        except (HubError, ExportError) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{folder} cannot be written: {error.strerror or error}.") from error
