"""What a reward model says of held-out rows: each response scored once, then compared with what people
said.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from training.recipes.data import Messages, Preference, Ranking, RatedResponse
from training.recipes.heads import read_heads, score_heads
from training.recipes.metrics import Report, preference_report, rating_report
from training.recipes.reward_losses import pairs_of


def report_comparisons(
    model: Any, tokenizer: Any, rows: Sequence[Preference], room: int, agreement: float | None
) -> Report:
    """preference_report of the model's choices; per score as `name/...` where it has several."""
    unique: dict[str, Messages] = {}
    for row in rows:
        unique |= {json.dumps(row.prompt + response): row.prompt + response for response in row.responses}
    places = {key: place for place, key in enumerate(unique)}
    scores = score_heads(model, tokenizer, list(unique.values()), room)
    heads = read_heads(model.config)
    chosen: list[float] = []
    rejected: list[float] = []
    for row in rows:
        head = 0 if row.head is None or heads.names == ("",) else heads.names.index(row.head)
        for side, values in ((row.chosen, chosen), (row.rejected, rejected)):
            values.append(scores.mean[places[json.dumps(row.prompt + side)], head].item())
    report = preference_report(rows, chosen, rejected, agreement)
    if len(heads.names) > 1:
        for name in heads.names:
            kept = [index for index, row in enumerate(rows) if row.head == name]
            own = preference_report(
                [rows[index] for index in kept],
                [chosen[index] for index in kept],
                [rejected[index] for index in kept],
            )
            report |= {f"{name}/{key}": own[key] for key in ACCURACY if key in own}
    if heads.members > 1:
        report["ensemble_deviation"] = scores.deviation.mean().item()
    return report


ACCURACY = ("accuracy", "accuracy_low", "accuracy_high", "length_accuracy", "pairs")


def pairs_of_rankings(rows: Sequence[Ranking]) -> list[Preference]:
    """Every pair of every ranking."""
    return [
        Preference(row.prompt, row.completions[better], row.completions[worse], None, tie=tie, head=row.head)
        for row in rows
        for better, worse, tie in pairs_of(row.ranks, with_ties=True)
    ]


def report_ratings(
    model: Any, tokenizer: Any, rows: Sequence[RatedResponse], room: int, agreement: float | None
) -> Report:
    """rating_report of the scores, and preference_report of the pairs of one prompt that were rated
    differently.

    The first score is reported by itself, every other one as `name/...`.
    """
    scores = score_heads(model, tokenizer, [row.prompt + row.completion for row in rows], room)
    report: Report = {}
    for place, name in enumerate(scores.heads.names):
        kept = [index for index, row in enumerate(rows) if name in row.ratings]
        if not kept:
            continue
        rated = [rows[index].ratings[name] for index in kept]
        given = scores.mean[kept, place].tolist()
        own: Report = {**rating_report(rated, given)}
        own |= compare_rated([rows[index] for index in kept], rated, given, agreement)
        report |= (
            own
            if place == 0
            else {f"{name}/{key}": value for key, value in own.items() if key != "calibration"}
        )
    if scores.heads.members > 1:
        report["ensemble_deviation"] = scores.deviation.mean().item()
    return report


def compare_rated(
    rows: Sequence[RatedResponse], rated: Sequence[float], scores: Sequence[float], agreement: float | None
) -> Report:
    """preference_report of the pairs of responses to one prompt of which one was rated higher."""
    by_prompt: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        by_prompt.setdefault(json.dumps(row.prompt), []).append(index)
    pairs = [
        (first, second)
        for group in by_prompt.values()
        for first in group
        for second in group
        if rated[first] > rated[second]
    ]
    found = [Preference(rows[a].prompt, rows[a].completion, rows[b].completion, None) for a, b in pairs]
    return preference_report(found, [scores[a] for a, _ in pairs], [scores[b] for _, b in pairs], agreement)
