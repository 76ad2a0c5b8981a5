"""What the benchmarks share: an installation of their own, recipes as processes, tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def prepare_installation(home: Path, database: str = "") -> None:
    """Settle Django on a migrated database; in demo mode, so that the demo may be seeded.

    Args:
        database: its address; without one, SQLite in `home`.
    """
    os.environ |= {
        "RATCHET_DEMO": "1",
        "RATCHET_HOME": str(home),
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "HF_HUB_OFFLINE": "1",
    }
    os.environ.pop("DATABASE_URL", None)
    if database:
        os.environ["DATABASE_URL"] = database
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    call_command("createcachetable", verbosity=0)


@contextmanager
def scratch(kept: Path | None) -> Iterator[Path]:
    """The directory that was named, or one that goes away afterwards."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="ratchet-benchmark-") as path:
        yield Path(path)


def work_queue() -> None:
    """Let `manage.py trainer` work until nothing is in the queue."""
    command = [sys.executable, "manage.py", "trainer", "--once"]
    subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=True)


def run_recipe(directory: Path, spec: dict[str, Any]) -> dict[str, Any]:
    """Run a recipe in the directory as a process of its own; its result.json."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "spec.json").write_text(json.dumps(spec))
    with (directory / "log.txt").open("wb") as log:
        subprocess.run(
            [sys.executable, "-m", "training.recipes.run", str(directory / "spec.json")],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    result: dict[str, Any] = json.loads((directory / "result.json").read_text())
    if result["status"] != "succeeded":
        raise SystemExit(f"{spec['recipe']} {result['status']}: {result['error']}")
    return result


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as a JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def share(hits: float, n: int) -> str:
    """A share with its 95% Wilson interval, in per cent."""
    from training.statistics import wilson_interval

    low, high = wilson_interval(hits, n)
    return f"{hits / n:.1%} [{low:.1%}, {high:.1%}]"
