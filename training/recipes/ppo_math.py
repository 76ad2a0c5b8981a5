"""The arithmetic of PPO as pure functions of tensors.

Shapes: B responses, T tokens; `mask` is 1 on a response's tokens (they start at 0 and have no gaps) and 0
after its end. Log-probabilities, KL and entropy are in nats.
"""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens where mask is 1; [B, T] -> []."""
    return (values * mask).sum() / mask.sum()


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over the masked tokens; 0 elsewhere (Ziegler et al. 2019's code)."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    return (values - mean) * torch.rsqrt(variance + 1e-8) * mask


def token_rewards(
    scores: Tensor, logp: Tensor, reference_logp: Tensor, mask: Tensor, kl_coefficient: float
) -> Tensor:
    """[B], [B, T], [B, T] -> [B, T]: -kl_coefficient (log pi - log pi_ref) on every token, and the score on
    the last.

    InstructGPT, arXiv 2203.02155, sec. 3.5, eq. 2 (without the pretraining term); Ziegler et al. 2019, eq. 2.
    """
    rewards = -kl_coefficient * (logp - reference_logp) * mask
    last = mask.sum(1).long() - 1
    rewards[torch.arange(len(scores)), last] += scores
    return rewards


def advantages_and_returns(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and the value targets (advantage + value), both [B, T] and 0 after the
    end.

    A_t = sum_l (gamma lam)^l delta_(t+l), delta_t = r_t + gamma V_(t+1) - V_t (GAE, arXiv 1506.02438, eq.
    16); the value after the last token is 0.
    """
    advantages = torch.zeros_like(rewards)
    following_value = torch.zeros_like(rewards[:, 0])
    following_advantage = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * following_value - values[:, t]
        following_advantage = (delta + gamma * lam * following_advantage) * mask[:, t]
        following_value = values[:, t] * mask[:, t]
        advantages[:, t] = following_advantage
    return advantages, (advantages + values) * mask


def policy_loss(
    logp: Tensor, old_logp: Tensor, advantages: Tensor, mask: Tensor, clip_range: float
) -> tuple[Tensor, Tensor]:
    """The clipped surrogate, negated to be minimised, and the share of tokens it clips (PPO, arXiv
    1707.06347, eq. 7).

    All inputs [B, T]; outputs []. L = -E[min(r A, clip(r, 1 - e, 1 + e) A)] with r = exp(logp - old_logp).
    """
    ratio = (logp - old_logp).exp()
    plain = ratio * advantages
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range) * advantages
    clip_fraction = masked_mean((clipped < plain).float(), mask)
    return -masked_mean(torch.minimum(plain, clipped), mask), clip_fraction


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip_range: float
) -> Tensor:
    """Half the squared error, with the value's change clipped: the worse of the two (arXiv 2403.17031)."""
    clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
    return 0.5 * masked_mean(torch.maximum((values - returns) ** 2, (clipped - returns) ** 2), mask)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 - Var(returns - values) / Var(returns) over the masked tokens: 1 is a perfect value model, 0 a
    constant.
    """
    chosen = mask.bool()
    residual, target = (returns - values)[chosen], returns[chosen]
    return 1 - residual.var(correction=0) / target.var(correction=0).clamp(min=1e-8)


def adapt_kl(coefficient: float, kl: float, target: float, responses: int, horizon: int) -> float:
    """The KL weight after a batch, moved towards the target (Ziegler et al. 2019, sec. 2.2)."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * responses / horizon)


def combine_scores(helpful: Tensor, safe: Tensor, tagged: Tensor, threshold: float) -> Tensor:
    """Llama 2's R_c as linear scores, [B], [B], [B] bool -> [B]: the safety model's score where the prompt is
    tagged or where it holds the response for unsafe (sigmoid(safe) < threshold), the helpfulness model's
    elsewhere.

    Llama 2, arXiv 2307.09288, sec. 3.2.3. The paper's logit undoes the sigmoid, so it is the score itself;
    the whitening that follows there is `whiten`.
    """
    return torch.where(tagged | (torch.sigmoid(safe) < threshold), safe, helpful)


Moments = tuple[float, float, float]
"""Count, mean and sum of squared deviations of what was seen so far."""


def update_moments(moments: Moments, values: Tensor) -> Moments:
    """The moments with the batch's values [B] added (Chan, Golub and LeVeque 1979, eq. 2.1)."""
    count, mean, squares = moments
    size, batch_mean = len(values), values.double().mean().item()
    batch_squares = ((values.double() - batch_mean) ** 2).sum().item()
    total, delta = count + size, batch_mean - mean
    return total, mean + delta * size / total, squares + batch_squares + delta**2 * count * size / total


def scale_by_deviation(values: Tensor, moments: Moments) -> Tensor:
    """The values [B] over the deviation of all that was seen; the mean stays (arXiv 2005.12729, sec. 3)."""
    count, _, squares = moments
    return values / max(squares / count, 1e-8) ** 0.5


def language_loss(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Mean negative log-likelihood in nats of the tokens where mask is 1; [B, T, V], [B, T], [B, T] -> [].

    Logits and mask stand at the token that is predicted: logits[:, t] predict ids[:, t]. The pretraining term
    of PPO-ptx (InstructGPT, arXiv 2203.02155, eq. 2).
    """
    logp = logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    return -masked_mean(logp, mask)
