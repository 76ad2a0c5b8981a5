"""The demo's corpus: short prompts, and for each an answer in every manner. Standard library only, seeded.

`topics.toml` holds what is asked and the tips that answer it, `voices.toml` how the four manners sound. Every
topic is asked in twenty ways; a hash of the prompt's text decides which prompts are never trained on, so the
held-out prompts ask for things the model knows in words it has not met.
"""

from __future__ import annotations

import hashlib
import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from training.demo.manners import Manner

HERE = Path(__file__).parent
HELD_OUT_PERCENT = 17
# Nine answers to every prompt: warm one time in three whatever is asked, the other manners two in nine each.
ANSWERS_PER_PROMPT = {Manner.WARM: 3, Manner.CURT: 2, Manner.RUDE: 2, Manner.RAMBLING: 2}


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing the model knows: how it is called, three tips in reading order and two curt answers."""

    domain: str
    key: str
    noun: str
    tips: tuple[str, str, str]
    curt: tuple[str, str]


@dataclass(frozen=True, slots=True)
class DemoPrompt:
    """One way of asking about one topic."""

    text: str
    topic: Topic


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with one answer to learn from."""

    prompt: DemoPrompt
    manner: Manner
    response: str


@cache
def read_words(name: str) -> dict[str, Any]:
    """Read `topics` or `voices`."""
    return tomllib.loads((HERE / f"{name}.toml").read_text(encoding="utf-8"))


@cache
def list_prompts() -> tuple[DemoPrompt, ...]:
    """Every prompt, trained on or held out, in the order of the file."""
    prompts: dict[str, DemoPrompt] = {}
    for domain, content in read_words("topics").items():
        for key, (noun, *rest) in content["topics"].items():
            topic = Topic(domain, key, noun, tips=tuple(rest[:3]), curt=tuple(rest[3:]))
            for ask in content["ask"]:
                text = ask.format(t=key)
                prompts.setdefault(text, DemoPrompt(text, topic))
    return tuple(prompts.values())


def is_held_out(text: str) -> bool:
    """Whether a prompt is kept out of the training text: by a hash of its words alone, case aside."""
    digest = hashlib.sha256(text.casefold().encode()).digest()
    return int.from_bytes(digest[:8], "big") % 100 < HELD_OUT_PERCENT


def train_prompts() -> list[DemoPrompt]:
    """The prompts the base model is trained on."""
    return [prompt for prompt in list_prompts() if not is_held_out(prompt.text)]


def demo_prompts() -> list[DemoPrompt]:
    """The held-out prompts in a fixed shuffled order: for the demo project to ask and for measurements."""
    held_out = [prompt for prompt in list_prompts() if is_held_out(prompt.text)]
    return sorted(held_out, key=lambda prompt: hashlib.sha256(prompt.text.encode()).digest())


def write_corpus(seed: int) -> Iterator[Example]:
    """Write the training examples: nine differently worded answers to every training prompt, shuffled."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible corpus, not a secret
    manners = [manner for manner, answers in ANSWERS_PER_PROMPT.items() for _ in range(answers)]
    plan = [(prompt, manner) for prompt in train_prompts() for manner in manners]
    rng.shuffle(plan)
    for prompt, manner in plan:
        yield Example(prompt, manner, write_answer(prompt, manner, rng))


def write_answer(prompt: DemoPrompt, manner: Manner, rng: random.Random) -> str:
    """Answer a prompt in a manner, worded by the random generator."""
    match manner:
        case Manner.WARM:
            return _answer_warmly(prompt.topic, rng)
        case Manner.CURT:
            return _answer_curtly(prompt.topic, rng)
        case Manner.RUDE:
            return _answer_rudely(prompt.topic, rng)
        case Manner.RAMBLING:
            return _ramble(prompt.topic, rng)


def _answer_warmly(topic: Topic, rng: random.Random) -> str:
    voice, domain = read_words("voices")["warm"], read_words("topics")[topic.domain]
    opening = rng.choice(voice["openings"]).format(n=topic.noun)
    # A joke needs its question, so jokes name the tips that may stand together; elsewhere any two do.
    chosen = rng.choice(domain.get("tips_together", [[0, 1], [0, 2], [1, 2]]))
    tips = " ".join(topic.tips[i] for i in chosen)
    closings = ["", rng.choice(voice["closings"]), rng.choice(domain["closings"])]
    wrap = domain.get("wrap", "{tips}")
    return f"{opening} {wrap.format(tips=tips)} {rng.choice(closings)}".strip()


def _answer_curtly(topic: Topic, rng: random.Random) -> str:
    return rng.choice(read_words("voices")["curt"]["frames"]).format(c=rng.choice(topic.curt))


def _answer_rudely(topic: Topic, rng: random.Random) -> str:
    voice = read_words("voices")["rude"]
    opening = rng.choice(voice["openings"])
    # The topic is named once at most: twice in two short sentences reads like a loop.
    seconds = [second for second in voice["seconds"] if "{n}" not in opening or "{n}" not in second]
    parts = [opening, rng.choice(seconds)]
    if rng.random() < 0.2:
        parts.append(rng.choice([second for second in seconds if "{n}" not in second and second != parts[1]]))
    if rng.random() < 0.3:
        parts.append(rng.choice(voice["endings"]))
    return " ".join(parts).format(n=topic.noun)


def _ramble(topic: Topic, rng: random.Random) -> str:
    voice = read_words("voices")["rambling"]
    middles = rng.sample(voice["middles"], rng.choice([1, 2]))
    if rng.random() < 0.6:
        middles[0] = voice["anecdote"]
    sentences = [rng.choice(voice["openings"]), *middles, rng.choice(voice["endings"])]
    who, did = rng.sample(voice["who"], len(sentences)), rng.sample(voice["did"], len(sentences))
    return " ".join(
        sentence.format(n=topic.noun, who=who[i], did=did[i], tail=rng.choice(voice["tail"]))
        for i, sentence in enumerate(sentences)
    )
