"""The formats in which rows are taken away: their columns, and how a frozen row becomes one of theirs.

Pure functions of rows; docs/formats.md shows a line of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Data = dict[str, Any]
Convert = Callable[[str, Data], Iterable[Data]]

MESSAGES = "messages"
MESSAGE_LISTS = "lists of messages"
TEXT = "text"
TEXTS = "texts"
NUMBER = "number"
INTEGER = "integer"
INTEGERS = "integers"
BOOLEAN = "boolean"
JSON = "json"


@dataclass(frozen=True)
class ExportFormat:
    """What an export holds.

    Attributes:
        columns: the fields of each line and what they hold, in their order.
        kinds: the kinds of rows that it is made from; none for raw judgments.
        convert: from the kind of a row and the row to its lines.
        end: where a frozen line is cut when the columns are its first ones; empty when they are all of it;
            None when it has to be converted.
    """

    label: str | Promise
    description: str | Promise
    columns: dict[str, str]
    kinds: tuple[str, ...] = ()
    convert: Convert | None = None
    end: bytes | None = None


def pick(*names: str) -> Convert:
    """Some fields of the row as they are."""
    return lambda kind, data: ({name: data[name] for name in names},)


def to_texts(kind: str, data: Data) -> Iterable[Data]:
    """Plain texts: a single user message as it is, any other conversation as a transcript."""
    yield {
        "prompt": transcript(data["prompt"]),
        "chosen": data["chosen"][0]["content"],
        "rejected": data["rejected"][0]["content"],
    }


def transcript(messages: list[dict[str, str]]) -> str:
    """A prompt as text: of several turns in the manner of HH-RLHF, ending where the assistant speaks."""
    if len(messages) == 1 and messages[0]["role"] == "user":
        return messages[0]["content"]
    speakers = {"system": "System", "user": "Human", "assistant": "Assistant"}
    turns = "".join(f"\n\n{speakers[message['role']]}: {message['content']}" for message in messages)
    return f"{turns}\n\nAssistant:"


def to_conversations(kind: str, data: Data) -> Iterable[Data]:
    prompt = data["prompt"]
    yield {"chosen": prompt + data["chosen"], "rejected": prompt + data["rejected"]}


def to_unpaired(kind: str, data: Data) -> Iterable[Data]:
    """Each response of a pair by itself; a rated one is good above the middle of its scale, bad below."""
    if kind == "preference":
        if data.get("label", 1.0) > 0.5:  # the two rows of a tie would call each response good and bad
            yield {"prompt": data["prompt"], "completion": data["chosen"], "label": True}
            yield {"prompt": data["prompt"], "completion": data["rejected"], "label": False}
    elif data["rating"] != 0.5:
        label = data["rating"] > 0.5
        yield {"prompt": data["prompt"], "completion": data["completion"], "label": label}


def to_reward(kind: str, data: Data) -> Iterable[Data]:
    """With a margin that is always a number: RewardTrainer takes no null. Old snapshots have no labels."""
    row = {name: data[name] for name in ("prompt", "chosen", "rejected")}
    yield row | {
        "margin": data["margin"] or 0.0,
        "soft_label": data.get("label", 1.0),
        "weight": data.get("weight", 1.0),
    }


def to_openai_preference(kind: str, data: Data) -> Iterable[Data]:
    yield {
        "input": {"messages": data["prompt"], "tools": [], "parallel_tool_calls": True},
        "preferred_output": data["chosen"],
        "non_preferred_output": data["rejected"],
    }


def to_openai_chat(kind: str, data: Data) -> Iterable[Data]:
    yield {"messages": data["prompt"] + data["completion"]}


PAIR = {"prompt": MESSAGES, "chosen": MESSAGES, "rejected": MESSAGES}
EXPORT_FORMATS = {
    "trl-preference": ExportFormat(
        _("Preferences for TRL"),
        _("One pair per line as chat messages, the prompt apart: what DPOTrainer and RewardTrainer read."),
        PAIR,
        ("preference",),
        pick("prompt", "chosen", "rejected"),
        b',"margin":',
    ),
    "trl-preference-text": ExportFormat(
        _("Preferences for TRL, plain text"),
        _("The same pairs as texts without roles; a prompt of several turns is a transcript."),
        {"prompt": TEXT, "chosen": TEXT, "rejected": TEXT},
        ("preference",),
        to_texts,
    ),
    "trl-conversations": ExportFormat(
        _("Preferences for TRL, whole conversations"),
        _("Two conversations per line that differ in their last message; no prompt apart."),
        {"chosen": MESSAGES, "rejected": MESSAGES},
        ("preference",),
        to_conversations,
    ),
    "trl-reward": ExportFormat(
        _("Pairs with margin and soft label"),
        _("For RewardTrainer with a margin, and for losses that know soft labels and weights."),
        PAIR | {"margin": NUMBER, "soft_label": NUMBER, "weight": NUMBER},
        ("preference",),
        to_reward,
    ),
    "trl-unpaired": ExportFormat(
        _("Good and bad responses for TRL"),
        _("One response per line with a label, from pairs and ratings: what KTOTrainer reads."),
        {"prompt": MESSAGES, "completion": MESSAGES, "label": BOOLEAN},
        ("preference", "rating"),
        to_unpaired,
    ),
    "sft": ExportFormat(
        _("Examples for TRL"),
        _("Responses that raters wrote, preferred or rated with the top: what SFTTrainer reads."),
        {"prompt": MESSAGES, "completion": MESSAGES},
        ("sft",),
        pick("prompt", "completion"),
        b"",
    ),
    "rating": ExportFormat(
        _("Ratings"),
        _("Each rated single response with its rating from 0 to 1."),
        {"prompt": MESSAGES, "completion": MESSAGES, "rating": NUMBER},
        ("rating",),
        pick("prompt", "completion", "rating"),
        b"",
    ),
    "ranking": ExportFormat(
        _("Rankings"),
        _("Three responses or more, best first, with their ranks."),
        {"prompt": MESSAGES, "completions": MESSAGE_LISTS, "ranks": INTEGERS, "judgments": TEXTS},
        ("ranking",),
        pick("prompt", "completions", "ranks", "judgments"),
        b"",
    ),
    "openai-preference": ExportFormat(
        _("Preferences for OpenAI"),
        _("What the preference fine-tuning of OpenAI's interface reads."),
        {"input": JSON, "preferred_output": MESSAGES, "non_preferred_output": MESSAGES},
        ("preference",),
        to_openai_preference,
    ),
    "openai-chat": ExportFormat(
        _("Examples for OpenAI"),
        _("Whole conversations that end with a good response: what supervised fine-tuning there reads."),
        {"messages": MESSAGES},
        ("sft",),
        to_openai_chat,
    ),
    "judgments": ExportFormat(
        _("Judgments, raw"),
        _("Everything that was said, superseded and evaluation judgments too; raters by pseudonym."),
        {
            "judgment": TEXT,
            "idempotency_key": TEXT,
            "rater": TEXT,
            "rater_model": TEXT,
            "judged_at": TEXT,
            "seconds": NUMBER,
            "in_force": BOOLEAN,
            "supersedes": TEXT,
            "purpose": TEXT,
            "item": TEXT,
            "split": TEXT,
            "prompt": MESSAGES,
            "prompt_source": TEXT,
            "prompt_metadata": JSON,
            "completions": JSON,
            "leased_at": TEXT,
            "order_shown": TEXTS,
            "choice": TEXT,
            "preferred": TEXT,
            "strength": TEXT,
            "ranking": JSON,
            "none_good": BOOLEAN,
            "asked": TEXT,
            "safety": TEXT,
            "intent": TEXT,
            "rewrite": TEXT,
            "ratings": JSON,
            "answers": JSON,
            "marks": JSON,
            "flags": TEXTS,
            "rationale": TEXT,
            "guidelines": INTEGER,
        },
    ),
}
