"""Datasets to take away, as JSONL streamed in the order of the judgments' ids: always the same bytes."""

from __future__ import annotations

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rating.models import Answer, ItemCompletion, Judgment, Project, Rating, SpanMark
from training.services.rows import CHUNK, Row, iter_judgment_rows, last_judgment


@dataclass(frozen=True)
class ExportFormat:
    """What an export holds: `columns` are the fields of each line."""

    label: str
    description: str
    columns: tuple[str, ...]


EXPORT_FORMATS = {
    "trl-preference": ExportFormat(
        "Preferences for TRL",
        "One pair per line as chat messages, the prompt apart: what DPOTrainer and RewardTrainer read.",
        ("prompt", "chosen", "rejected"),
    ),
    "sft": ExportFormat(
        "Examples for TRL",
        "The preferred and the top-rated responses as chat messages: what SFTTrainer reads.",
        ("prompt", "completion"),
    ),
    "rating": ExportFormat(
        "Ratings",
        "Each rated single response with its rating from 0 to 1.",
        ("prompt", "completion", "rating"),
    ),
    "judgments": ExportFormat(
        "Judgments, raw",
        "Everything that was said, superseded and evaluation judgments too; raters by pseudonym.",
        (),
    ),
}
ROW_KINDS = {"trl-preference": "preference", "sft": "sft", "rating": "rating"}


class ExportError(ValueError):
    """An export that cannot be made; says what would be right."""


def iter_export(project: Project, fmt: str, *, split: str | None = None) -> Iterator[bytes]:
    """The lines of an export, each with its newline; nothing is read before the first is asked for.

    Args:
        fmt: a key of EXPORT_FORMATS.
        split: `train` or `eval` for one part alone; without one, both.

    Raises:
        ExportError: the format or split is unknown; raised at the call, not at the first line.
    """
    if fmt not in EXPORT_FORMATS:
        raise ExportError(f"format: {fmt[:60]!r} is unknown; use one of {', '.join(EXPORT_FORMATS)}.")
    if split not in (None, "train", "eval"):
        raise ExportError(f"split: {str(split)[:60]!r} is unknown; use train or eval, or leave it out.")
    if fmt == "judgments":
        return iter_judgments(project, split)
    return iter_rows(project, fmt, split)


def iter_rows(project: Project, fmt: str, split: str | None) -> Iterator[bytes]:
    kind, columns = ROW_KINDS[fmt], EXPORT_FORMATS[fmt].columns
    for result in iter_judgment_rows(project):
        for row in result.rows:
            if row.kind == kind and split in (None, row.split):
                yield Row(kind, row.split, {name: row.data[name] for name in columns}).line()


def iter_judgments(project: Project, split: str | None) -> Iterator[bytes]:
    """Every judgment with its texts, in pages of 2,000 and five queries each."""
    last, up_to = 0, last_judgment(project)
    judgments = Judgment.objects.of_project(project.pk).filter(pk__lte=up_to).order_by("pk")
    judgments = judgments.select_related(
        "item__prompt", "rater", "guidelines", "supersedes", "superseded_by", "rewrite"
    )
    if split is not None:
        judgments = judgments.filter(item__prompt__split=split)
    while page := list(judgments.filter(pk__gt=last)[:CHUNK]):
        completions = read_completions(page)
        said = read_details(page)
        for judgment in page:
            yield to_line(describe(judgment, completions[judgment.item_id], said[judgment.pk]))
        last = page[-1].pk


def read_completions(page: list[Judgment]) -> dict[int, list[dict[str, Any]]]:
    """The completions of the judgments' items, by item, in canonical order."""
    places = ItemCompletion.objects.filter(item__in={judgment.item_id for judgment in page})
    fields = ("item_id", "completion_id", "completion__text", "completion__model_version__name")
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for item, pk, text, version, source in places.order_by("position").values_list(
        *fields, "completion__source_model"
    ):
        found[item].append({"id": pk, "text": text, "model": version or source or None})
    return found


def read_details(page: list[Judgment]) -> dict[int, dict[str, list[dict[str, Any]]]]:
    """The ratings, the answers to questions and the marked passages, by judgment."""
    pks = [judgment.pk for judgment in page]
    found: dict[int, dict[str, list[dict[str, Any]]]] = {
        pk: {"ratings": [], "answers": [], "marks": []} for pk in pks
    }
    ratings = Rating.objects.filter(judgment__in=pks).order_by("pk")
    for pk, completion, dimension, value in ratings.values_list(
        "judgment_id", "completion_id", "dimension__key", "value"
    ):
        found[pk]["ratings"].append({"completion": completion, "dimension": dimension, "value": value})
    answers = Answer.objects.filter(judgment__in=pks).order_by("pk")
    for pk, question, completion, value in answers.values_list(
        "judgment_id", "question__key", "completion_id", "value"
    ):
        about = {} if completion is None else {"completion": completion}
        found[pk]["answers"].append({"question": question, **about, "value": value})
    marks = SpanMark.objects.filter(judgment__in=pks).order_by("pk")
    fields = ("completion_id", "start", "end", "verdict", "reason")
    for pk, *values in marks.values_list("judgment_id", *fields):
        found[pk]["marks"].append(dict(zip(("completion", *fields[1:]), values, strict=True)))
    return found


def describe(
    judgment: Judgment, completions: list[dict[str, Any]], said: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """A judgment in the words of the glossary, with its prompt and completions."""
    prompt = judgment.item.prompt
    supersedes = judgment.supersedes
    return {
        "judgment": str(judgment.public_id),
        "rater": judgment.rater.pseudonym,
        "judged_at": judgment.judged_at.isoformat(),
        "in_force": not hasattr(judgment, "superseded_by"),
        "supersedes": str(supersedes.public_id) if supersedes else None,
        "purpose": judgment.item.purpose,
        "item": judgment.item_id,
        "split": prompt.split,
        "prompt": prompt.messages,
        "completions": completions,
        "choice": judgment.choice or None,
        "preferred": judgment.preferred_id,
        "strength": judgment.strength or None,
        "ranking": judgment.ranking,
        "none_good": judgment.none_good,
        "asked": judgment.asked,
        "safety": judgment.safety or None,
        "intent": judgment.intent,
        "rewrite": judgment.rewrite.text if judgment.rewrite else None,
        **said,
        "flags": judgment.flags,
        "rationale": judgment.rationale,
        "seconds": judgment.seconds,
        "guidelines": judgment.guidelines.number if judgment.guidelines else None,
    }


def to_line(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def write_export(lines: Iterable[bytes], path: Path) -> int:
    """Write the lines to the file, whole or not at all; returns how many there are."""
    count = 0
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for line in lines:
                file.write(line)
                count += 1
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)  # as a file opened plainly would have; mkstemp's is for its owner alone
        os.replace(name, path)
    except BaseException:  # even Ctrl-C leaves no half-written file behind
        os.unlink(name)
        raise
    return count
