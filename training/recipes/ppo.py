"""Proximal policy optimisation of a language model against a reward model.

InstructGPT's recipe (arXiv 2203.02155, sec. 3.5): write responses, score them, take a KL penalty to the
starting model from every token, estimate advantages with GAE, and improve the policy and the value model with
clipped losses. The reference is the policy with its adapter switched off (or a frozen copy when every weight
is trained); the value model starts as the reward model. Dropout is off throughout, so that the ratio starts
at exactly 1.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields
from typing import Any

import torch

from training.recipes import ppo_math
from training.recipes.alarms import Watch, fail_not_finite
from training.recipes.data import PromptRow, prompt_encoder, read_prompts
from training.recipes.generation import (
    Sampling,
    Written,
    derive_seed,
    emit_probes,
    response_logits,
    write_responses,
)
from training.recipes.models import choose_device, count_parameters
from training.recipes.ppo_models import (
    Learner,
    Parameters,
    load_checkpoint,
    make_learner,
    save_checkpoint,
    save_policy,
)
from training.recipes.reward_terms import Response
from training.recipes.rundir import Outcome, Run
from training.recipes.scoring import Scores
from training.recipes.spec import PpoSpec


@dataclass
class Rollout:
    """A batch of scored responses: per-token tensors are [B, T], goals and kl [B]."""

    written: Written
    logp: torch.Tensor
    values: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    goals: torch.Tensor
    kl: torch.Tensor


def train(spec: PpoSpec, run: Run) -> Outcome:
    learner = make_learner(spec, run)
    prompts = read_prompts(run.directory / spec.data.train)
    checkpoint = run.last_checkpoint()
    step, watched = load_checkpoint(learner, checkpoint[1]) if checkpoint else (0, None)
    watch = Watch(spec, watched)
    run.started(spec.steps, step or None, choose_device(spec), count_parameters(learner.policy))
    if not step:
        emit_probes(run, learner.policy, learner.tokenizer, learner.room, 0, "before")
    metrics: dict[str, float] = {}
    stopped = cancelled = False
    while step < spec.steps and not (stopped or cancelled):
        began = time.monotonic()
        rollout, scores = roll_out(learner, spec, batch_of_prompts(prompts, spec, step), step)
        metrics = improve(learner, spec, run, rollout, step) | describe(rollout, scores, learner, began)
        step += 1
        run.emit("progress", step=step, total_steps=spec.steps)
        worth = (scores.model + scores.terms).tolist()
        measures, stopped = watch.look(run, step, metrics["kl"], worth, rollout.written.tokens())
        metrics |= measures
        report(run, spec, step, metrics)
        cancelled = step < spec.steps and not stopped and run.cancel_requested()
        if cancelled or (step < spec.steps and step % spec.save_every == 0):
            save_checkpoint(run, learner, step, watch.state)
    if stopped:
        run.emit("warning", message=f"stopped at step {step}: an alarm of stop_on was raised")
    if not cancelled:
        emit_probes(run, learner.policy, learner.tokenizer, learner.room, step, "after")
    return Outcome(step, spec.steps, cancelled, save_policy(run, learner), "policy", metrics)


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
def roll_out(learner: Learner, spec: PpoSpec, prompts: list[PromptRow], step: int) -> tuple[Rollout, Scores]:
    """Write and score one response per prompt, and estimate what was better than expected."""
    encode = prompt_encoder(learner.tokenizer, learner.room - spec.max_new_tokens)
    sampling = Sampling(spec.max_new_tokens, spec.temperature)
    encoded = [encode(row.prompt) for row in prompts]
    seed = derive_seed(spec.seed, "rollout", step)
    written = write_responses(learner.policy, learner.tokenizer, encoded, sampling, seed)
    scores = learner.scorer.score(prompts, read_responses(written, learner.tokenizer))
    goals = shape_scores(learner, spec, scores).to(written.ids.device)

    mask = written.response_mask
    logp, _ = token_logp(learner.policy, written, spec.temperature)
    with learner.as_reference() as reference:
        reference_logp, _ = token_logp(reference, written, spec.temperature)
    values = learner.critic.token_values(written)
    rewards = ppo_math.token_rewards(goals, logp, reference_logp, mask, learner.kl_coefficient)
    advantages, returns = ppo_math.advantages_and_returns(rewards, values, mask, spec.gamma, spec.lam)
    if spec.whiten_advantages:
        advantages = ppo_math.whiten(advantages, mask)
    kl = ((logp - reference_logp) * mask).sum(1)
    return Rollout(written, logp, values, advantages, returns, goals, kl), scores


def read_responses(written: Written, tokenizer: Any) -> list[Response]:
    texts, lengths = written.texts(tokenizer), written.response_mask.sum(1).tolist()
    rows = zip(texts, lengths, written.finished.tolist(), strict=True)
    return [Response(text, length, finished) for text, length, finished in rows]


def shape_scores(learner: Learner, spec: PpoSpec, scores: Scores) -> torch.Tensor:
    """The scores that are learned from, [B]: scaled if asked, the penalty where the end is missing, and the
    rules.
    """
    scaled = scores.model
    if spec.reward_scaling == "whiten":
        scaled = ppo_math.whiten(scaled, torch.ones_like(scaled))
    elif spec.reward_scaling == "running":
        learner.moments = ppo_math.update_moments(learner.moments, scaled)
        scaled = ppo_math.scale_by_deviation(scaled, learner.moments)
    return scores.total(spec.unfinished_penalty, scaled)


def improve(learner: Learner, spec: PpoSpec, run: Run, rollout: Rollout, step: int) -> dict[str, float]:
    """Several passes of minibatches over the rollout; returns the means of what was measured on the way."""
    sums: dict[str, float] = {}
    count = 0
    for epoch in range(spec.ppo_epochs):
        generator = torch.Generator().manual_seed(derive_seed(spec.seed, "minibatches", step, epoch))
        order = torch.randperm(len(rollout.goals), generator=generator).to(rollout.goals.device)
        for rows in order.split(spec.minibatch_size):
            for name, value in improve_once(learner, spec, select(rollout, rows), step, count).items():
                sums[name] = sums.get(name, 0.0) + value
            count += 1
            if not math.isfinite(sums["grad_norm"] + sums["grad_norm/value"]):
                fail_not_finite(run, step + 1, "A gradient")
    if spec.kl_target is not None:
        learner.kl_coefficient = ppo_math.adapt_kl(
            learner.kl_coefficient, rollout.kl.mean().item(), spec.kl_target, len(rollout.kl), spec.kl_horizon
        )
    return {name: value / count for name, value in sums.items()}


def improve_once(learner: Learner, spec: PpoSpec, part: Rollout, step: int, number: int) -> dict[str, float]:
    """One gradient step of the policy and one of the value model."""
    mask = part.written.response_mask
    logp, entropy = token_logp(learner.policy, part.written, spec.temperature)
    policy_loss, clip_fraction = ppo_math.policy_loss(logp, part.logp, part.advantages, mask, spec.clip_range)
    loss, extra = policy_loss, {}
    if learner.texts is not None and spec.pretraining is not None:
        text_loss = learner.texts.loss(learner.policy, step, number)
        loss, extra = loss + spec.pretraining.weight * text_loss, {"loss/pretraining": text_loss.item()}
    policy_norm = take_step(learner.policy_parameters, learner.policy_optimizer, loss, spec.max_grad_norm)

    values = learner.critic.token_values(part.written)
    value_loss = ppo_math.value_loss(values, part.values, part.returns, mask, spec.value_clip_range)
    weighted = spec.value_coefficient * value_loss
    value_norm = take_step(learner.value_parameters, learner.value_optimizer, weighted, spec.max_grad_norm)
    return extra | {
        "loss": (loss + weighted).item(),
        "loss/policy": policy_loss.item(),
        "loss/value": value_loss.item(),
        "clip_fraction": clip_fraction.item(),
        "entropy": ppo_math.masked_mean(entropy, mask).item(),
        "grad_norm": policy_norm,
        "grad_norm/value": value_norm,
    }


def take_step(
    parameters: Parameters, optimizer: torch.optim.Optimizer, loss: torch.Tensor, max_norm: float
) -> float:
    """One step of the optimiser, unless the gradient is not finite; returns its norm before the clipping."""
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(list(parameters.values()), max_norm).item()
    if math.isfinite(norm):
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


def describe(rollout: Rollout, scores: Scores, learner: Learner, began: float) -> dict[str, float]:
    mask = rollout.written.response_mask
    lengths = mask.sum(1).float()
    return scores.measures | {
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
        fail_not_finite(run, step, "The loss")
    if step % spec.log_every == 0 or step == spec.steps:
        run.emit_values("metrics", step, metrics)
