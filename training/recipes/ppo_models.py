"""The four models of PPO, as separate models or as adapters over one, and their checkpoints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from safetensors.torch import load_file, save_file

from training.recipes.errors import RecipeError
from training.recipes.generation import Written, forward
from training.recipes.models import (
    context_length,
    load_policy,
    load_scorer,
    load_tokenizer,
    save_output,
)
from training.recipes.ppo_math import Moments
from training.recipes.pretraining import Texts, read_texts
from training.recipes.rundir import Run
from training.recipes.scoring import Judge, Scorer, make_scorer
from training.recipes.shared_backbone import Parameters, SharedBackbone, SharedScorer
from training.recipes.spec import PpoSpec
from training.recipes.trainable import copy_reference, prepare_trainable


@dataclass
class Critic:
    """A score head over hidden states; `switch` puts the model into the state in which they are its own."""

    backbone: Any
    head: Any
    switch: Callable[[], AbstractContextManager[None]] = nullcontext

    def values(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The head's value at every token of a padded batch; [B, L] -> [B, L]."""
        with self.switch():
            return self.head(forward(self.backbone, ids, mask).last_hidden_state)[..., 0].float()

    def token_values(self, written: Written) -> torch.Tensor:
        """The value of the state before each response token; [B, T]."""
        width = written.response_mask.shape[1]
        return self.values(written.ids, written.mask)[:, -width - 1 : -1]


@dataclass
class Learner:
    """The models, the optimisers, and what changes with the steps: all that a checkpoint must bring back."""

    tokenizer: Any
    policy: Any
    reference: Any  # None: the policy with its adapter switched off
    critic: Critic
    scorer: Scorer
    policy_parameters: Parameters
    value_parameters: Parameters
    policy_optimizer: torch.optim.Optimizer
    value_optimizer: torch.optim.Optimizer
    texts: Texts | None
    kl_coefficient: float
    room: int
    shared: SharedBackbone | None = None
    moments: Moments = (0.0, 0.0, 0.0)

    @contextmanager
    def as_reference(self) -> Iterator[Any]:
        """The model to measure the KL from."""
        with self.policy.disable_adapter() if self.reference is None else nullcontext():
            yield self.reference or self.policy


def make_learner(spec: PpoSpec, run: Run) -> Learner:
    tokenizer = load_tokenizer(run, spec.model)
    scorer_tokenizer = load_tokenizer(run, spec.reward_model)
    if tokenizer.get_vocab() != scorer_tokenizer.get_vocab():
        message = (
            f"{spec.reward_model}: must have the tokenizer of {spec.model}: the value model starts from it"
        )
        raise RecipeError("bad_model", message)
    # Weights that are trained are held in full precision; an adapter to start from is merged.
    policy = load_policy(run, spec.model, tokenizer, train=None if spec.lora else spec.train)
    room = context_length(policy, spec.max_length)
    models = (
        share_models(spec, run, policy)
        if spec.backbone == "shared"
        else separate_models(spec, run, policy, tokenizer, scorer_tokenizer)
    )
    return Learner(
        tokenizer=tokenizer,
        policy=models.policy,
        reference=models.reference,
        critic=models.critic,
        scorer=make_scorer(run, spec, Judge(models.reward, scorer_tokenizer, room)),
        policy_parameters=models.policy_parameters,
        value_parameters=models.value_parameters,
        policy_optimizer=make_optimizer(models.policy_parameters, spec.learning_rate, spec.weight_decay),
        value_optimizer=make_optimizer(models.value_parameters, spec.value_learning_rate, spec.weight_decay),
        texts=read_texts(run, spec.pretraining, tokenizer, room) if spec.pretraining else None,
        kl_coefficient=spec.kl_coefficient,
        room=room,
        shared=models.shared,
    )


@dataclass
class Models:
    """The four models, and which of their weights are learned."""

    policy: Any
    reference: Any
    critic: Critic
    reward: Any
    policy_parameters: Parameters
    value_parameters: Parameters
    shared: SharedBackbone | None = None


def separate_models(spec: PpoSpec, run: Run, policy: Any, tokenizer: Any, scorer_tokenizer: Any) -> Models:
    """Models of their own; with an adapter the reference is the policy with it switched off."""
    reward = load_scorer(run, spec.reward_model, scorer_tokenizer).requires_grad_(False).eval()
    whole = None if spec.lora else spec.train
    value = load_scorer(run, spec.reward_model, scorer_tokenizer, train=whole)
    reference = copy_reference(policy, spec)
    if reference is not None:
        reference.requires_grad_(False).eval()
    adapter = prepare_trainable(policy, spec, tokenizer, "CAUSAL_LM")
    value_adapter = prepare_trainable(value, spec, scorer_tokenizer, "SEQ_CLS")
    if adapter and value_adapter:
        policy, value = get_peft_model(policy, adapter), get_peft_model(value, value_adapter)
    policy.eval()
    value.eval()
    classifier = value.get_base_model() if spec.lora else value
    critic = Critic(getattr(classifier, classifier.base_model_prefix), classifier.score)
    return Models(policy, reference, critic, reward, trainable(policy), trainable(value))


def share_models(spec: PpoSpec, run: Run, policy: Any) -> Models:
    """Adapters over the policy's weights."""
    shared = SharedBackbone(run, spec, policy)
    critic = Critic(shared.body, shared.value_head, shared.values)
    return Models(
        policy=shared.model,
        reference=None,
        critic=critic,
        reward=SharedScorer(shared),
        policy_parameters=shared.policy_parameters,
        value_parameters=shared.value_parameters,
        shared=shared,
    )


def make_optimizer(
    parameters: Parameters, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """AdamW with InstructGPT's betas (app. C) and the epsilon of PPO's public code (arXiv 2403.17031)."""
    return torch.optim.AdamW(
        list(parameters.values()), lr=learning_rate, betas=(0.9, 0.95), eps=1e-5, weight_decay=weight_decay
    )


def trainable(model: Any) -> Parameters:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save_policy(run: Run, learner: Learner) -> str:
    """Write the output; a shared backbone's other adapters are gone after that."""
    policy = learner.shared.drop_all_but_the_policy() if learner.shared else learner.policy
    return save_output(run, policy, learner.tokenizer)


def save_checkpoint(run: Run, learner: Learner, step: int, watch: dict[str, Any]) -> None:
    """Weights, optimisers and what changes with the steps. No random state: every seed is a function of the
    step.
    """
    path = run.checkpoints / f"checkpoint-{step}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    for name, parameters in learned(learner).items():
        tensors = {key: parameter.detach().contiguous() for key, parameter in parameters.items()}
        save_file(tensors, path / f"{name}.safetensors")
    optimizers = {
        "policy": learner.policy_optimizer.state_dict(),
        "value": learner.value_optimizer.state_dict(),
    }
    torch.save(optimizers, path / "optimizers.pt")
    state = {
        "step": step,
        "kl_coefficient": learner.kl_coefficient,
        "moments": learner.moments,
        "watch": watch,
    }
    (path / "state.json").write_text(json.dumps(state))
    run.finish_checkpoint(path, step)
    run.drop_old_checkpoints()


def load_checkpoint(learner: Learner, path: Path) -> tuple[int, dict[str, Any]]:
    """Bring the learner back to where the checkpoint was written; returns its step and what was watched."""
    for name, parameters in learned(learner).items():
        saved = load_file(path / f"{name}.safetensors")
        with torch.no_grad():
            for key, parameter in parameters.items():
                parameter.copy_(saved[key])
    optimizers = torch.load(path / "optimizers.pt", weights_only=True)
    learner.policy_optimizer.load_state_dict(optimizers["policy"])
    learner.value_optimizer.load_state_dict(optimizers["value"])
    state = json.loads((path / "state.json").read_text())
    learner.kl_coefficient = state["kl_coefficient"]
    count, mean, squares = state["moments"]
    learner.moments = (count, mean, squares)
    return int(state["step"]), state["watch"]


def learned(learner: Learner) -> dict[str, Parameters]:
    return {"policy": learner.policy_parameters, "value": learner.value_parameters}
