"""A folder that the Hugging Face Hub reads as a dataset, with its card; and its upload."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import translation

from rating.models import Split
from training.models import DatasetSnapshot
from training.services.cards import tell_gap
from training.services.exports import EXPORT_FORMATS, Export, iter_export, write_export
from training.services.snapshots import SPLIT_RULE, query_of

# The name of a configuration is the format's; raw judgments name raters, if only by a hash: not by default.
OFFERED = ("trl-preference", "trl-reward", "trl-unpaired", "sft", "rating", "ranking")
SPLIT_NAMES = {"train": "train", "eval": "test"}
SIZES = (("n<1K", 1000), ("1K<n<10K", 10_000), ("10K<n<100K", 100_000), ("100K<n<1M", 1_000_000))


class HubError(Exception):
    """The folder cannot be made or uploaded; says what would help."""


def write_hub_folder(
    snapshot: DatasetSnapshot, folder: Path, *, formats: tuple[str, ...] = OFFERED, file: str = "jsonl"
) -> list[str]:
    """Write the snapshot into an empty folder: FORMAT/train and FORMAT/test files and README.md.

    Formats for which the snapshot has no rows are left out. The same snapshot gives the same bytes.

    Returns:
        The formats that were written.

    Raises:
        HubError: the folder is not empty, or there is nothing to write.
        ExportError: a file of the snapshot is gone, or Parquet cannot be written here.
    """
    if folder.exists() and any(folder.iterdir()):
        raise HubError(f"{folder} is not empty; name a new folder.")
    parts = {fmt: splits for fmt in formats if (splits := splits_of(snapshot, fmt))}
    if not parts:
        raise HubError(f"Snapshot {snapshot.number} has no rows for {', '.join(formats)}.")
    for fmt, splits in parts.items():
        (folder / fmt).mkdir(parents=True)
        for split in splits:
            export = Export(snapshot.project, fmt, split=split, snapshot=snapshot, file=file, compressed=True)
            write_export(iter_export(export), folder / file_name(fmt, split, file))
    (folder / "README.md").write_text(write_card(snapshot, parts, file), encoding="utf-8")
    return list(parts)


def splits_of(snapshot: DatasetSnapshot, fmt: str) -> list[str]:
    """The splits in which the snapshot has rows for the format."""
    rows = snapshot.counts["rows"]
    kinds = EXPORT_FORMATS[fmt].kinds
    return [split for split in Split.values if any(rows.get(f"{kind}.{split}.jsonl") for kind in kinds)]


def file_name(fmt: str, split: str, file: str) -> str:
    return f"{fmt}/{SPLIT_NAMES[split]}.{file}{'' if file == 'parquet' else '.gz'}"


def write_card(snapshot: DatasetSnapshot, parts: dict[str, list[str]], file: str) -> str:
    """README.md: a header that the Hub reads, and what somebody who uses the data should know."""
    with translation.override("en"):
        return "\n".join([*header(snapshot, parts, file), *describe(snapshot, parts)]) + "\n"


def header(snapshot: DatasetSnapshot, parts: dict[str, list[str]], file: str) -> Iterator[str]:
    """The YAML header. Texts are written as JSON, which YAML reads."""
    total = sum(snapshot.counts["rows"].values())
    yield "---"
    yield f"pretty_name: {json.dumps(snapshot.project.name, ensure_ascii=False)}"
    yield "tags:\n- preference\n- rlhf\n- human-feedback"
    yield "size_categories:"
    yield f"- {next((name for name, limit in SIZES if total < limit), '1M<n<10M')}"
    yield "configs:"
    for index, (fmt, splits) in enumerate(parts.items()):
        yield f"- config_name: {fmt}"
        if index == 0:
            yield "  default: true"
        yield "  data_files:"
        for split in splits:
            yield f"  - split: {SPLIT_NAMES[split]}\n    path: {file_name(fmt, split, file)}"
    yield "---\n"


def describe(snapshot: DatasetSnapshot, parts: dict[str, list[str]]) -> Iterator[str]:
    """The card's words."""
    card: dict[str, Any] = snapshot.counts.get("card", {})
    yield f"# {one_line(snapshot.project.name)}\n"
    if snapshot.project.description:
        yield f"{snapshot.project.description}\n"
    judged = snapshot.counts["judgments"]
    yield f"{sum(judged.values()):,} judgments of responses, frozen as snapshot {snapshot.number}."
    yield f"\n- Content hash: `{snapshot.content_hash}`"
    yield f"- Split {SPLIT_RULE}; `test` is never trained on."
    choices = query_of(snapshot).choices
    yield (
        f"- Query: `{json.dumps(choices, sort_keys=True)}`" if choices else "- Query: every judgment in force"
    )
    if card:
        share = card["agreement"]["share"]
        yield f"- Raters: {len(card['raters'])}, {card['hours']} hours"
        yield f"- Agreement of two raters: {'unknown' if share is None else f'{share:.1%}'}"
        yield f"- Scripts of the prompts (a guess): {', '.join(card['scripts']) or 'none'}"
    yield "\n| configuration | what it holds |\n|---|---|"
    for fmt in parts:
        yield f"| `{fmt}` | {EXPORT_FORMATS[fmt].description} |"
    if card.get("gaps"):
        yield "\n## Known gaps\n"
        yield from (f"- {tell_gap(gap)}" for gap in card["gaps"])


def one_line(text: str) -> str:
    return " ".join(text.split())


def push_folder(folder: Path, name: str, *, private: bool = True) -> str:
    """Upload the folder as the dataset `owner/name`; returns its address.

    Raises:
        HubError: there is no token, huggingface_hub is not installed, or the Hub refused.
    """
    if not settings.HF_TOKEN:
        raise HubError("HF_TOKEN is not set. Set it to a token of the Hub that may write datasets.")
    try:
        from httpx import HTTPError
        from huggingface_hub import HfApi
    except ImportError:
        raise HubError("huggingface_hub is not installed: pip install huggingface_hub.") from None
    api = HfApi(token=settings.HF_TOKEN)
    try:
        address = api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(
            folder_path=folder, repo_id=name, repo_type="dataset", commit_message=f"Add {folder.name}"
        )
    except (OSError, ValueError, HTTPError) as error:  # a bad name is a ValueError
        raise HubError(f"The Hub refused {name}: {error}") from error
    return str(address)
