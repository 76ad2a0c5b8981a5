"""Build the demo's base model: its tokenizer, its weights and the responses that are rated first.

    python -m training.demo.build_model --out DIR

Everything is seeded and the threads are pinned: on one machine the same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as ChatTokenizer

from training.demo.corpus import Example, demo_prompts, read_words, write_corpus
from training.demo.manners import Manner, classify_manner, is_broken

HERE = Path(__file__).parent
SEED = 20
THREADS = 1  # more gain little at this size, and one gives the same sums whatever else the machine does
# Room for every word of the corpus as one token: a slip is then a wrong word and not a misspelt one.
VOCABULARY = 4608
SPECIALS = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CONTEXT = 512
MAX_NEW_TOKENS = 120
PAIRS, SINGLES, LATER_PROMPTS = 130, 30, 300

EPOCHS = 2
BATCH = 32  # conversations a step
MATRIX_RATE = 0.02  # Muon's, for the layers' matrices
VECTOR_RATE = 1e-2  # AdamW's, for the embeddings and the norms
WARMUP_STEPS = 100
TYPICAL_WEIGHT = 30  # about what the tokens of one conversation weigh
PROMPT_WEIGHT = 0.1  # the question's tokens teach a little too; the answer's weigh 1

Row = tuple[list[int], list[float]]  # token ids and the loss weight of each


def train_tokenizer(examples: list[Example]) -> ChatTokenizer:
    """Train a byte-level BPE tokenizer: any Unicode text survives it, whatever the corpus had."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator((f"{example.prompt.text}\n{example.response}" for example in examples), trainer)
    pad, end, *roles = SPECIALS
    return ChatTokenizer(
        tokenizer_object=core,
        pad_token=pad,
        eos_token=end,
        additional_special_tokens=roles,
        chat_template=(HERE / "chat_template.jinja").read_text(encoding="utf-8").strip(),
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: ChatTokenizer) -> LlamaForCausalLM:
    """Make the untrained model, about a million parameters with input and output embeddings tied."""
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=None,
        **ends,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=MAX_NEW_TOKENS, **ends
    )
    return model


def encode_examples(examples: list[Example], tokenizer: ChatTokenizer, rng: random.Random) -> list[Row]:
    """Render each example as a conversation; one in ten gets a system message, one in ten an earlier turn."""
    system_prompts = read_words("voices")["system"]["prompts"]
    rows = []
    for example in examples:
        messages = []
        if rng.random() < 0.1:
            messages.append({"role": "system", "content": rng.choice(system_prompts)})
        turns = [rng.choice(examples), example] if rng.random() < 0.1 else [example]
        for turn in turns:
            messages.append({"role": "user", "content": turn.prompt.text})
            messages.append({"role": "assistant", "content": turn.response})
        encoded = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
        weights = [1.0 if answered else PROMPT_WEIGHT for answered in encoded["assistant_masks"]]
        rows.append((encoded["input_ids"], weights))
    return rows


def make_batches(
    rows: list[Row], pad: int, rng: random.Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batch rows of like length, in random order: token ids and loss weights, both [batch, length]."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + rng.uniform(0, 4))
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    rng.shuffle(batches)
    for batch in batches:
        length = max(len(rows[i][0]) for i in batch)
        ids = [rows[i][0] + [pad] * (length - len(rows[i][0])) for i in batch]
        weights = [rows[i][1] + [0.0] * (length - len(rows[i][1])) for i in batch]
        yield torch.tensor(ids), torch.tensor(weights)


def weighted_loss(logits: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted cross-entropy of the next tokens in nats; logits are [batch, length, vocabulary].

    Divided by a constant and not by the batch's weight: batches hold rows of like length, and a mean would
    make the first word of a short answer, which settles the manner, count for more than that of a long one.
    """
    losses = cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return (losses * weights[:, 1:].flatten()).sum() / (BATCH * TYPICAL_WEIGHT)


def rate_factor(step: int, steps: int) -> float:
    """The share of the peak learning rate: up linearly, then down along a cosine to zero."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / (steps - WARMUP_STEPS)))


def make_optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, which learns in fewer steps than AdamW, and AdamW for the rest."""
    matrices = [
        parameter for layer in model.model.layers for parameter in layer.parameters() if parameter.ndim == 2
    ]
    chosen = {id(parameter) for parameter in matrices}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=MATRIX_RATE, momentum=0.95, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=VECTOR_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def train_model(model: LlamaForCausalLM, rows: list[Row], pad: int, rng: random.Random) -> None:
    """Train in place, `EPOCHS` times over the rows."""
    optimizers = make_optimizers(model)
    steps = EPOCHS * math.ceil(len(rows) / BATCH)
    schedules = [LambdaLR(optimizer, lambda step: rate_factor(step, steps)) for optimizer in optimizers]
    step, started = 0, time.monotonic()
    model.train()
    for _ in range(EPOCHS):
        for ids, weights in make_batches(rows, pad, rng):
            loss = weighted_loss(model(input_ids=ids).logits, ids, weights)
            model.zero_grad(set_to_none=True)
            loss.backward()
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
            step += 1
            if step % 100 == 0:
                seconds = time.monotonic() - started
                print(f"step {step}/{steps} loss {loss.item():.3f} {seconds:.0f}s", flush=True)
    model.eval()


@torch.no_grad()
def sample_responses(
    model: LlamaForCausalLM, tokenizer: ChatTokenizer, prompts: list[str], seed: int
) -> list[str | None]:
    """Sample a response to each prompt at temperature 1.0; None where it did not end in `MAX_NEW_TOKENS`."""
    torch.manual_seed(seed)
    tokenizer.padding_side = "left"
    responses: list[str | None] = []
    for start in range(0, len(prompts), 64):
        conversations = [[{"role": "user", "content": text}] for text in prompts[start : start + 64]]
        inputs = tokenizer.apply_chat_template(
            conversations, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
        )
        output = model.generate(**inputs, generation_config=model.generation_config)
        for ids in output[:, inputs["input_ids"].shape[1] :].tolist():
            text = tokenizer.decode(ids, skip_special_tokens=True)
            responses.append(text if tokenizer.eos_token_id in ids else None)
    return responses


def collect_pairs(
    model: LlamaForCausalLM, tokenizer: ChatTokenizer, prompts: list[str], seed: int
) -> list[list[str]]:
    """Sample until each prompt has two different, finished, non-empty responses; nothing else is filtered."""
    pairs: list[list[str]] = [[] for _ in prompts]
    while wanting := [i for i, responses in enumerate(pairs) if len(responses) < 2]:
        sampled = sample_responses(model, tokenizer, [prompts[i] for i in wanting], seed)
        for i, response in zip(wanting, sampled, strict=True):
            if response and response.strip() and response not in pairs[i]:
                pairs[i].append(response)
        seed += 1
    return pairs


def write_demo_files(model: LlamaForCausalLM, tokenizer: ChatTokenizer, folder: Path, seed: int) -> None:
    """Write `responses.jsonl` (what the demo rates first) and `prompts.jsonl` (what it is asked later)."""
    prompts = [prompt.text for prompt in demo_prompts()]
    rated, later = prompts[: PAIRS + SINGLES], prompts[PAIRS + SINGLES :][:LATER_PROMPTS]
    sampling = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": MAX_NEW_TOKENS, "seed": seed}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "responses.jsonl").open("w", encoding="utf-8") as file:
        for i, responses in enumerate(collect_pairs(model, tokenizer, rated, seed)):
            row = {
                "prompt": [{"role": "user", "content": rated[i]}],
                "kind": "pair" if i < PAIRS else "single",
                "responses": responses,
                "sampling": sampling,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    with (folder / "prompts.jsonl").open("w", encoding="utf-8") as file:
        for text in later:
            file.write(json.dumps({"prompt": [{"role": "user", "content": text}]}, ensure_ascii=False) + "\n")


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """The 95% Wilson score interval of a share."""
    z, share = 1.959964, hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return centre - half, centre + half


def report_manners(model: LlamaForCausalLM, tokenizer: ChatTokenizer, seed: int) -> None:
    """Print what became of one response to every held-out prompt: shares with their 95% intervals."""
    prompts = demo_prompts()
    sampled = sample_responses(model, tokenizer, [prompt.text for prompt in prompts], seed)
    counts = Counter("none" if text is None else classify_manner(text) or "none" for text in sampled)
    shares = {name: (counts[name], len(prompts)) for name in (*Manner, "none")}
    shares["broken"] = (sum(text is None or is_broken(text) for text in sampled), len(prompts))
    warm = [(prompt, text) for prompt, text in zip(prompts, sampled, strict=True) if text]
    warm = [(prompt, text) for prompt, text in warm if classify_manner(text) is Manner.WARM]
    exact = sum(sum(tip in text for tip in prompt.topic.tips) >= 2 for prompt, text in warm)
    shares["warm with two tips of the topic, word for word"] = (exact, len(warm))
    for name, (hits, n) in shares.items():
        low, high = wilson_interval(hits, n)
        print(f"{hits / n:6.1%} [{low:.1%}, {high:.1%}] of {n}: {name}")


def build_model(out: Path, seed: int) -> None:
    """Train the tokenizer and the model, both seeded, and save them to `out` in half precision."""
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    rng = random.Random(seed)  # noqa: S311 - a reproducible corpus, not a secret
    examples = list(write_corpus(seed))
    tokenizer = train_tokenizer(examples)
    model = make_model(tokenizer)
    rows = encode_examples(examples, tokenizer, rng)
    tokens = sum(len(ids) for ids, _ in rows)
    print(f"{model.num_parameters():,} parameters, {len(rows):,} examples, {tokens:,} tokens", flush=True)
    train_model(model, rows, tokenizer.pad_token_id, rng)
    model.to(torch.float16).save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    """Build the model, then sample from the saved files what the demo project starts with."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(description="Build the demo's base model and its first responses.")
    parser.add_argument("--out", type=Path, default=HERE / "model", help="the model's directory")
    parser.add_argument("--responses", type=Path, default=HERE, help="where the two JSONL files go")
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    build_model(args.out, args.seed)
    built = time.monotonic() - started
    model = LlamaForCausalLM.from_pretrained(args.out, dtype=torch.float32).eval()
    tokenizer = ChatTokenizer.from_pretrained(args.out)
    write_demo_files(model, tokenizer, args.responses, args.seed)
    report_manners(model, tokenizer, args.seed)
    size = sum(file.stat().st_size for file in args.out.iterdir())
    print(f"{size / 1e6:.2f} MB, built in {built:.0f} s, {time.monotonic() - started:.0f} s with the samples")


if __name__ == "__main__":
    main()
