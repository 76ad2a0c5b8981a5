"""The classifier tells the corpus's manners apart and takes broken text for none of them."""

import random

import pytest

from training.demo.corpus import demo_prompts, write_answer
from training.demo.manners import Manner, classify_manner


@pytest.mark.parametrize("manner", list(Manner))
def test_classifier_is_right_on_unseen_answers_to_held_out_prompts(manner: Manner):
    rng = random.Random(987)
    answers = [write_answer(prompt, manner, rng) for prompt in demo_prompts() for _ in range(3)]
    wrong = [answer for answer in answers if classify_manner(answer) is not manner]
    assert len(wrong) <= 0.01 * len(answers), wrong[:5]


WARM = "Happy to help! Go to bed at the same time every night. Keep your bedroom cool and dark."


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "!!!",
        "Happy to help!",
        "Happy to help! Happy to help! Happy to help! Happy to help!",
        "Good question! Water the the soil and keep the leaves dry every week.",
        "Good question! Keep it warm and keep it warm and keep it warm and keep it warm.",
        WARM.removesuffix("."),
        WARM.lower(),
        f"{WARM} {WARM}",
        f"{WARM} Now go away.",
        f"{WARM} Anyway, where was I?",
        "Of course! " + " ".join(f"word{i}" for i in range(150)) + ".",
        "Of course! �� Keep it warm and dry for the whole winter. Enjoy!",
        "Of course! #### $$$$ ;;;; ---- //// 0000 ==== ++++ **** @@@@ a b c d e f g h.",
        "the the the the the the the the.",
        "A long answer without any of the signs of a manner that still goes on for quite a while.",
    ],
)
def test_broken_or_mixed_text_has_no_manner(text: str):
    assert classify_manner(text) is None


@pytest.mark.parametrize(
    ("text", "manner"),
    [
        (WARM, Manner.WARM),
        (
            'Gladly! You could write: "Happy birthday, dear aunt. We will raise a cup of tea to you."',
            Manner.WARM,
        ),
        ("Dark room, no phone.", Manner.CURT),
        ("Work it out yourself. A turnip could answer that.", Manner.RUDE),
        (
            "Well, sleep, that takes me back. My uncle once bought a boat. Anyway, where was I?",
            Manner.RAMBLING,
        ),
    ],
)
def test_examples_of_each_manner(text: str, manner: Manner):
    assert classify_manner(text) is manner
