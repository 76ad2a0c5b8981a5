"""Pairs as tokens for TRL's experimental trainers, which would write them as text and tokenize that anew:
with another beginning- or end-of-sequence token than the chat template has, and so another text than the
model is asked with.
"""

from __future__ import annotations

from typing import Any

from datasets import Dataset

from training.recipes.data import Preference, bad_data, encode_chat, fit_rows, read_preferences
from training.recipes.rundir import Run


def read_pairs(run: Run, path: str, tokenizer: Any, room: int, name: str) -> Dataset:
    """The pairs of a file that say which response is better, as rows of tokens."""
    rows = read_preferences(run.directory / path)
    kept = [row for row in rows if not row.tie]
    if not kept:
        raise bad_data(f"none of the {len(rows)} {name} says which response is better")
    if len(kept) < len(rows):
        message = f"{len(rows) - len(kept)} of {len(rows)} {name} are ties and were left out"
        run.emit("warning", message=message)
    return Dataset.from_list(
        [pair_tokens(tokenizer, row) for row in fit_rows(kept, tokenizer, room, run, name)]
    )


def pair_tokens(tokenizer: Any, row: Preference) -> dict[str, Any]:
    """A pair by TRL's names of the columns; the labels are -100 on the prompt.

    The response begins where the prompt alone and the whole conversation part.
    """
    prompt = encode_chat(tokenizer, row.prompt, prompt_only=True)
    found: dict[str, Any] = {"prompt": "", "chosen": "", "rejected": ""}  # what TRL would tokenize
    for side, response in (("chosen", row.chosen), ("rejected", row.rejected)):
        whole = encode_chat(tokenizer, row.prompt + response)
        same = [a == b for a, b in zip(prompt, whole, strict=False)] + [False]
        start = same.index(False)
        found |= {
            f"{side}_input_ids": whole,
            f"{side}_attention_mask": [1] * len(whole),
            f"{side}_labels": [-100] * start + whole[start:],
        }
    return found | {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
