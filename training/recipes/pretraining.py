"""The texts that PPO goes on imitating (PPO-ptx): read once, drawn as a function of the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from training.recipes import ppo_math
from training.recipes.data import bad_data, encode_chat, read_lines, read_messages, read_response
from training.recipes.generation import derive_seed, forward
from training.recipes.rundir import Run
from training.recipes.spec import Pretraining

Encoded = tuple[list[int], int]
"""Token ids, and how many of them at the start are only read, not learned."""


@dataclass
class Texts:
    rows: list[Encoded]
    pad_token_id: int
    seed: int
    batch_size: int

    def loss(self, policy: Any, step: int, number: int) -> torch.Tensor:
        """The mean loss per token of the batch that belongs to this gradient step; []."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "pretraining", step, number))
        chosen = torch.randint(len(self.rows), (self.batch_size,), generator=generator).tolist()
        rows = [self.rows[place] for place in chosen]
        width = max(len(ids) for ids, _ in rows)
        device = policy.device
        ids = torch.tensor([ids + [self.pad_token_id] * (width - len(ids)) for ids, _ in rows], device=device)
        place = torch.arange(width, device=device)[None]
        ends = torch.tensor([len(ids) for ids, _ in rows], device=device)[:, None]
        starts = torch.tensor([start for _, start in rows], device=device)[:, None]
        logits = forward(policy, ids, (place < ends).long()).logits[:, :-1].float()
        learned = ((place >= starts) & (place < ends)).long()[:, 1:]
        return ppo_math.language_loss(logits, ids[:, 1:], learned)


def read_texts(run: Run, part: Pretraining, tokenizer: Any, room: int) -> Texts:
    """Rows {"text"} (every token is learned) or {"prompt", "completion"} (only the completion is), cut to
    `room` tokens. Raises RecipeError bad_data naming file and line.
    """
    rows = []
    for where, row in read_lines(run.directory / part.file):
        if "text" in row:
            if not isinstance(row["text"], str) or not row["text"]:
                raise bad_data(f"{where}: text must be a text that is not empty")
            ids, start = tokenizer.encode(row["text"])[:room], 1
        else:
            prompt, said = read_messages(row, "prompt", where), read_response(row, "completion", where)
            ids = encode_chat(tokenizer, prompt + said)[:room]
            start = max(1, len(encode_chat(tokenizer, prompt, prompt_only=True)))
        if start < len(ids):
            rows.append((ids, start))
    if not rows:
        raise bad_data(f"{part.file}: none of its texts has a token to learn within {room} tokens")
    return Texts(rows, tokenizer.pad_token_id, run.spec.seed, part.batch_size)
