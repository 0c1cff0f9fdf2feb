"""PPO's formulas against numbers worked out by hand."""

import pytest
import torch

from trlm_utils.training import ppo

ONES = torch.ones(1, 3)
REWARDS = torch.tensor([[0.0, 0.0, 1.0]])
VALUES = torch.tensor([[0.5, 0.4, 0.8]])


def test_gae_by_hand():
    # deltas: 0.4 - 0.5 = -0.1; 0.8 - 0.4 = 0.4; 1 - 0.8 = 0.2
    # lambda 0.5: A3 = 0.2; A2 = 0.4 + 0.1 = 0.5; A1 = -0.1 + 0.25 = 0.15
    advantages, targets = ppo.gae(REWARDS, VALUES, ONES, gamma=1.0, lam=0.5)
    assert advantages[0].tolist() == pytest.approx([0.15, 0.5, 0.2])
    assert targets[0].tolist() == pytest.approx([0.65, 0.9, 1.0])


def test_gae_discounts():
    # gamma 0.5, lambda 1: A3 = 0.2; A2 = (0.5 * 0.8 - 0.4) + 0.5 * 0.2 = 0.1
    # A1 = (0.5 * 0.4 - 0.5) + 0.5 * 0.1 = -0.25
    advantages, _ = ppo.gae(REWARDS, VALUES, ONES, gamma=0.5, lam=1.0)
    assert advantages[0].tolist() == pytest.approx([-0.25, 0.1, 0.2])


def test_gae_with_lambda_1_is_the_return_minus_the_value():
    advantages, targets = ppo.gae(REWARDS, VALUES, ONES, 1.0, 1.0)
    assert targets[0].tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert advantages[0].tolist() == pytest.approx([0.5, 0.6, 0.2])


def test_prompt_and_padding_do_not_count():
    mask = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
    rewards = torch.tensor([[9.0, 0.0, 1.0, 9.0]])
    values = torch.tensor([[9.0, 0.4, 0.8, 9.0]])
    advantages, _ = ppo.gae(rewards, values, mask, 1.0, 0.5)
    assert advantages[0].tolist() == pytest.approx([0.0, 0.5, 0.2, 0.0])


def test_whitened_over_all_tokens():
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    found = ppo.whitened(torch.tensor([[1.0, 2.0], [3.0, 99.0]]), mask)
    scale = (2 / 3) ** 0.5  # variance of 1, 2, 3
    assert found.flatten().tolist() == pytest.approx([-1 / scale, 0.0, 1 / scale, 0.0], abs=1e-4)


def test_policy_loss_clips_where_it_would_pay_to_go_further():
    old, ones = torch.zeros(1, 2), torch.ones(1, 2)
    new = torch.tensor([[1.5, 1.5]]).log()  # ratio 1.5 for both
    advantages = torch.tensor([[1.0, -1.0]])
    # praised: min(1.5, 1.2) = 1.2; blamed: min(-1.5, -1.2) = -1.5; mean -0.15
    assert ppo.policy_loss(new, old, advantages, ones, 0.2).item() == pytest.approx(0.15)


def test_policy_loss_has_no_gradient_beyond_the_clip():
    new = torch.tensor([[1.5]]).log().requires_grad_()
    ppo.policy_loss(new, torch.zeros(1, 1), torch.ones(1, 1), torch.ones(1, 1), 0.2).backward()
    assert new.grad.item() == 0.0


def test_value_loss_takes_the_larger_error():
    old, new, target = (torch.tensor([[x]]) for x in (0.0, 1.0, 1.0))
    # exact would cost nothing, but the step is clipped at 0.2: (0.2 - 1)^2 / 2
    found = ppo.value_loss(new, old, target, torch.ones(1, 1), 0.2)
    assert found.item() == pytest.approx(0.32)
