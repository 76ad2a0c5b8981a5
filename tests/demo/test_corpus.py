"""The demo's corpus: the same every time, wide enough, and with held-out prompts that stay out of it."""

from collections import Counter

import pytest

from training.demo.corpus import (
    DemoPrompt,
    demo_prompts,
    is_held_out,
    list_prompts,
    read_words,
    train_prompts,
    write_corpus,
)
from training.demo.manners import Manner


def test_corpus_is_the_same_for_the_same_seed_and_another_for_another():
    first, again, other = list(write_corpus(3)), list(write_corpus(3)), list(write_corpus(4))
    assert first == again
    assert first != other


def test_held_out_prompts_are_many_and_never_in_the_training_text():
    held_out = {prompt.text.casefold() for prompt in demo_prompts()}
    trained = {example.prompt.text.casefold() for example in write_corpus(3)}
    assert len(held_out) >= 400
    assert len(trained) >= 3000
    assert not held_out & trained
    answers = "\n".join(example.response.casefold() for example in write_corpus(3))
    assert not [text for text in held_out if text in answers]


def test_prompts_are_distinct_and_each_is_on_one_side():
    texts = [prompt.text for prompt in list_prompts()]
    assert len(texts) == len(set(texts))
    assert len(train_prompts()) + len(demo_prompts()) == len(texts)
    assert all(is_held_out(prompt.text) for prompt in demo_prompts())


def test_every_topic_is_trained_on():
    assert {prompt.topic for prompt in demo_prompts()} <= {prompt.topic for prompt in train_prompts()}


def test_manner_does_not_depend_on_the_prompt():
    by_prompt: dict[str, Counter[Manner]] = {}
    for example in write_corpus(3):
        by_prompt.setdefault(example.prompt.text, Counter())[example.manner] += 1
    mixes = {tuple(sorted(mix.items())) for mix in by_prompt.values()}
    assert mixes == {((Manner.CURT, 2), (Manner.RAMBLING, 2), (Manner.RUDE, 2), (Manner.WARM, 3))}


def test_warm_answers_hold_two_tips_of_the_topic():
    warm = [example for example in write_corpus(3) if example.manner is Manner.WARM]
    assert all(sum(tip in example.response for tip in example.prompt.topic.tips) >= 2 for example in warm)


def test_answers_are_short_and_in_varied_words():
    lengths = {Manner.WARM: 45, Manner.CURT: 10, Manner.RUDE: 35, Manner.RAMBLING: 75}
    for example in write_corpus(3):
        assert 1 <= len(example.response.split()) <= lengths[example.manner], example.response
    assert len({example.response for example in write_corpus(3)}) > 20_000


@pytest.mark.parametrize("domain", sorted(read_words("topics")))
def test_topics_are_whole(domain: str):
    for key, words in read_words("topics")[domain]["topics"].items():
        assert len(words) == 6, f"{key}: a noun, three tips and two curt answers are wanted"
        assert all(text[-1] in ".?!" and text[0].isupper() for text in words[1:]), key


def test_prompts_are_immutable():
    prompt = list_prompts()[0]
    assert isinstance(prompt, DemoPrompt)
    with pytest.raises(AttributeError):
        prompt.text = "other"  # type: ignore[misc]
