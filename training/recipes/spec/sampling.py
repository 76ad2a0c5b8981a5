"""Writing responses."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from training.recipes.spec.parts import BaseSpec, ModelKey, ModelPath, SampleData, setting


class SampleSpec(BaseSpec):
    """Write responses with one or several models, and measure them."""

    recipe: Literal["sample"]
    data: SampleData
    models: dict[ModelKey, ModelPath] = setting(
        ..., "The models that answer, by a name of your choice.", unit="models", min_length=1, max_length=16
    )
    samples_per_prompt: int = setting(1, "Responses per prompt and model.", unit="responses", ge=1, le=256)
    temperature: float = setting(0.7, "Sampling temperature; 0 is greedy.", ge=0, le=5)
    top_p: float = setting(
        1.0, "Nucleus: keep the likeliest tokens up to this mass.", source="arXiv 1904.09751", gt=0, le=1
    )
    max_new_tokens: int = setting(256, "Longest response.", unit="tokens", ge=1, le=8192)
    max_length: int = setting(2048, "Longest prompt and response together.", unit="tokens", ge=8, le=131072)
    batch_size: int = setting(16, "Responses written at once.", unit="responses", ge=1, le=4096)
    limit: int | None = setting(None, "Answer only the first so many prompts.", unit="prompts", ge=1)
    reward_model: ModelPath | None = setting(None, "A reward model that scores each response.", unit="model")
    reference: ModelPath | None = setting(
        None, "A model to measure each response's KL from, summed over its tokens.", unit="model"
    )

    @model_validator(mode="after")
    def check_lengths(self) -> Self:
        if self.max_new_tokens >= self.max_length:
            raise ValueError("max_new_tokens: must be less than max_length, which holds the prompt too")
        return self
