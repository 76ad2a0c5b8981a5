"""Importing rows: rows a second and memory, at several sizes, on SQLite and on PostgreSQL.

    python -m benchmarks.import_rows --rows 10000 100000 1000000
    python -m benchmarks.import_rows --rows 10000 --database postgresql://postgres@127.0.0.1:5432

Each size is imported by `manage.py import_data` in a process of its own, into a database of its own, from a
JSONL file with texts as long as HH-RLHF's. Rows a second are by the clock, the start of Python aside; the CPU
is that of the command's processes, without the server's, and tells more on a machine with other work.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, scratch, table

WORDS = [
    "the", "of", "a", "to", "and", "in", "is", "it", "you", "that", "he", "was", "for", "on", "are",
    "with", "as", "his", "they", "be", "at", "one", "have", "this", "from", "or", "had", "by", "hot",
    "but", "some", "what", "there", "we", "can", "out", "other", "were", "all", "your", "when", "up",
    "use", "word", "how", "said", "an", "each", "she", "which", "do", "their", "time", "if", "will",
    "way", "about", "many", "then", "them", "would", "write", "like", "so", "these", "her", "long",
    "make", "thing", "see", "him", "two",
]  # fmt: skip
KINDS = ("pairs", "judged", "single", "prompts")
SIZES = {"prompt": 60, "response": 55}


def make_rows(kind: str, count: int) -> Iterator[dict[str, Any]]:
    """Rows with prompts and responses of about 60 words; no two prompts are the same."""
    draw = random.Random(7)

    def words(n: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(n // 2, n * 3 // 2)))

    for number in range(count):
        prompt = f"{number} {words(SIZES['prompt'])}"
        if kind == "judged":
            yield {"prompt": prompt, "chosen": words(SIZES["response"]), "rejected": words(SIZES["response"])}
        elif kind == "pairs":
            yield {"prompt": prompt, "responses": [words(SIZES["response"]), words(SIZES["response"])]}
        elif kind == "single":
            yield {"prompt": prompt, "completion": words(SIZES["response"])}
        else:
            yield {"prompt": prompt}


def write_file(path: Path, kind: str, count: int) -> None:
    """A JSONL file of this many rows."""
    with path.open("w") as file:
        for row in make_rows(kind, count):
            file.write(json.dumps(row) + "\n")


def child(command: list[str], environment: dict[str, str]) -> tuple[float, float, float, str]:
    """Run a command of manage.py: seconds, seconds of CPU, peak memory in MB, and what it said."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    wrapper = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print('PEAK', used.ru_maxrss / 1024, file=sys.stderr); sys.exit(done.returncode)"
    )
    done = subprocess.run(
        [sys.executable, "-c", wrapper, sys.executable, "manage.py", *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr)
    peak = float(done.stderr.rsplit("PEAK", 1)[1])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - began, cpu, peak, done.stdout


def measure(home: Path, kind: str, count: int, server: str) -> list[object]:
    """One import into a fresh database: the row of the table."""
    import psycopg

    path = home / f"{kind}-{count}.jsonl"
    write_file(path, kind, count)
    name = f"ratchet_bench_{uuid.uuid4().hex[:8]}"
    environment = {"RATCHET_DEMO": "1", "RATCHET_HOME": str(home / name)}
    if server:
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        environment["DATABASE_URL"] = f"{server}/{name}"
    else:
        environment["DATABASE_URL"] = f"sqlite:///{home / name / 'db.sqlite3'}"
    try:
        child(["migrate", "-v", "0"], environment)
        make = "from rating.models import Project; Project.objects.create(slug='bench', name='Bench')"
        child(["shell", "-v", "0", "-c", make], environment)
        start, start_cpu, _, _ = child(["shell", "-v", "0", "-c", "pass"], environment)
        seconds, cpu, peak, said = child(["import_data", str(path), "--project", "bench"], environment)
        assert f"{count:,} rows, {count:,} taken" in said, said
    finally:
        path.unlink()
        if server:
            with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    working = max(0.01, seconds - start)
    database = "PostgreSQL" if server else "SQLite"
    rate = f"{count / working:,.0f}"
    return [
        database,
        kind,
        f"{count:,}",
        f"{seconds:.1f}",
        rate,
        f"{(cpu - start_cpu) / count * 1e6:.0f}",
        f"{peak:.0f}",
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["judged", "pairs", "single"])
    parser.add_argument("--database", default="", help="a PostgreSQL server; SQLite without one")
    parser.add_argument("--home", type=Path, help="keep everything here (default: a temporary directory)")
    options = parser.parse_args()
    rows = []
    with scratch(options.home) as home:
        for kind in options.kinds:
            for count in options.rows:
                rows.append(measure(home, kind, count, options.database))
                print(*rows[-1], flush=True)
    head = ["database", "rows are", "rows", "seconds in all", "rows/s", "µs of our CPU a row", "peak MB"]
    print(f"\n{table(head, rows)}")


if __name__ == "__main__":
    main()
