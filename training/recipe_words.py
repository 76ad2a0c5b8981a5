"""What the recipes are called, for people."""

from __future__ import annotations

from django.utils.translation import gettext, gettext_noop

# What a person can start; `sample` is queued by evaluations and by requests for responses.
TRAINABLE = (
    "reward",
    "reward_ranking",
    "reward_rating",
    "dpo",
    "kto",
    "orpo",
    "simpo",
    "ppo",
    "rloo",
    "grpo",
    "online_dpo",
    "rejection",
    "sft",
)
RECIPE_WORDS = {
    "reward": (
        gettext_noop("Reward model"),
        gettext_noop("Learns from the preferences to score a response. PPO needs one."),
    ),
    "reward_ranking": (
        gettext_noop("Reward model from rankings"),
        gettext_noop(
            "Learns from all the pairs of each ranking at once; single comparisons count as rankings of two."
        ),
    ),
    "reward_rating": (
        gettext_noop("Reward model from ratings"),
        gettext_noop("Learns to predict the ratings of single responses."),
    ),
    "dpo": (
        gettext_noop("DPO"),
        gettext_noop("Fine-tunes the policy on the preferences directly, without a reward model."),
    ),
    "kto": (
        gettext_noop("KTO"),
        gettext_noop("Fine-tunes the policy on single responses that were good or not; needs no pairs."),
    ),
    "orpo": (
        gettext_noop("ORPO"),
        gettext_noop("Imitates the better responses and moves away from the others, without a reference."),
    ),
    "simpo": (
        gettext_noop("SimPO"),
        gettext_noop("Makes the better responses likelier per token, by a margin, without a reference."),
    ),
    "ppo": (
        gettext_noop("PPO"),
        gettext_noop(
            "The policy writes responses, the reward model scores them, the policy follows the score."
        ),
    ),
    "rloo": (
        gettext_noop("RLOO"),
        gettext_noop("Like PPO without a value model: responses to one prompt are compared with each other."),
    ),
    "grpo": (
        gettext_noop("GRPO"),
        gettext_noop("Like RLOO, with each group of responses scaled by its own spread."),
    ),
    "online_dpo": (
        gettext_noop("Online DPO"),
        gettext_noop("DPO on pairs of fresh responses, which the reward model puts in order."),
    ),
    "rejection": (
        gettext_noop("Rejection sampling"),
        gettext_noop("Answers each prompt many times, keeps the best by reward, and imitates those."),
    ),
    "sft": (gettext_noop("SFT"), gettext_noop("Imitates the responses that raters preferred.")),
    "sample": (gettext_noop("Sampling"), gettext_noop("Writes responses with one or several models.")),
}


def recipe_title(recipe: str) -> str:
    """What a recipe does, in a word or two; its name for one that is not known."""
    return gettext(RECIPE_WORDS[recipe][0]) if recipe in RECIPE_WORDS else recipe


def recipe_purpose(recipe: str) -> str:
    """What a recipe does, in a sentence; empty for one that is not known."""
    return gettext(RECIPE_WORDS[recipe][1]) if recipe in RECIPE_WORDS else ""
