"""The formulas of PPO that TRL no longer has; notebook 12 builds its loop from them.

Schulman et al. 2017, *Proximal Policy Optimization Algorithms*; Schulman et al. 2016,
*High-Dimensional Continuous Control Using Generalized Advantage Estimation* (GAE).
All tensors are ``[completions, tokens]``; ``mask`` is 1 on the completion's tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Advantages and the critic's targets.

    ``delta_t = r_t + gamma V_{t+1} - V_t`` and ``A_t = delta_t + gamma lam A_{t+1}``,
    with ``V = A = 0`` beyond the last token.

    Returns:
        Advantages, and advantages plus values (what the critic should have said).
    """
    import torch

    values, rewards = values * mask, rewards * mask
    advantages = torch.zeros_like(values)
    following = value = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * value - values[:, t]
        following = (delta + gamma * lam * following) * mask[:, t]
        advantages[:, t] = following
        value = values[:, t]
    return advantages, advantages + values


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens of all completions."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def whitened(values: Tensor, mask: Tensor) -> Tensor:
    """Values with mean 0 and variance 1 over the tokens of all completions."""
    centred = (values - masked_mean(values, mask)) * mask
    return centred / (masked_mean(centred**2, mask) + 1e-8).sqrt()


def policy_loss(new: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, clip: float) -> Tensor:
    """``-mean(min(rho A, clip(rho, 1 - clip, 1 + clip) A))``, rho the ratio of probabilities.

    Args:
        new: log-probabilities of the sampled tokens now.
        old: those at the time of sampling.
    """
    import torch

    ratio = (new - old).exp()
    kept = ratio.clamp(1 - clip, 1 + clip)
    return -masked_mean(torch.minimum(ratio * advantages, kept * advantages), mask)


def value_loss(new: Tensor, old: Tensor, targets: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Half the squared error, the larger of that with and without a clipped step.

    Args:
        new: the critic's values now.
        old: those at the time of sampling, from which ``clip`` is measured.
    """
    import torch

    near = old + (new - old).clamp(-clip, clip)
    worse = torch.maximum((new - targets) ** 2, (near - targets) ** 2)
    return 0.5 * masked_mean(worse, mask)
