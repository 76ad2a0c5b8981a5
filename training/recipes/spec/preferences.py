"""Fine-tuning on preferences directly, without a reward model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from training.recipes.spec.parts import Probes, setting
from training.recipes.spec.sources import DPO_PAPER
from training.recipes.spec.supervised import SupervisedSpec


class DpoSpec(SupervisedSpec):
    """Direct preference optimisation: fine-tune on preferences without a reward model."""

    recipe: Literal["dpo"]
    learning_rate: float = setting(
        1e-6, "Peak step size of AdamW.", source=f"{DPO_PAPER}, app. B", gt=0, le=1
    )
    beta: float = setting(
        0.1, "How strongly the model is held to its start.", source=f"{DPO_PAPER}, app. B", gt=0, le=100
    )
    loss_type: Literal["sigmoid", "ipo", "hinge", "robust", "exo_pair", "apo_zero"] = setting(
        "sigmoid", "sigmoid is the paper's loss; robust expects wrong labels; ipo does not saturate."
    )
    label_smoothing: float = setting(
        0.0, "Expected share of wrong labels, for robust and exo_pair.", unit="share", ge=0, lt=0.5
    )
    sft_weight: float = setting(
        0.0,
        "Weight of the mean negative log-likelihood of the better response in the loss: keeps it likely "
        "where a plain preference loss may push both responses down.",
        source="0.2 in Llama 3, arXiv 2407.21783, sec. 4.1.4; 1 in arXiv 2404.19733",
        ge=0,
        le=100,
    )
    precompute_reference: bool = setting(True, "Score the reference once, before training: faster.")
    probes: Probes | None = setting(None, "Prompts answered before and after training.")

    @model_validator(mode="after")
    def check_smoothing(self) -> Self:
        if self.label_smoothing > 0 and self.loss_type not in ("robust", "exo_pair"):
            raise ValueError(
                "label_smoothing: only robust and exo_pair use it; set it to 0 or the loss_type to robust"
            )
        if self.loss_type == "exo_pair" and self.label_smoothing == 0:
            raise ValueError("label_smoothing: exo_pair needs it above 0, for example 0.001")
        return self
