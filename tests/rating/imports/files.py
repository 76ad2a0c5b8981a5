"""What the import tests share: files, and the counts that must not move."""

import gzip
import io
import json
from pathlib import Path

from rating.models import Completion, Item, ItemCompletion, Judgment, Project, Prompt, Rater
from rating.services.imports import ImportReport, import_file

# Real files, when they lie beside the project.
BESIDE = [parent / "shared/data" for parent in Path(__file__).resolve().parents[3:]]
DATA = next((path for path in BESIDE if path.is_dir()), BESIDE[0])
HH = DATA / "hh-rlhf"


def jsonl(*rows: object) -> bytes:
    """The rows as a file."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def hh(prompt: str, chosen: str, rejected: str) -> dict[str, str]:
    """A row of HH-RLHF with a prompt of one turn."""
    head = f"\n\nHuman: {prompt}\n\nAssistant: "
    return {"chosen": head + chosen, "rejected": head + rejected}


def take(project: Project, data: bytes, **options: object) -> ImportReport:
    """Import the bytes as a file."""
    return import_file(project, io.BytesIO(data), **options)


def counts() -> dict[str, int]:
    """How many rows every table has that an import writes to."""
    tables = (Prompt, Completion, Item, ItemCompletion, Judgment, Rater)
    return {table.__name__: table.objects.count() for table in tables}


def zipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)  # the bytes are in the names of tests, which xdist compares
