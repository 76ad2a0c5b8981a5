"""PPO's arithmetic against numbers worked out by hand."""

import math

import pytest

torch = pytest.importorskip("torch")

from training.recipes import ppo_math  # noqa: E402  # after importorskip

pytestmark = pytest.mark.recipes
MASK = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])


def close(actual, expected) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected), atol=1e-6, rtol=0)


def test_token_rewards_put_the_score_on_the_last_token_and_kl_on_all() -> None:
    logp = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, 9.0, 9.0]])
    reference = torch.tensor([[-1.5, -1.0, -3.0], [-2.0, 0.0, 0.0]])
    rewards = ppo_math.token_rewards(torch.tensor([2.0, -1.0]), logp, reference, MASK, 0.1)
    close(rewards, [[-0.05, 0.1, 2.0], [-1.1, 0.0, 0.0]])


def test_advantages_by_hand() -> None:
    rewards = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    values = torch.tensor([[0.5, 0.25, 0.5], [0.25, 7.0, 7.0]])
    advantages, returns = ppo_math.advantages_and_returns(rewards, values, MASK, gamma=0.5, lam=0.5)
    # deltas: .5*.25-.5 = -.375; .5*.5-.25 = 0; 1-.5 = .5. A3 = .5, A2 = 0+.25*.5 = .125, A1 = -.375+.25*.125
    close(advantages, [[-0.34375, 0.125, 0.5], [0.75, 0.0, 0.0]])
    close(returns, [[0.15625, 0.375, 1.0], [1.0, 0.0, 0.0]])


def test_advantages_without_discount_are_return_minus_value() -> None:
    rewards = torch.tensor([[0.1, -0.2, 1.0]])
    values = torch.tensor([[0.3, 0.2, 0.1]])
    advantages, returns = ppo_math.advantages_and_returns(
        rewards, values, torch.ones(1, 3), gamma=1.0, lam=1.0
    )
    close(returns, [[0.9, 0.8, 1.0]])
    close(advantages, [[0.6, 0.6, 0.9]])


def test_policy_loss_clips_both_ways() -> None:
    old = torch.zeros(1, 4)
    logp = torch.tensor([[math.log(1.5), math.log(0.5), math.log(1.5), math.log(1.1)]])
    advantages = torch.tensor([[1.0, -1.0, -1.0, 1.0]])
    loss, clipped = ppo_math.policy_loss(logp, old, advantages, torch.ones(1, 4), 0.2)
    # min(1.5, 1.2) = 1.2; min(-.5, -.8) = -.8; min(-1.5, -1.2) = -1.5; 1.1
    close(loss, -(1.2 - 0.8 - 1.5 + 1.1) / 4)
    close(clipped, 0.5)


def test_policy_loss_at_the_start_is_minus_the_mean_advantage() -> None:
    logp = torch.tensor([[-1.0, -2.0, 5.0]], requires_grad=True)
    mask = torch.tensor([[1.0, 1.0, 0.0]])
    loss, _ = ppo_math.policy_loss(logp, logp.detach(), torch.tensor([[1.0, 3.0, 9.0]]), mask, 0.2)
    loss.backward()
    close(loss.detach(), -2.0)
    close(logp.grad, [[-0.5, -1.5, 0.0]])


def test_value_loss_takes_the_worse_of_plain_and_clipped() -> None:
    values, old = torch.tensor([[1.0, 0.1]]), torch.tensor([[0.0, 0.0]])
    loss = ppo_math.value_loss(values, old, torch.tensor([[1.0, 0.0]]), torch.ones(1, 2), 0.2)
    close(loss, 0.5 * (0.64 + 0.01) / 2)


def test_whiten_looks_at_valid_tokens_only() -> None:
    white = ppo_math.whiten(torch.tensor([[1.0, 2.0, 3.0], [2.0, 99.0, -99.0]]), MASK)
    assert white[1, 1:].tolist() == [0.0, 0.0]
    close(ppo_math.masked_mean(white, MASK), 0.0)
    close(ppo_math.masked_mean(white**2, MASK), 1.0)


def test_explained_variance() -> None:
    returns = torch.tensor([[1.0, 2.0, 3.0], [4.0, 50.0, 60.0]])
    close(ppo_math.explained_variance(returns.clone(), returns, MASK), 1.0)
    close(ppo_math.explained_variance(torch.zeros(2, 3), returns, MASK), 0.0)


def test_adaptive_kl_moves_a_fifth_at_most() -> None:
    assert ppo_math.adapt_kl(0.1, 12.0, 6.0, responses=100, horizon=1000) == pytest.approx(0.1 * 1.02)
    assert ppo_math.adapt_kl(0.1, 5.4, 6.0, responses=100, horizon=1000) == pytest.approx(0.1 * 0.99)
