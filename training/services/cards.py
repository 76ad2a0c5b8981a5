"""The data card of a snapshot: what is in it, how good it is likely to be, and what it lacks."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from rating.models import Project, Rater
from training.agreement import Agreement
from training.services.rows import PromptRows

READ = 300
"""Characters of a text that are looked at for its script."""
SCRIPTS = {
    "Han": r"\u3400-\u9fff\U00020000-\U0003ffff",
    "Kana": r"\u3040-\u30ff",
    "Hangul": r"\u1100-\u11ff\uac00-\ud7af",
    "Cyrillic": r"\u0400-\u052f",
    "Greek": r"\u0370-\u03ff",
    "Arabic": r"\u0600-\u06ff\u0750-\u077f",
    "Hebrew": r"\u0590-\u05ff",
    "Devanagari": r"\u0900-\u097f",
    "Bengali": r"\u0980-\u09ff",
    "Tamil": r"\u0b80-\u0bff",
    "Thai": r"\u0e00-\u0e7f",
    "Latin": r"A-Za-z\u00aa-\u024f",
}
OTHER = "other"
_PATTERNS = {name: re.compile(f"[{inside}]") for name, inside in SCRIPTS.items()}


def guess_script(text: str) -> str:
    """The script that most of the text's first characters are in: a key of SCRIPTS or `other`.

    Japanese counts as Kana where it has any. It is a guess at the script, not at the language.
    """
    text = text[:READ]
    if text.isascii():
        return "Latin" if re.search("[A-Za-z]", text) else OTHER
    counts = {name: len(pattern.findall(text)) for name, pattern in _PATTERNS.items()}
    if counts["Kana"]:
        return "Kana"
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else OTHER


@dataclass
class CardCounts:
    """What the card needs, counted while the rows pass by.

    Attributes:
        lengths: for prompts, chosen and rejected responses: how many have a length of so many bits.
        raters: judgments and seconds by rater, of what was used.
    """

    prompts: int = 0
    judged: int = 0
    pairs: int = 0
    longer: int = 0
    timed: int = 0
    scripts: Counter[str] = field(default_factory=Counter)
    lengths: dict[str, Counter[int]] = field(
        default_factory=lambda: {name: Counter() for name in ("prompt", "chosen", "rejected")}
    )
    judgments: Counter[int] = field(default_factory=Counter)
    seconds: dict[int, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, result: PromptRows) -> None:
        """Count one prompt's rows."""
        self.prompts += 1
        if len(result.rows) > 1:
            self.judged += 1
            prompt = result.rows[-1].data["prompt"]
            self.lengths["prompt"][sum(len(message["content"]) for message in prompt).bit_length()] += 1
            self.scripts[guess_script(prompt[-1]["content"])] += 1
        for row in result.rows:
            if row.kind == "preference":
                chosen, rejected = (len(row.data[name][0]["content"]) for name in ("chosen", "rejected"))
                self.lengths["chosen"][chosen.bit_length()] += 1
                self.lengths["rejected"][rejected.bit_length()] += 1
                self.longer += chosen > rejected
                self.pairs += 1
        for said in result.used:
            self.judgments[said.rater] += 1
            if said.seconds is not None:
                self.seconds[said.rater] += said.seconds
                self.timed += 1


def make_card(
    project: Project, counts: CardCounts, agreement: Agreement, splits: dict[str, int], ties: int
) -> dict[str, Any]:
    """The card as JSON.

    Args:
        splits: judgments that gave rows, by split.
        ties: judgments that were left out because nothing was preferred.
    """
    names = dict(Rater.objects.filter(project=project).values_list("pk", "pseudonym"))
    weights = agreement.weights()
    card: dict[str, Any] = {
        "judgments": sum(splits.values()),
        "prompts": {"all": counts.prompts, "judged": counts.judged},
        "agreement": {"share": agreement.share, "pairs": agreement.pairs},
        "hours": round(sum(counts.seconds.values()) / 3600, 2),
        "timed": counts.timed,
        "raters": [
            {
                "rater": names[pk],
                "judgments": n,
                "hours": round(counts.seconds[pk] / 3600, 2),
                "agreed": agreement.agreed[pk],
                "compared": agreement.compared[pk],
                "weight": round(weights[pk], 4) if pk in weights else None,
            }
            for pk, n in sorted(counts.judgments.items(), key=lambda entry: (-entry[1], names[entry[0]]))
        ],
        "scripts": dict(sorted(counts.scripts.items(), key=lambda entry: (-entry[1], entry[0]))),
        "lengths": {
            name: {str(bits): n for bits, n in sorted(found.items())}
            for name, found in counts.lengths.items()
        },
        "chosen_longer": round(counts.longer / counts.pairs, 4) if counts.pairs else None,
    }
    card["gaps"] = find_gaps(card, splits, ties)
    return card


def find_gaps(card: dict[str, Any], splits: dict[str, int], ties: int) -> list[list[Any]]:
    """What somebody who uses the data should know, as [key, number]; `tell_gap` says it in words."""
    gaps: list[list[Any]] = []
    total, raters = card["judgments"], card["raters"]
    if not card["agreement"]["pairs"]:
        gaps.append(["no_overlap", None])
    elif card["agreement"]["share"] < 0.6:
        gaps.append(["low_agreement", card["agreement"]["share"]])
    if len(raters) == 1:
        gaps.append(["one_rater", None])
    elif raters and raters[0]["judgments"] > total / 2:
        gaps.append(["busy_rater", raters[0]["judgments"] / total])
    if splits.get("eval", 0) < 100:
        gaps.append(["few_eval", splits.get("eval", 0)])
    if card["chosen_longer"] is not None and card["chosen_longer"] > 0.65:
        gaps.append(["longer_wins", card["chosen_longer"]])
    if ties > total / 4:
        gaps.append(["many_ties", ties])
    if card["timed"] < total:
        gaps.append(["untimed", total - card["timed"]])
    scripts = card["scripts"]
    if scripts and max(scripts.values()) > 0.95 * sum(scripts.values()):
        gaps.append(["one_script", next(iter(scripts))])
    return gaps


def tell_gap(gap: list[Any]) -> str:
    """A gap in words; an unknown one by its key."""
    key, number = gap
    percent = f"{number:.0%}" if isinstance(number, float) else ""
    words = {
        "no_overlap": _("No two raters judged the same pair, so their agreement is unknown."),
        "low_agreement": _("Two raters agree on %(percent)s of the pairs only."),
        "one_rater": _("All of it is the taste of one rater."),
        "busy_rater": _("One rater gave %(percent)s of the judgments."),
        "few_eval": _("Only %(number)s judgments are held out: measurements will be rough."),
        "longer_wins": _(
            "The longer response is preferred in %(percent)s of the pairs: length may be learned."
        ),
        "many_ties": _("%(number)s judgments preferred nothing and are not in the pairs."),
        "untimed": _("%(number)s judgments do not say how long they took, so the hours are too low."),
        "one_script": _("Nearly all prompts are in one script (%(number)s)."),
    }
    return words.get(key, str(key)) % {"percent": percent, "number": number}
