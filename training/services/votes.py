"""What each judgment says, as votes on two responses, an order, a rating, and what is an example."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from training.agreement import Agreement
from training.services.reading import Group, Said


class Vote(NamedTuple):
    """One judgment on two responses: the first is better or, in a tie, comes first in the item."""

    better: int
    worse: int
    tie: bool
    strength: str
    source: str
    judgments: tuple[Said, ...]

    @property
    def rater(self) -> int:
        return self.judgments[-1].rater


@dataclass(slots=True)
class Told:
    """What one judgment says: its votes, its order of three or more, what is an example, its rating.

    Attributes:
        reason: a key of LEFT_OUT where it says nothing to learn from.
    """

    said: Said
    votes: list[Vote] = field(default_factory=list)
    order: list[list[int]] | None = None
    examples: list[int] = field(default_factory=list)
    rating: tuple[int, float] | None = None
    reason: str = ""


def count_agreement(agreement: Agreement, votes: list[Vote]) -> None:
    """Count what different raters said of the same two responses."""
    for pair, found in by_pair(votes).items():
        if len(found) > 1:
            agreement.add((vote.rater, verdict_of(vote, pair)) for vote in found)


def by_pair(votes: list[Vote]) -> dict[tuple[int, int], list[Vote]]:
    """The votes on each two responses, the lower id first."""
    found: dict[tuple[int, int], list[Vote]] = {}
    for vote in votes:
        pair = (vote.better, vote.worse) if vote.better < vote.worse else (vote.worse, vote.better)
        found.setdefault(pair, []).append(vote)
    return found


def verdict_of(vote: Vote, pair: tuple[int, int]) -> int:
    """1 when the first of the pair is better, -1 when the second is, 0 for a tie."""
    return 0 if vote.tie else 1 if vote.better == pair[0] else -1


def tell_all(group: Group) -> list[Told]:
    """What each judgment of a prompt says."""
    earlier: dict[int, list[tuple[Said, int, float]]] = {}
    return [tell(group, said, earlier) for said in group.judgments]


def tell(group: Group, said: Said, earlier: dict[int, list[tuple[Said, int, float]]]) -> Told:
    """What one judgment says.

    Args:
        earlier: each rater's ratings of single responses to this prompt so far; is added to.
    """
    told = Told(said)
    places = group.shared.places[said.item]
    if said.none_good:
        told.reason = "none_good"
    elif said.choice:
        tell_comparison(told, places)
    elif said.ranking is not None:
        tell_ranking(told, group)
    else:
        tell_rating(told, group, earlier.setdefault(said.rater, []))
    if said.rewrite is not None:
        told.votes += [Vote(said.rewrite, place, False, "", "rewrite", (said,)) for place in places]
        told.examples.append(said.rewrite)
    return told


def tell_comparison(told: Told, places: list[int]) -> None:
    said = told.said
    if said.preferred is None:
        told.reason = said.choice
        if said.choice == "tie":
            told.votes.append(Vote(places[0], places[1], True, "", "comparison", (said,)))
        return
    other = places[1] if places[0] == said.preferred else places[0]
    told.votes.append(Vote(said.preferred, other, False, said.strength, "comparison", (said,)))
    told.examples.append(said.preferred)


def tell_ranking(told: Told, group: Group) -> None:
    said = told.said
    order = said.order
    for place, tied in enumerate(order):
        for index, better in enumerate(tied):
            told.votes += [Vote(better, other, True, "", "ranking", (said,)) for other in tied[index + 1 :]]
            told.votes += [
                Vote(better, worse, False, "", "ranking", (said,))
                for lower in order[place + 1 :]
                for worse in lower
            ]
    if len(order) == 1:
        told.reason = "tie"
        return
    told.order = order
    if len(order[0]) == 1:
        told.examples.append(order[0][0])


def tell_rating(told: Told, group: Group, earlier: list[tuple[Said, int, float]]) -> None:
    said = told.said
    own = group.shared.values.get(said.pk)
    if own is None:
        told.reason = "no_answer"
        return
    completion, value = own
    if not 0 <= value <= 1:
        told.reason = "out_of_scale"
        return
    for other_said, other, other_value in earlier:
        if other == completion:
            continue
        both = (other_said, said)
        if other_value == value:
            told.votes.append(Vote(other, completion, True, "", "ratings", both))
        else:
            better, worse = (completion, other) if value > other_value else (other, completion)
            told.votes.append(Vote(better, worse, False, "", "ratings", both))
    earlier.append((said, completion, value))
    told.rating = own
    if value == 1:
        told.examples.append(completion)
