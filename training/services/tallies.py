"""The votes on the same two responses put together: one row by the majority, or with a soft label."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

from training.agreement import LOW, tally_votes
from training.services.reading import Group
from training.services.rows import (
    Making,
    PromptRows,
    add_example,
    preference,
    ranking_row,
    rating_row,
    tied_rows,
)
from training.services.votes import Told, Vote, by_pair, verdict_of


def add_tallied(result: PromptRows, group: Group, told: list[Told], making: Making) -> None:
    """The rows of a prompt whose judgments are put together.

    An example is what was preferred and never the worse one, or what all raters rated with the top.
    """
    used: set[int] = set()
    losers = add_pairs(result, group, told, making, used)
    losers |= add_ratings(result, group, told, making, used)
    add_rankings(result, group, told, making, used)
    examples: set[int] = set()
    for one in told:
        for completion in one.examples:
            if one.said.pk in used and completion not in losers:
                add_example(result.rows, group, completion, examples)
    for one in told:
        if one.said.pk in used:
            result.used.append(one.said)
        else:
            result.left_out.append(one.reason or ("undecided" if one.votes else "no_answer"))


def add_pairs(result: PromptRows, group: Group, told: list[Told], making: Making, used: set[int]) -> set[int]:
    """One preference row for each two responses; returns the responses that were the worse ones."""
    losers = set()
    for pair, votes in by_pair([vote for one in told for vote in one.votes]).items():
        if group.shared.texts[pair[0]] == group.shared.texts[pair[1]]:
            continue
        tally = tally_votes(
            ((vote.rater, verdict_of(vote, pair), margin_of(vote, making)) for vote in votes), making.weights
        )
        better, worse = pair if tally.verdict >= 0 else pair[::-1]
        judges = tuple({said.pk: said for vote in votes for said in vote.judgments}.values())
        source = votes[0].source if len({vote.source for vote in votes}) == 1 else "several"
        vote = Vote(better, worse, tally.verdict == 0, "", source, judges)
        if not vote.tie:
            label = tally.label if making.query.rows == "soft" else 1.0
            result.rows.append(preference(group, vote, tally.margin, label, 1.0))
            losers.add(worse)
        elif making.query.ties == "keep":
            result.rows += tied_rows(group, vote, making)
        else:
            continue
        used.update(said.pk for said in judges)
    return losers


def margin_of(vote: Vote, making: Making) -> float | None:
    """What the vote's strength is worth; nothing for a tie, None when it was not said."""
    return 0.0 if vote.tie and making.margins else making.margins.get(vote.strength)


def weight_in(making: Making, one: Told) -> float:
    return 1.0 if making.weights is None else making.weights.get(one.said.rater, LOW)


def add_ratings(
    result: PromptRows, group: Group, told: list[Told], making: Making, used: set[int]
) -> set[int]:
    """One rating row for each response that was rated alone: the mean of its ratings by weight.

    Returns the responses that somebody rated below the top.
    """
    given: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for one in told:
        if one.rating is not None:
            completion, value = one.rating
            given[completion].append((weight_in(making, one), value))
            used.add(one.said.pk)
    for completion, values in given.items():
        mean = sum(weight * value for weight, value in values) / sum(weight for weight, _ in values)
        result.rows.append(rating_row(group, completion, mean))
    return {completion for completion, values in given.items() if any(value < 1 for _, value in values)}


def add_rankings(result: PromptRows, group: Group, told: list[Told], making: Making, used: set[int]) -> None:
    """One ranking row for each item of three responses or more: by their mean rank."""
    orders: dict[int, list[Told]] = defaultdict(list)
    for one in told:
        if one.said.ranking is not None:
            orders[one.said.item].append(one)
    for found in orders.values():
        ranks: dict[int, Fraction] = defaultdict(Fraction)
        for one in found:
            weight, above = Fraction(weight_in(making, one)), 0
            for tied in one.said.order:
                for completion in tied:
                    ranks[completion] += weight * (
                        2 * above + len(tied) + 1
                    )  # twice the mean rank of the tie
                above += len(tied)
        order: dict[Fraction, list[int]] = defaultdict(list)
        for completion in sorted(ranks):
            order[ranks[completion]].append(completion)
        if len(order) > 1:
            judgments = [one.said.name for one in found]
            result.rows.append(ranking_row(group, [order[rank] for rank in sorted(order)], judgments))
            used.update(one.said.pk for one in found)
