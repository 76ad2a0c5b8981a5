"""Writing responses and measuring them: sampling, log-probabilities, scores, exact KL."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from training.recipes.data import Messages, encode_chat, prompt_encoder, read_prompts
from training.recipes.rundir import Run
from training.recipes.spec import Probes


@dataclass
class Written:
    """A batch of responses.

    ids: [B, P + T] prompt (padded left) and response (padded right); mask: [B, P + T] 1 where a real token
    is; response_mask: [B, T] 1 on the response's tokens, the end token included; finished: [B] ended by
    itself.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    response_mask: torch.Tensor
    finished: torch.Tensor

    def tokens(self) -> list[list[int]]:
        """The response's token ids per row."""
        width = self.response_mask.shape[1]
        rows = zip(self.ids[:, -width:], self.response_mask, strict=True)
        return [row[mask.bool()].tolist() for row, mask in rows]

    def texts(self, tokenizer: Any) -> list[str]:
        return [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in self.tokens()]


@dataclass
class Sampling:
    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0


@torch.no_grad()
def write_responses(
    model: Any, tokenizer: Any, prompts: list[list[int]], sampling: Sampling, seed: int
) -> Written:
    """Sample one response to each prompt (token ids). The result depends on the arguments and the weights
    only.
    """
    if has_virtual_tokens(model) and len({len(prompt) for prompt in prompts}) > 1:
        parts = [
            write_responses(model, tokenizer, [prompt], sampling, derive_seed(seed, place))
            for place, prompt in enumerate(prompts)
        ]
        return join(parts, tokenizer.pad_token_id)
    width = max(len(prompt) for prompt in prompts)
    padded = [[tokenizer.pad_token_id] * (width - len(prompt)) + prompt for prompt in prompts]
    ids = torch.tensor(padded, device=model.device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
    mask = (torch.arange(width, device=model.device)[None] >= width - lengths[:, None]).long()
    ends = end_tokens(model, tokenizer)
    devices = [model.device] if model.device.type == "cuda" else []
    training = model.training
    model.eval()
    with torch.random.fork_rng(devices), plain_generation(model, tokenizer, ends, sampling):
        torch.manual_seed(seed)
        ids = model.generate(input_ids=ids, attention_mask=mask)
    model.train(training)
    response = ids[:, width:]
    is_end = torch.isin(response, torch.tensor(ends, device=ids.device))
    ended_before = is_end.cumsum(1) - is_end.long()
    response_mask = (ended_before == 0).long()
    return Written(ids, torch.cat([mask, response_mask], 1), response_mask, is_end.any(1))


def has_virtual_tokens(model: Any) -> bool:
    """Whether PEFT puts virtual tokens before the prompt. It counts positions from them on, padding too, so
    that a padded prompt would stand apart from them.
    """
    return bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))


def join(parts: list[Written], pad: int) -> Written:
    """Responses that were written one by one as one batch: prompts padded left, responses right."""
    widths = [part.response_mask.shape[1] for part in parts]
    room = max(part.ids.shape[1] - width for part, width in zip(parts, widths, strict=True))

    def fill(name: str, value: int) -> torch.Tensor:
        rows = []
        for part, width in zip(parts, widths, strict=True):
            row = getattr(part, name)
            left = room - (row.shape[1] - width)
            rows.append(torch.nn.functional.pad(row, (left, max(widths) - width), value=value))
        return torch.cat(rows)

    masks = [
        torch.nn.functional.pad(part.response_mask, (0, max(widths) - width))
        for part, width in zip(parts, widths, strict=True)
    ]
    finished = torch.cat([part.finished for part in parts])
    return Written(fill("ids", pad), fill("mask", 0), torch.cat(masks), finished)


@contextmanager
def plain_generation(model: Any, tokenizer: Any, ends: list[int], sampling: Sampling) -> Iterator[None]:
    """Sampling from the model's own distribution: the defaults it was shipped with (top_k, ...) are set
    aside.
    """
    owner = model.get_base_model() if hasattr(model, "get_base_model") else model
    shipped, cached = owner.generation_config, owner.config.use_cache
    choice: dict[str, Any] = {"do_sample": False}
    if sampling.temperature > 0:
        choice = {
            "do_sample": True,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": 0,
        }
    owner.config.use_cache = True
    owner.generation_config = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends,
        use_cache=True,
        **choice,
    )
    try:
        yield
    finally:
        owner.generation_config, owner.config.use_cache = shipped, cached


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end a response: the tokenizer's and those that the model was shipped with."""
    shipped = model.generation_config.eos_token_id
    ends = shipped if isinstance(shipped, list) else [] if shipped is None else [shipped]
    return sorted({tokenizer.eos_token_id, *ends})


def forward(model: Any, ids: torch.Tensor, mask: torch.Tensor, **extra: Any) -> Any:
    """One pass over a padded batch, with positions counted from the first real token where the model takes
    them.
    """
    target = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not has_virtual_tokens(model) and "position_ids" in inspect.signature(target.forward).parameters:
        extra["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    return model(input_ids=ids, attention_mask=mask, use_cache=False, **extra)


def response_logits(model: Any, written: Written) -> torch.Tensor:
    """Float32 logits [B, T, V] that each response token was drawn from."""
    width = written.response_mask.shape[1]
    if has_virtual_tokens(model) and (written.mask[:, 0] == 0).any():
        rows = [slice(row, row + 1) for row in range(len(written.ids))]
        return torch.cat([response_logits(model, unpadded(written, row)) for row in rows])
    logits = forward(model, written.ids, written.mask, logits_to_keep=width + 1).logits
    return logits[:, -width - 1 : -1].float()


def unpadded(written: Written, row: slice) -> Written:
    """One row without the padding before its prompt."""
    start = int(written.mask[row][0].argmax())
    return Written(
        written.ids[row, start:],
        written.mask[row, start:],
        written.response_mask[row],
        written.finished[row],
    )


@torch.no_grad()
def exact_kl(model: Any, reference: Any, written: Written) -> list[float]:
    """KL(model || reference) in nats over the whole vocabulary, summed over each response's tokens."""
    log_p = response_logits(model, written).log_softmax(-1)
    log_q = response_logits(reference, written).log_softmax(-1)
    per_token = (log_p.exp() * (log_p - log_q)).sum(-1)
    return (per_token * written.response_mask).sum(1).tolist()


def score_conversations(
    model: Any, tokenizer: Any, conversations: list[Messages], room: int, batch_size: int = 32
) -> list[float]:
    """The reward model's (first) score of each conversation, which ends with the response; cut from the
    left to `room`.
    """
    scores: list[float] = score_outputs(model, tokenizer, conversations, room, batch_size)[:, 0].tolist()
    return scores


@torch.no_grad()
def score_outputs(
    model: Any, tokenizer: Any, conversations: list[Messages], room: int, batch_size: int = 32
) -> torch.Tensor:
    """Every output [N, L] of a reward model for each conversation, in float32 on the CPU."""
    encoded = [encode_chat(tokenizer, conversation)[-room:] for conversation in conversations]
    training = model.training
    model.eval()
    scores: list[torch.Tensor] = []
    for start in range(0, len(encoded), batch_size):
        batch = encoded[start : start + batch_size]
        width = max(len(ids) for ids in batch)
        ids = [row + [tokenizer.pad_token_id] * (width - len(row)) for row in batch]
        mask = [[1] * len(row) + [0] * (width - len(row)) for row in batch]
        output = model(
            input_ids=torch.tensor(ids, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            use_cache=False,
        )
        scores.append(output.logits.float().cpu())
    model.train(training)
    return torch.cat(scores) if scores else torch.empty(0, 1)


def derive_seed(*parts: object) -> int:
    """A seed that is a function of the parts, and unlike that of any other parts."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:7], "big")


def answer(messages: Messages, text: str) -> Messages:
    return [*messages, {"role": "assistant", "content": text}]


def emit_probes(run: Run, model: Any, tokenizer: Any, room: int, step: int, phase: str) -> None:
    """Answer the spec's probe prompts and emit them as a `samples` event; the same seed in every phase."""
    probes: Probes | None = getattr(run.spec, "probes", None)
    if probes is None:
        return
    rows = read_prompts(run.directory / probes.prompts)[: probes.count]
    sampling = Sampling(probes.max_new_tokens, probes.temperature)
    encode = prompt_encoder(tokenizer, max(room - probes.max_new_tokens, 1))
    written = write_responses(model, tokenizer, [encode(row.prompt) for row in rows], sampling, run.spec.seed)
    pairs = zip(rows, written.texts(tokenizer), strict=True)
    samples = [{"prompt": row.prompt, "response": text} for row, text in pairs]
    run.emit("samples", step=step, phase=phase, rows=samples)
