"""TRL's rows: preferences, unpaired labels, prompts with a completion, and several completions ranked.

Each in the plain form (texts) and in the conversational one (messages); a preference may leave the prompt
implicit, as what both sides begin with. See the dataset formats in TRL's documentation.
"""

from collections.abc import Sequence
from itertools import groupby
from os.path import commonprefix

from django.utils.translation import gettext_lazy as _

from rating.services.imports.formats.base import (
    LABELS,
    Format,
    Row,
    all_have,
    judged_pair,
    need,
    read_label,
    read_model,
    read_prompt,
    read_rater,
    read_reply,
    read_time,
    read_turns,
    split_last,
)
from rating.services.imports.formats.hh_rlhf import split_turns
from rating.services.imports.rows import ImportRow, LeftOut, Read, Response, Vote, single
from rating.services.items import MAX_COMPLETIONS
from rating.services.texts import Message, TextError, check_messages, check_text

VOTED = {"rater", "judged_at"}
PREFERENCE_FIELDS = {"prompt", "chosen", "rejected", "chosen_model", "rejected_model"} | VOTED
UNPAIRED_FIELDS = {"prompt", "completion", "messages", "label", "model"} | VOTED
COMPLETION_FIELDS = {"prompt", "completion", "model"}
RANKING_FIELDS = {"prompt", "completions", "responses", "answers", "ranks", "ranking", "scores"} | VOTED
TEXT_FIELDS = ("text", "completion", "answer", "response", "content")


def recognises_preference(rows: Sequence[Row]) -> bool:
    """Whether the rows have a better and a worse side."""
    return all_have(rows[:1], "chosen", "rejected")


def read_preference(line: int, row: Row) -> Read:
    """A judged pair, or why it is left out. Raises TextError."""
    need(row, "chosen", "rejected")
    sides = row["chosen"], row["rejected"]
    ignored = row.keys() - PREFERENCE_FIELDS
    if all(isinstance(side, list) and (len(side) > 1 or row.get("prompt") is None) for side in sides):
        chosen, answer = split_last(read_turns(row["chosen"], "chosen"), "chosen")
        rejected, other = split_last(read_turns(row["rejected"], "rejected"), "rejected")
        if answer is None or other is None:
            return LeftOut(line, "no_response")
        if chosen != rejected:
            return LeftOut(line, "differs_earlier")
        prompt = chosen
    elif row.get("prompt") is not None:
        prompt = read_asked(row["prompt"])
        answer, other = read_reply(row["chosen"], "chosen"), read_reply(row["rejected"], "rejected")
    else:
        texts = check_text(row["chosen"], "chosen"), check_text(row["rejected"], "rejected")
        if texts[0] == texts[1]:
            return LeftOut(line, "equal")
        prompt, answer, other = split_common(*texts)
    better = Response(answer, read_model(row.get("chosen_model"), "chosen_model"))
    worse = Response(other, read_model(row.get("rejected_model"), "rejected_model"))
    pair = judged_pair(ImportRow(line, prompt, ignored=ignored), better, worse, rater_of(row))
    return with_time(pair, row)


def read_asked(value: object) -> list[Message]:
    """A prompt, which may also be a transcript in the manner of HH-RLHF that ends with "Assistant:"."""
    if not isinstance(value, str) or not value.startswith("\n\nHuman:"):
        return read_prompt(value, "prompt")
    turns, _stray = split_turns(check_text(value, "prompt"), "prompt")
    if turns[-1] == {"role": "assistant", "content": ""}:
        turns.pop()
    return check_messages(turns)


def split_common(chosen: str, rejected: str) -> tuple[list[Message], str, str]:
    """The prompt that both texts begin with, up to its last space, and what follows it on either side."""
    # Character by character is what is wanted of these texts.
    cut = len(commonprefix([chosen, rejected]))  # noqa: RUF071
    while cut > 0 and not chosen[cut - 1].isspace():
        cut -= 1
    prompt = chosen[:cut].rstrip()
    if not prompt:
        raise TextError("chosen: has no beginning in common with `rejected`; give the `prompt` by itself.")
    return [{"role": "user", "content": prompt}], chosen[cut:], rejected[cut:]


def rater_of(row: Row) -> str:
    """Who preferred: the row's `rater`, or one for all rows that name none."""
    return read_rater("trl", row["rater"], "rater") if row.get("rater") is not None else "trl"


def with_time(row: ImportRow | LeftOut, source: Row) -> ImportRow | LeftOut:
    """The row's votes with the time that `judged_at` names."""
    if isinstance(row, ImportRow):
        for vote in row.votes:
            vote.at = read_time(source.get("judged_at"))
    return row


def recognises_unpaired(rows: Sequence[Row]) -> bool:
    """Whether single responses have a label that says good or bad."""
    labelled = all_have(rows, "label") and all(str(row["label"]).strip().lower() in LABELS for row in rows)
    return labelled and (all_have(rows, "prompt", "completion") or all_have(rows, "messages"))


def read_unpaired(line: int, row: Row) -> Read:
    """A response with thumbs up or down. Raises TextError."""
    if row.get("messages") is not None:
        prompt, reply = split_last(read_turns(row["messages"], "messages"), "messages")
        if reply is None:
            return LeftOut(line, "no_response")
    else:
        need(row, "prompt", "completion")
        prompt, reply = read_prompt(row["prompt"], "prompt"), read_reply(row["completion"], "completion")
    made = single(line, prompt, Response(reply, read_model(row.get("model"), "model")))
    made.ignored = row.keys() - UNPAIRED_FIELDS
    made.votes = [Vote(rater_of(row), rating=read_label(row.get("label"), "label"))]
    return with_time(made, row)


def recognises_completion(rows: Sequence[Row]) -> bool:
    """Whether the rows have a prompt and one completion."""
    return all_have(rows[:1], "prompt", "completion")


def read_completion(line: int, row: Row) -> Read:
    """A response to be rated. Raises TextError."""
    need(row, "prompt", "completion")
    response = Response(read_reply(row["completion"], "completion"), read_model(row.get("model"), "model"))
    prompt = read_prompt(row["prompt"], "prompt")
    return single(line, prompt, response, ignored=row.keys() - COMPLETION_FIELDS)


def recognises_ranking(rows: Sequence[Row]) -> bool:
    """Whether the rows have several completions, each perhaps with its rank."""
    row = rows[0]
    if "prompt" not in row:
        return False
    ranked = {"ranks", "ranking", "scores"} & row.keys()
    return isinstance(row.get("completions", row.get("answers")), list) or (
        bool(ranked) and isinstance(row.get("responses"), list)
    )


def read_ranking(line: int, row: Row) -> Read:
    """Responses to be rated together, or ranked already. Raises TextError."""
    prompt = check_messages(read_prompt(row.get("prompt"), "prompt"))
    name = next((name for name in ("completions", "responses", "answers") if row.get(name) is not None), "")
    if not isinstance(row.get(name), list) or not row[name]:
        raise TextError("completions: expected a list of responses.")
    if len(row[name]) > MAX_COMPLETIONS:
        raise TextError(f"{name}: {len(row[name])} are too many; one item has at most {MAX_COMPLETIONS}.")
    read = [read_ranked(value, f"{name}[{place}]") for place, value in enumerate(row[name])]
    responses = [response for response, _ in read]
    made = ImportRow(line, prompt, responses, [list(range(len(responses)))])
    made.ignored = row.keys() - RANKING_FIELDS
    if len({response.text for response in responses}) < len(responses):
        return LeftOut(line, "equal")
    ranking = read_order(row, [rank for _, rank in read])
    if ranking is not None and len(responses) > 1:
        made.votes = [ranked_vote(rater_of(row), ranking)]
    return with_time(made, row)


def read_ranked(value: object, field: str) -> tuple[Response, object]:
    """One response and its own rank, if it has one."""
    if not isinstance(value, dict) or "role" in value:
        return Response(read_reply(value, field)), None
    name = next((name for name in TEXT_FIELDS if name in value), None)
    if name is None:
        raise TextError(f"{field}: expected a text, or an object with `text` and perhaps `model` and `rank`.")
    response = Response(
        read_reply(value[name], f"{field}.{name}"), read_model(value.get("model"), f"{field}.model")
    )
    return response, value.get("rank")


def read_order(row: Row, own: list[object]) -> list[list[int]] | None:
    """Places in groups, best first: by `ranking`, by `ranks` (1 is best), by `scores` (most is best)."""
    count = len(own)
    if row.get("ranking") is not None:
        return check_groups(row["ranking"], count)
    ranks: object = own if any(rank is not None for rank in own) else row.get("ranks")
    field, sign = ("ranks", 1) if ranks is not None else ("scores", -1)
    ranks = row.get("scores") if ranks is None else ranks
    if ranks is None:
        return None
    if not isinstance(ranks, list) or len(ranks) != count:
        raise TextError(f"{field}: expected a list of {count} numbers, one for each response.")
    if any(isinstance(rank, bool) or not isinstance(rank, int | float) or rank != rank for rank in ranks):
        raise TextError(f"{field}: expected numbers, one for each response.")
    order = sorted(range(count), key=lambda place: sign * ranks[place])
    return [list(group) for _, group in groupby(order, key=lambda place: ranks[place])]


def check_groups(value: object, count: int) -> list[list[int]]:
    """The groups of places as they stand, when every place is named once."""
    groups = (
        [place if isinstance(place, list) else [place] for place in value] if isinstance(value, list) else []
    )
    places = [place for group in groups for place in group]
    if any(isinstance(place, bool) or not isinstance(place, int) for place in places) or sorted(
        places
    ) != list(range(count)):
        raise TextError(
            f"ranking: expected the places 0 to {count - 1}, best first, each once, ties as a list."
        )
    return groups


def ranked_vote(rater: str, ranking: list[list[int]], item: int = 0) -> Vote:
    """The vote that a ranking is; of two responses it is a preference or a tie."""
    places = [place for group in ranking for place in group]
    if len(places) != 2:
        return Vote(rater, item, ranking=ranking)
    if len(ranking) == 1:
        return Vote(rater, item, choice="tie")
    return Vote(rater, item, choice="prefer", preferred=ranking[0][0])


def recognises_sampling(rows: Sequence[Row]) -> bool:
    """Whether the rows are of Open-Assistant's sampling reports: outputs by sampling configuration."""
    return all_have(rows[:1], "prompt", "results") and isinstance(rows[0]["results"], list)


def read_sampling(line: int, row: Row) -> Read:
    """A prompt with its outputs, each rated alone. Raises TextError."""
    need(row, "prompt", "results")
    prompt, texts = read_prompt(row["prompt"], "prompt"), dict[str, None]()
    for number, result in enumerate(row["results"] if isinstance(row["results"], list) else [None]):
        outputs = result.get("outputs") if isinstance(result, dict) else None
        if not isinstance(outputs, list):
            raise TextError(f"results[{number}]: expected an object with a list of `outputs`.")
        texts |= {check_text(text, f"results[{number}].outputs"): None for text in outputs}
    responses = [Response(text) for text in texts]
    items = [[place] for place in range(len(responses))]
    return ImportRow(line, prompt, responses, items, ignored=row.keys() - {"prompt", "results"})


PREFERENCE = Format(
    "trl-preference", _("TRL preferences, already judged"), recognises_preference, read_preference
)
UNPAIRED = Format("trl-unpaired", _("TRL responses labelled good or bad"), recognises_unpaired, read_unpaired)
COMPLETION = Format(
    "trl-completion", _("TRL prompts with a completion"), recognises_completion, read_completion
)
RANKING = Format("ranking", _("Several completions, ranked or not"), recognises_ranking, read_ranking)
SAMPLING = Format("oasst-sampling", _("Open-Assistant sampling reports"), recognises_sampling, read_sampling)
