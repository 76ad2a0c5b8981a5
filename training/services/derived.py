"""Rows that a recipe needs in another shape than the snapshot's files have: rankings and single verdicts.

They are written into the run directory from the frozen files, line by line, so that a run directory stays
whole and a snapshot stays as it was.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.services.files import write_atomically

# The files of the snapshot that a recipe's rows are made of.
DERIVED_FROM = {"reward_ranking": ("preference",), "kto": ("preference", "rating")}
MIDDLE = 0.5


def derive_rows(recipe: str, sources: dict[str, Path], target: Path) -> int:
    """Write the recipe's rows, made of the snapshot's files by kind; returns how many there are."""
    made = iter_rankings if recipe == "reward_ranking" else iter_verdicts
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        for row in made(sources):
            count += 1
            yield json.dumps(row, ensure_ascii=False) + "\n"

    write_atomically(target, lines())
    return count


def read_lines(path: Path | None) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file; none without a file."""
    if path is not None:
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


def iter_rankings(sources: dict[str, Path]) -> Iterator[dict[str, Any]]:
    """{"prompt", "completions", "ranks"}: the pairs of a ranking together again, every other pair a ranking
    of two.

    A ranking's rows follow one another and name the same judgment. A response's rank is one more than the
    number of responses that are better, so that ties come out equal.
    """

    def key(numbered: tuple[int, dict[str, Any]]) -> object:
        index, row = numbered
        return str(row["judgments"]) if row.get("source") == "ranking" else index

    for _, group in itertools.groupby(enumerate(read_lines(sources.get("preference"))), key):
        rows = [row for _, row in group]
        better: dict[str, set[str]] = {}
        for row in rows:
            chosen, rejected = row["chosen"][0]["content"], row["rejected"][0]["content"]
            better.setdefault(chosen, set())
            better.setdefault(rejected, set()).add(chosen)
        yield {
            "prompt": rows[0]["prompt"],
            "completions": [[{"role": "assistant", "content": text}] for text in better],
            "ranks": [1 + len(found) for found in better.values()],
        }


def iter_verdicts(sources: dict[str, Path]) -> Iterator[dict[str, Any]]:
    """{"prompt", "completion", "label"}: preferred responses and those rated above the middle are good, the
    others not; a rating at the middle says neither.
    """
    for row in read_lines(sources.get("preference")):
        for side, label in (("chosen", True), ("rejected", False)):
            yield {"prompt": row["prompt"], "completion": row[side], "label": label}
    for row in read_lines(sources.get("rating")):
        if row["rating"] != MIDDLE:
            verdict = row["rating"] > MIDDLE
            yield {"prompt": row["prompt"], "completion": row["completion"], "label": verdict}
