"""How fast judgments leave: rows a second and peak memory of each export, with texts.

    python -m benchmarks.export_rows [--rows 10000 100000] [--database postgresql://user@host/empty-name]

Every row is a judged pair of its own prompt; texts are of the length of a chat. Each export runs in a process
of its own, as `manage.py export_data` makes it, to a file on the same disk. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, prepare_installation, scratch, table

EXPORTS = {
    "preferences of a snapshot": ["--format", "trl-preference", "--snapshot", "1"],
    "preferences as they are now": ["--format", "trl-preference"],
    "preferences, CSV": ["--format", "trl-preference", "--snapshot", "1", "--file", "csv"],
    "preferences, Parquet": ["--format", "trl-preference", "--snapshot", "1", "--file", "parquet"],
    "preferences, gzip": ["--format", "trl-preference", "--snapshot", "1", "--gzip"],
    "raw judgments": ["--format", "judgments"],
}
BATCH = 20_000
RATERS = 50
WORDS = ["the", "of", "and", "to", "a", "in", "that", "is", "was", "he", "for", "it", "with", "as", "his"]
CHILD = """
import sys, time
import django
from django.core.management import call_command
django.setup()
began, worked = time.perf_counter(), time.process_time()
call_command(*sys.argv[1:])
took, worked = time.perf_counter() - began, time.process_time() - worked
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("measured", took, worked, int(peak) / 1024)
"""


def sentences(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def fill(count: int) -> None:
    """A project `rows` with so many judged pairs."""
    from django.db import transaction

    from rating.models import Project, Rater

    project = Project.objects.create(slug="rows", name="Rows")
    raters = [Rater.objects.create(project=project).pk for _ in range(RATERS)]
    rng = random.Random(0)
    for start in range(0, count, BATCH):
        with transaction.atomic():
            fill_batch(project, raters, rng, range(start, min(start + BATCH, count)))


def fill_batch(project: Any, raters: list[int], rng: random.Random, numbers: range) -> None:
    from django.utils import timezone

    from rating.models import Completion, Item, ItemCompletion, Judgment, Prompt
    from rating.services.bulk import insert_rows
    from rating.services.texts import hash_messages, hash_text, split_of

    asked = [[{"role": "user", "content": f"{n}: {sentences(rng, 20)}?"}] for n in numbers]
    prompts = insert_rows(
        Prompt,
        ("project_id", "messages", "text_hash", "split", "metadata"),
        ((project.pk, m, hash_messages(m), split_of(m, 10).value, {}) for m in asked),  # type: ignore[arg-type]
    )
    texts = [(prompt, sentences(rng, 60)) for prompt in prompts for _ in range(2)]
    completions = insert_rows(
        Completion,
        ("prompt_id", "text", "text_hash", "source_model"),
        ((prompt, text, hash_text(text), "model") for prompt, text in texts),
    )
    items = insert_rows(
        Item,
        ("project_id", "prompt_id", "content_hash", "queue_key", "overlap", "open_slots"),
        ((project.pk, prompt, hash_text(str(prompt)), 0.5, 1, 0) for prompt in prompts),
    )
    places = ((items[index // 2], pk, index % 2) for index, pk in enumerate(completions))
    insert_rows(ItemCompletion, ("item_id", "completion_id", "position"), places)
    insert_rows(
        Judgment,
        (
            "public_id",
            "item_id",
            "rater_id",
            "idempotency_key",
            "choice",
            "preferred_id",
            "seconds",
            "judged_at",
        ),
        judgments(items, completions, raters, rng, timezone.now()),
    )


def judgments(
    items: list[int], completions: list[int], raters: list[int], rng: random.Random, now: Any
) -> Iterator[tuple[Any, ...]]:
    for index, item in enumerate(items):
        place = rng.randrange(2)
        keys = [uuid.UUID(int=rng.getrandbits(128), version=4) for _ in range(2)]
        preferred = completions[2 * index + place]
        yield keys[0], item, rng.choice(raters), keys[1], "ab"[place], preferred, 20.5, now


def measure(arguments: list[str]) -> list[float]:
    """Seconds on the clock, of the processor, and peak memory (MB) of a command in a process of its own."""
    command = [sys.executable, "-c", CHILD, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [float(figure) for figure in done.stdout.splitlines()[-1].split()[1:]]


def measure_all(count: int, home: Path) -> Iterator[list[object]]:
    """A line of the table for the freezing and each export, as soon as it is measured."""
    yield [f"{count:,}", "freezing the snapshot", *figures(count, ["freeze_snapshot"]), ""]
    out = home / "out"
    for name, arguments in EXPORTS.items():
        measured = figures(count, ["export_data", *arguments, "--out", str(out)])
        yield [f"{count:,}", name, *measured, f"{out.stat().st_size / 1e6:,.0f}"]
        out.unlink()


def figures(count: int, command: list[str]) -> list[str]:
    """Seconds and rows a second on the clock and of the processor, and peak memory."""
    *seconds, peak = measure([*command, "--project", "rows"])
    rates = [figure for taken in seconds for figure in (f"{taken:.1f}", f"{count / taken:,.0f}")]
    return [*rates, f"{peak:,.0f}"]


def main() -> None:
    """Fill an installation for each number of rows, export in each way, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--database", default="", help="an empty PostgreSQL database (default: SQLite)")
    options = parser.parse_args()
    if options.database and len(options.rows) > 1:
        raise SystemExit("--rows: give one number with --database; the database is filled once.")
    for count in options.rows:
        began = time.monotonic()
        if len(options.rows) > 1:  # Django's settings hold for a process: each number has one of its own
            subprocess.run([sys.executable, "-m", "benchmarks.export_rows", "--rows", str(count)], check=True)
            continue
        with scratch(None) as home:
            prepare_installation(home, options.database)
            fill(count)
            print(f"filled in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            head = ["rows", "export", "s", "rows/s", "CPU s", "rows/CPU s", "peak RSS, MB", "file, MB"]
            print(f"python -m benchmarks.export_rows {' '.join(sys.argv[1:])}".rstrip(), end="\n\n")
            print(table(head, []), flush=True)
            for line in measure_all(count, home):
                print(f"| {' | '.join(map(str, line))} |", flush=True)
            print()
    os.sync()


if __name__ == "__main__":
    main()
