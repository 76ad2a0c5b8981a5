"""How judgments become rows to learn from, streamed prompt by prompt in the order of their ids.

Each judgment in force of an item collected to learn from gives the rows that it can:

- a comparison: the preferred response over the other; the preferred response as an example;
- a ranking: each response over each one ranked below it; a sole best one as an example; the order as a whole;
- a better response that the rater wrote: over each response of the item, and as an example;
- a rating of a single response: its value from 0 to 1; an example when it is the top of the scale; and a pair
  with each other response to the same prompt that the same rater rated differently before.

With `rows` majority or soft, all the votes on the same two responses give one row: see
training.services.tallies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from rating.models import Judgment, Project
from training.agreement import Agreement
from training.services.queries import SnapshotQuery, collected_judgments, last_judgment, margins_of
from training.services.reading import Group, iter_groups
from training.services.rows import KINDS, Making, PromptRows, Row, add_votes
from training.services.tallies import add_tallied
from training.services.votes import count_agreement, tell_all


def iter_rows(
    project: Project,
    query: SnapshotQuery | None = None,
    *,
    agreement: Agreement | None = None,
    split: str | None = None,
    kinds: Collection[str] = KINDS,
) -> Iterator[PromptRows]:
    """The rows of every prompt of the project, the prompt's own last; see `iter_groups` for the cost.

    Args:
        agreement: is filled with how much the raters agree.
        split: the prompts of one split alone.
        kinds: the kinds of rows that are wanted.
    """
    query = query or SnapshotQuery()
    weights = measure_weights(project, query) if query.weights == "reliability" else None
    making = Making(query, margins_of(project, query), weights, agreement, frozenset(kinds))
    for group in iter_groups(project, query, split=split):
        yield make_rows(group, making)


def measure_weights(project: Project, query: SnapshotQuery) -> dict[int, float]:
    """The weight of each rater by their agreement with others on what the query lets in; reads no texts."""
    agreement = Agreement()
    for group in iter_groups(project, query, texts=False):
        count_agreement(agreement, [vote for told in tell_all(group) for vote in told.votes])
    return agreement.weights()


def make_rows(group: Group, making: Making) -> PromptRows:
    """The rows of one prompt."""
    result = PromptRows(group.split)
    told = tell_all(group) if group.judgments else []
    if making.agreement is not None and len(told) > 1:
        count_agreement(making.agreement, [vote for one in told for vote in one.votes])
    if making.query.rows == "votes":
        add_votes(result, group, told, making)
    else:
        add_tallied(result, group, told, making)
    if "prompts" in making.kinds:
        result.rows.append(Row("prompts", group.split, {"id": group.text_hash, "prompt": group.messages}))
    return result


def count_set_aside(project: Project, query: SnapshotQuery, counted: int) -> dict[str, int]:
    """How many judgments no row was looked for in, by reason.

    Args:
        counted: how many the query let in.
    """
    last = last_judgment(project, query)
    judgments = Judgment.objects.of_project(project.pk).filter(pk__lte=last)
    chosen = collected_judgments(project, last).count()
    everything = judgments.count()
    superseded = judgments.filter(superseded_by__lte=last).count()
    return {
        "query": chosen - counted,
        "evaluation": everything - superseded - chosen,
        "superseded": superseded,
    }
