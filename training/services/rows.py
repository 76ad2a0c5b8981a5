"""The rows of datasets, and how each judgment by itself becomes some."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
from django.utils.translation import gettext_lazy as _

from training.agreement import Agreement
from training.services.queries import SnapshotQuery
from training.services.reading import Group, Messages, Said
from training.services.votes import Told, Vote

KINDS = ("preference", "sft", "rating", "ranking", "prompts")
LEFT_OUT = {
    "tie": _("Both equally good: nothing was preferred"),
    "both_bad": _("Both bad: nothing was preferred"),
    "none_good": _("None is good enough: nothing was preferred"),
    "same_text": _("The two responses have the same text"),
    "out_of_scale": _("Rated outside the project's present scale"),
    "no_answer": _("Neither a preference nor a rating"),
    "undecided": _("The raters' votes came to a tie"),
    "query": _("Not among what was chosen"),
    "evaluation": _("Compares two model versions; kept apart from training"),
    "superseded": _("Superseded by a later revision"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a dataset file: `kind` is one of KINDS, `split` is train or eval."""

    kind: str
    split: str
    data: dict[str, Any]

    def line(self) -> bytes:
        """The row as a line of JSONL, always the same bytes for the same row."""
        return orjson.dumps(self.data, option=orjson.OPT_APPEND_NEWLINE)


@dataclass(slots=True)
class PromptRows:
    """What became of one prompt's judgments.

    Attributes:
        used: the judgments that gave rows.
        left_out: why each other one gave none, a key of LEFT_OUT.
    """

    split: str
    rows: list[Row] = field(default_factory=list)
    used: list[Said] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Making:
    """What stays the same from prompt to prompt.

    Attributes:
        margins: what each strength is worth; empty for no margins.
        weights: by rater; None when all votes weigh the same.
        agreement: counts on while rows are made; None when nobody asks.
        kinds: the kinds of rows that are wanted; what a judgment counts for does not depend on them.
    """

    query: SnapshotQuery
    margins: dict[str, float]
    weights: dict[int, float] | None = None
    agreement: Agreement | None = None
    kinds: frozenset[str] = frozenset(KINDS)


def add_votes(result: PromptRows, group: Group, told: list[Told], making: Making) -> None:
    """A row for each vote, and what else each judgment gives."""
    rows, kinds, texts, examples = result.rows, making.kinds, group.shared.texts, set[int]()
    for one in told:
        differing = tied = False
        for vote in one.votes:
            if texts[vote.better] == texts[vote.worse]:
                continue
            if vote.tie:
                tied = making.query.ties == "keep"
                rows += tied_rows(group, vote, making) if tied else []
                continue
            differing = True
            if "preference" in kinds:
                rows.append(preference(group, vote, making.margins.get(vote.strength), 1.0, 1.0))
        if not (differing or tied or one.rating):
            result.left_out.append("tie" if one.order else one.reason or "same_text")
            continue
        result.used.append(one.said)
        if one.rating is not None and "rating" in kinds:
            rows.append(rating_row(group, *one.rating))
        if one.order is not None and differing and "ranking" in kinds:
            rows.append(ranking_row(group, one.order, [one.said.name]))
        if (differing or one.rating) and "sft" in kinds:
            for completion in one.examples:
                add_example(rows, group, completion, examples)


def tied_rows(group: Group, vote: Vote, making: Making) -> list[Row]:
    """A kept tie: one row each way, so that any loss over preferences learns that both are equally good."""
    margin = 0.0 if making.margins else None
    turned = vote._replace(better=vote.worse, worse=vote.better)
    return [preference(group, each, margin, 0.5, 0.5) for each in (vote, turned)]


def preference(group: Group, vote: Vote, margin: float | None, label: float, weight: float) -> Row:
    """A preference row.

    `label` is the share of votes for the chosen response, `weight` what the row counts in a loss: half for
    each of the two rows of a tie.
    """
    data = {
        "prompt": group.messages,
        "chosen": assistant(group.shared.texts[vote.better]),
        "rejected": assistant(group.shared.texts[vote.worse]),
        "margin": margin,
        "label": label,
        "weight": weight,
        "strength": vote.strength or None,
        "source": vote.source,
        "judgments": [said.name for said in vote.judgments],
    }
    return Row("preference", group.split, data)


def rating_row(group: Group, completion: int, value: float) -> Row:
    data = {
        "prompt": group.messages,
        "completion": assistant(group.shared.texts[completion]),
        "rating": value,
    }
    return Row("rating", group.split, data)


def ranking_row(group: Group, order: list[list[int]], judgments: list[str]) -> Row:
    """Three responses or more, best first; equal ones share their rank, and the next one counts on."""
    data = {
        "prompt": group.messages,
        "completions": [assistant(group.shared.texts[completion]) for tied in order for completion in tied],
        "ranks": [rank for rank, tied in enumerate(order, start=1) for _completion in tied],
        "judgments": judgments,
    }
    return Row("ranking", group.split, data)


def add_example(rows: list[Row], group: Group, completion: int, examples: set[int]) -> None:
    """An sft row, unless the response is empty or was an example before."""
    text = group.shared.texts[completion]
    if text.strip() and completion not in examples:
        examples.add(completion)
        rows.append(Row("sft", group.split, {"prompt": group.messages, "completion": assistant(text)}))


def assistant(text: str) -> Messages:
    return [{"role": "assistant", "content": text}]
