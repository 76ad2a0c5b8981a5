"""Proximal policy optimisation of a language model against a reward model.

InstructGPT's recipe (arXiv 2203.02155, sec. 3.5): write responses, score them, take a KL penalty to the
starting model from every token, estimate advantages with GAE, and improve the policy and the value model with
clipped losses. The reference is the policy with its adapter switched off (or a frozen copy when every weight
is trained); the value model starts as the reward model. Dropout is off throughout, so that the ratio starts
at exactly 1.
"""

from __future__ import annotations

import copy
import json
import math
import shutil
import time
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from safetensors.torch import load_file, save_file

from training.recipes import ppo_math
from training.recipes.data import PromptRow, prompt_encoder, read_prompts
from training.recipes.errors import RecipeError
from training.recipes.generation import (
    Sampling,
    Written,
    answer,
    derive_seed,
    emit_probes,
    forward,
    response_logits,
    score_conversations,
    write_responses,
)
from training.recipes.models import (
    choose_device,
    context_length,
    count_parameters,
    load_policy,
    load_scorer,
    load_tokenizer,
    save_output,
)
from training.recipes.rundir import Outcome, Run
from training.recipes.spec import PpoSpec
from training.recipes.trainable import prepare_trainable


@dataclass
class Learner:
    """The four models, the optimisers, and the KL weight: all that a checkpoint must bring back."""

    tokenizer: Any
    policy: Any
    reference: Any  # None: the policy with its adapter switched off
    value: Any
    scorer: Any
    scorer_tokenizer: Any
    policy_optimizer: torch.optim.Optimizer
    value_optimizer: torch.optim.Optimizer
    kl_coefficient: float
    room: int

    def reference_logp(self, written: Written, temperature: float) -> torch.Tensor:
        context = self.policy.disable_adapter() if self.reference is None else nullcontext()
        with context:
            return token_logp(self.reference or self.policy, written, temperature)[0]


@dataclass
class Rollout:
    """A batch of scored responses: per-token tensors are [B, T], scores [B]."""

    written: Written
    logp: torch.Tensor
    values: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    scores: torch.Tensor
    kl: torch.Tensor


def train(spec: PpoSpec, run: Run) -> Outcome:
    learner = make_learner(spec, run)
    prompts = read_prompts(run.directory / spec.data.train)
    checkpoint = run.last_checkpoint()
    step = load_checkpoint(learner, checkpoint[1]) if checkpoint else 0
    run.started(spec.steps, step or None, choose_device(spec), count_parameters(learner.policy))
    if not step:
        emit_probes(run, learner.policy, learner.tokenizer, learner.room, 0, "before")
    metrics: dict[str, float] = {}
    cancelled = False
    while step < spec.steps and not cancelled:
        began = time.monotonic()
        rollout = roll_out(learner, spec, batch_of_prompts(prompts, spec, step), step)
        metrics = improve(learner, spec, rollout, step) | describe(rollout, learner, began)
        step += 1
        run.emit("progress", step=step, total_steps=spec.steps)
        report(run, spec, step, metrics)
        if spec.kl_budget is not None and metrics["kl"] > spec.kl_budget:
            message = (
                f"stopped at step {step}: KL {metrics['kl']:.2f} nats is above kl_budget {spec.kl_budget:g}"
            )
            run.emit("warning", message=message)
            break
        cancelled = step < spec.steps and run.cancel_requested()
        if cancelled or (step < spec.steps and step % spec.save_every == 0):
            save_checkpoint(run, learner, step)
    if not cancelled:
        emit_probes(run, learner.policy, learner.tokenizer, learner.room, step, "after")
    output = save_output(run, learner.policy, learner.tokenizer)
    return Outcome(step, spec.steps, cancelled, output, "policy", metrics)


def make_learner(spec: PpoSpec, run: Run) -> Learner:
    tokenizer = load_tokenizer(run, spec.model)
    scorer_tokenizer = load_tokenizer(run, spec.reward_model)
    if tokenizer.get_vocab() != scorer_tokenizer.get_vocab():
        message = (
            f"{spec.reward_model}: must have the tokenizer of {spec.model}: the value model starts from it"
        )
        raise RecipeError("bad_model", message)
    policy = load_policy(run, spec.model, tokenizer)
    room = context_length(policy, spec.max_length)
    scorer = load_scorer(run, spec.reward_model, scorer_tokenizer).requires_grad_(False)
    value = load_scorer(run, spec.reward_model, scorer_tokenizer)
    reference = None if spec.lora else copy.deepcopy(policy).requires_grad_(False).eval()
    adapter = prepare_trainable(policy, spec, tokenizer, "CAUSAL_LM")
    value_adapter = prepare_trainable(value, spec, scorer_tokenizer, "SEQ_CLS")
    if adapter and value_adapter:
        policy, value = get_peft_model(policy, adapter), get_peft_model(value, value_adapter)
    for model in (policy, value, scorer):
        model.eval()
    return Learner(
        tokenizer=tokenizer,
        policy=policy,
        reference=reference,
        value=value,
        scorer=scorer,
        scorer_tokenizer=scorer_tokenizer,
        policy_optimizer=make_optimizer(policy, spec.learning_rate, spec.weight_decay),
        value_optimizer=make_optimizer(value, spec.value_learning_rate, spec.weight_decay),
        kl_coefficient=spec.kl_coefficient,
        room=room,
    )


def make_optimizer(model: Any, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW with InstructGPT's betas (app. C) and the epsilon of PPO's public code (arXiv 2403.17031)."""
    parameters = list(trainable(model).values())
    return torch.optim.AdamW(
        parameters, lr=learning_rate, betas=(0.9, 0.95), eps=1e-5, weight_decay=weight_decay
    )


def trainable(model: Any) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def batch_of_prompts(prompts: list[PromptRow], spec: PpoSpec, step: int) -> list[PromptRow]:
    """The step's prompts: pass after pass over all of them, each pass in its own order; a function of the
    step.
    """
    batch = []
    for position in range(step * spec.rollout_batch_size, (step + 1) * spec.rollout_batch_size):
        turn, place = divmod(position, len(prompts))
        generator = torch.Generator().manual_seed(derive_seed(spec.seed, "prompts", turn))
        batch.append(prompts[int(torch.randperm(len(prompts), generator=generator)[place])])
    return batch


@torch.no_grad()
def roll_out(learner: Learner, spec: PpoSpec, prompts: list[PromptRow], step: int) -> Rollout:
    """Write and score one response per prompt, and estimate what was better than expected."""
    encode = prompt_encoder(learner.tokenizer, learner.room - spec.max_new_tokens)
    sampling = Sampling(spec.max_new_tokens, spec.temperature)
    encoded = [encode(row.prompt) for row in prompts]
    seed = derive_seed(spec.seed, "rollout", step)
    written = write_responses(learner.policy, learner.tokenizer, encoded, sampling, seed)
    texts = written.texts(learner.tokenizer)
    conversations = [answer(row.prompt, text) for row, text in zip(prompts, texts, strict=True)]
    scored = score_conversations(learner.scorer, learner.scorer_tokenizer, conversations, learner.room)
    scores = torch.tensor(scored, device=written.ids.device)

    mask = written.response_mask
    logp, _ = token_logp(learner.policy, written, spec.temperature)
    reference_logp = learner.reference_logp(written, spec.temperature)
    values = token_values(learner.value, written)
    goals = shape_scores(scores, written.finished, spec)
    rewards = ppo_math.token_rewards(goals, logp, reference_logp, mask, learner.kl_coefficient)
    advantages, returns = ppo_math.advantages_and_returns(rewards, values, mask, spec.gamma, spec.lam)
    if spec.whiten_advantages:
        advantages = ppo_math.whiten(advantages, mask)
    kl = ((logp - reference_logp) * mask).sum(1)
    return Rollout(written, logp, values, advantages, returns, scores, kl)


def shape_scores(scores: torch.Tensor, finished: torch.Tensor, spec: PpoSpec) -> torch.Tensor:
    """The scores that are learned from: whitened over the batch if asked, the penalty where the end is
    missing.
    """
    if spec.reward_scaling == "whiten":
        scores = ppo_math.whiten(scores, torch.ones_like(scores))
    if spec.unfinished_penalty is None:
        return scores
    return torch.where(finished, scores, torch.full_like(scores, spec.unfinished_penalty))


def improve(learner: Learner, spec: PpoSpec, rollout: Rollout, step: int) -> dict[str, float]:
    """Several passes of minibatches over the rollout; returns the means of what was measured on the way."""
    sums: dict[str, float] = {}
    count = 0
    for epoch in range(spec.ppo_epochs):
        generator = torch.Generator().manual_seed(derive_seed(spec.seed, "minibatches", step, epoch))
        order = torch.randperm(len(rollout.scores), generator=generator).to(rollout.scores.device)
        for rows in order.split(spec.minibatch_size):
            for name, value in improve_once(learner, spec, select(rollout, rows)).items():
                sums[name] = sums.get(name, 0.0) + value
            count += 1
    if spec.kl_target is not None:
        learner.kl_coefficient = ppo_math.adapt_kl(
            learner.kl_coefficient, rollout.kl.mean().item(), spec.kl_target, len(rollout.kl), spec.kl_horizon
        )
    return {name: value / count for name, value in sums.items()}


def improve_once(learner: Learner, spec: PpoSpec, part: Rollout) -> dict[str, float]:
    """One gradient step of the policy and one of the value model."""
    mask = part.written.response_mask
    logp, entropy = token_logp(learner.policy, part.written, spec.temperature)
    policy_loss, clip_fraction = ppo_math.policy_loss(logp, part.logp, part.advantages, mask, spec.clip_range)
    policy_norm = take_step(learner.policy, learner.policy_optimizer, policy_loss, spec.max_grad_norm)

    values = token_values(learner.value, part.written)
    value_loss = ppo_math.value_loss(values, part.values, part.returns, mask, spec.value_clip_range)
    weighted = spec.value_coefficient * value_loss
    value_norm = take_step(learner.value, learner.value_optimizer, weighted, spec.max_grad_norm)
    return {
        "loss": (policy_loss + weighted).item(),
        "loss/policy": policy_loss.item(),
        "loss/value": value_loss.item(),
        "clip_fraction": clip_fraction.item(),
        "entropy": ppo_math.masked_mean(entropy, mask).item(),
        "grad_norm": policy_norm,
        "grad_norm/value": value_norm,
    }


def take_step(model: Any, optimizer: torch.optim.Optimizer, loss: torch.Tensor, max_norm: float) -> float:
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(list(trainable(model).values()), max_norm).item()
    if not math.isfinite(norm):
        raise RecipeError("nan_loss", "A gradient is not finite: try a lower learning_rate.")
    optimizer.step()
    return norm


def select(rollout: Rollout, rows: torch.Tensor) -> Rollout:
    tensors = {field.name: getattr(rollout, field.name)[rows] for field in fields(Rollout)[1:]}
    written = {field.name: getattr(rollout.written, field.name)[rows] for field in fields(Written)}
    return Rollout(Written(**written), **tensors)


def token_logp(model: Any, written: Written, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each response token and the entropy at its place (no gradient), both [B, T]."""
    log_p = (response_logits(model, written) / temperature).log_softmax(-1)
    response = written.ids[:, -written.response_mask.shape[1] :]
    detached = log_p.detach()
    return log_p.gather(-1, response[..., None])[..., 0], -(detached.exp() * detached).sum(-1)


def token_values(model: Any, written: Written) -> torch.Tensor:
    """The value model's score head at the state before each response token: [B, T]."""
    classifier = model.get_base_model() if hasattr(model, "get_base_model") else model
    backbone = getattr(classifier, classifier.base_model_prefix)
    width = written.response_mask.shape[1]
    states = forward(backbone, written.ids, written.mask).last_hidden_state[:, -width - 1 : -1]
    return classifier.score(states)[..., 0].float()


def describe(rollout: Rollout, learner: Learner, began: float) -> dict[str, float]:
    mask = rollout.written.response_mask
    lengths = mask.sum(1).float()
    return {
        "reward": rollout.scores.mean().item(),
        "kl": rollout.kl.mean().item(),
        "kl_coefficient": learner.kl_coefficient,
        "response_length": lengths.mean().item(),
        "finished": rollout.written.finished.float().mean().item(),
        "explained_variance": ppo_math.explained_variance(rollout.values, rollout.returns, mask).item(),
        "tokens_per_second": lengths.sum().item() / (time.monotonic() - began),
        "learning_rate": learner.policy_optimizer.param_groups[0]["lr"],
    }


def report(run: Run, spec: PpoSpec, step: int, metrics: dict[str, float]) -> None:
    if not math.isfinite(metrics["loss"]) or not math.isfinite(metrics["kl"]):
        raise RecipeError("nan_loss", f"The loss is not finite at step {step}: try a lower learning_rate.")
    if step % spec.log_every == 0 or step == spec.steps:
        run.emit_values("metrics", step, metrics)


def save_checkpoint(run: Run, learner: Learner, step: int) -> None:
    """Weights, optimisers and the KL weight. No random state: every seed is a function of the step."""
    path = run.checkpoints / f"checkpoint-{step}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    save_file(
        {k: v.detach().contiguous() for k, v in trainable(learner.policy).items()},
        path / "policy.safetensors",
    )
    save_file(
        {k: v.detach().contiguous() for k, v in trainable(learner.value).items()}, path / "value.safetensors"
    )
    optimizers = {
        "policy": learner.policy_optimizer.state_dict(),
        "value": learner.value_optimizer.state_dict(),
    }
    torch.save(optimizers, path / "optimizers.pt")
    (path / "state.json").write_text(json.dumps({"step": step, "kl_coefficient": learner.kl_coefficient}))
    run.finish_checkpoint(path, step)
    run.drop_old_checkpoints()


def load_checkpoint(learner: Learner, path: Path) -> int:
    """Bring the learner back to where the checkpoint was written; returns its step."""
    for model, name in ((learner.policy, "policy"), (learner.value, "value")):
        saved = load_file(path / f"{name}.safetensors")
        with torch.no_grad():
            for key, parameter in trainable(model).items():
                parameter.copy_(saved[key])
    optimizers = torch.load(path / "optimizers.pt", weights_only=True)
    learner.policy_optimizer.load_state_dict(optimizers["policy"])
    learner.value_optimizer.load_state_dict(optimizers["value"])
    state = json.loads((path / "state.json").read_text())
    learner.kl_coefficient = state["kl_coefficient"]
    return int(state["step"])
