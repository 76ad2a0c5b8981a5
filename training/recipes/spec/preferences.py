"""Fine-tuning on preferences directly, without a reward model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from training.recipes.spec.parts import Probes, setting
from training.recipes.spec.sources import DPO_PAPER
from training.recipes.spec.supervised import SupervisedSpec

KTO_PAPER = "KTO, arXiv 2402.01306"
ORPO_PAPER = "ORPO, arXiv 2403.07691"
SIMPO_PAPER = "SimPO, arXiv 2405.14734"
ODPO_PAPER = "ODPO, arXiv 2402.10571"
TIES_PAPER = "DPO-D and DPO-RK, arXiv 2409.17431"
NOISY = ("cdpo", "robust", "exo_pair")


class DpoSpec(SupervisedSpec):
    """Direct preference optimisation: fine-tune on preferences without a reward model."""

    recipe: Literal["dpo"]
    learning_rate: float = setting(
        1e-6, "Peak step size of AdamW.", source=f"{DPO_PAPER}, app. B", gt=0, le=1
    )
    beta: float = setting(
        0.1, "How strongly the model is held to its start.", source=f"{DPO_PAPER}, app. B", gt=0, le=100
    )
    loss_type: Literal[
        "sigmoid",
        "ipo",
        "hinge",
        "robust",
        "exo_pair",
        "apo_zero",
        "cdpo",
        "odpo",
        "davidson",
        "rao_kupper",
    ] = setting(
        "sigmoid",
        "sigmoid is the paper's loss; cdpo and robust expect wrong labels; ipo does not saturate; odpo asks "
        "more of stronger preferences; davidson and rao_kupper learn from ties too.",
        source=f"{DPO_PAPER}; {ODPO_PAPER}; {TIES_PAPER}",
    )
    label_smoothing: float = setting(
        0.0, "Expected share of wrong labels, for cdpo, robust and exo_pair.", unit="share", ge=0, lt=0.5
    )
    agreement: float | None = setting(
        None,
        "Share of pairs on which two raters agree, where it was measured: cdpo and robust then expect the "
        "share of wrong labels that it implies, (1 - sqrt(2A - 1)) / 2.",
        unit="share",
        gt=0.5,
        le=1,
    )
    margins: Literal["small", "large", "row"] = setting(
        "small",
        "What a preference is worth in odpo, from significantly to negligibly: small is 1, 2/3, 1/3, 0; "
        "large is 3, 2, 1, 0; row takes the row's own.",
    )
    offset_scale: float = setting(
        1.0, "odpo's offset is so many times what the preference is worth.", source=ODPO_PAPER, gt=0, le=100
    )
    tie_parameter: float | None = setting(
        None,
        "How likely ties are: Davidson's nu or Rao and Kupper's threshold in nats; null: 1 and log 3, with "
        "which half of the equal pairs are ties.",
        source=TIES_PAPER,
        gt=0,
        le=100,
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
        if self.label_smoothing > 0 and self.loss_type not in NOISY:
            raise ValueError(
                "label_smoothing: only cdpo, robust and exo_pair use it; "
                "set it to 0 or the loss_type to robust"
            )
        if self.loss_type == "exo_pair" and self.label_smoothing == 0:
            raise ValueError("label_smoothing: exo_pair needs it above 0, for example 0.001")
        if self.agreement is not None and self.loss_type not in ("cdpo", "robust"):
            raise ValueError("agreement: only cdpo and robust use it; leave it out or set the loss_type")
        if self.agreement is not None and self.label_smoothing > 0:
            raise ValueError("agreement: stands in place of label_smoothing; set one of the two")
        return self

    @model_validator(mode="after")
    def check_ties(self) -> Self:
        if self.tie_parameter is not None and not self.models_ties:
            raise ValueError("tie_parameter: only davidson and rao_kupper use it; leave it out")
        return self

    @property
    def models_ties(self) -> bool:
        return self.loss_type in ("davidson", "rao_kupper")


class KtoSpec(SupervisedSpec):
    """Kahneman-Tversky optimisation: fine-tune on single responses that were good or not."""

    recipe: Literal["kto"]
    learning_rate: float = setting(1e-6, "Peak step size of AdamW.", source=KTO_PAPER, gt=0, le=1)
    batch_size: int = setting(
        8,
        "Rows in one forward pass; the KL is estimated over them.",
        unit="rows",
        source=KTO_PAPER,
        ge=2,
        le=4096,
    )
    beta: float = setting(0.1, "How strongly the model is held to its start.", source=KTO_PAPER, gt=0, le=100)
    desirable_weight: float | None = setting(
        None,
        "Weight of the good responses; null: such that they count as much as the others together.",
        source=f"{KTO_PAPER}, eq. 8",
        gt=0,
        le=1000,
    )
    undesirable_weight: float = setting(
        1.0, "Weight of the other responses.", source=f"{KTO_PAPER}, eq. 8", gt=0, le=1000
    )
    precompute_reference: bool = setting(True, "Score the reference once, before training: faster.")
    probes: Probes | None = setting(None, "Prompts answered before and after training.")


class OrpoSpec(SupervisedSpec):
    """Odds ratio preference optimisation: imitation and preference in one loss, without a reference."""

    recipe: Literal["orpo"]
    learning_rate: float = setting(5e-6, "Peak step size of AdamW.", source=ORPO_PAPER, gt=0, le=1)
    beta: float = setting(
        0.1, "Weight of the odds ratio (the paper's lambda).", source=ORPO_PAPER, gt=0, le=100
    )
    probes: Probes | None = setting(None, "Prompts answered before and after training.")


class SimpoSpec(SupervisedSpec):
    """Simple preference optimisation: the mean log-probability per token is the reward, without a
    reference.
    """

    recipe: Literal["simpo"]
    learning_rate: float = setting(1e-6, "Peak step size of AdamW.", source=SIMPO_PAPER, gt=0, le=1)
    beta: float = setting(2.0, "Scale of the reward.", source=f"2 to 10 in {SIMPO_PAPER}", gt=0, le=1000)
    gamma_ratio: float = setting(
        0.5, "The margin that the reward must exceed, as a share of beta.", source=SIMPO_PAPER, ge=0, le=100
    )
    probes: Probes | None = setting(None, "Prompts answered before and after training.")
