"""The formulas of PPO, which TRL no longer includes; notebook 12 builds its loop from them.

Schulman et al. 2017, *Proximal Policy Optimization Algorithms*; Schulman et al. 2016,
*High-Dimensional Continuous Control Using Generalized Advantage Estimation* (GAE).
All tensors are ``[completions, tokens]``; ``mask`` is 1 on completion tokens, 0 on padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimation: advantages, and the critic's targets.

    ``delta_t = r_t + gamma V_{t+1} - V_t`` and ``A_t = delta_t + gamma lam A_{t+1}``,
    with ``V = A = 0`` after the last token.

    Returns:
        Advantages, and returns: advantages plus values, the regression targets of the critic.
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
    """Mean over the unmasked tokens of all completions."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def whitened(values: Tensor, mask: Tensor) -> Tensor:
    """Values normalised to mean 0 and variance 1 over the unmasked tokens of all completions."""
    centred = (values - masked_mean(values, mask)) * mask
    return centred / (masked_mean(centred**2, mask) + 1e-8).sqrt()


def policy_loss(new: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, clip: float) -> Tensor:
    """PPO's clipped loss: ``-mean(min(rho A, clip(rho, 1 - clip, 1 + clip) A))``.

    ``rho = exp(new - old)`` is the ratio of probabilities.

    Args:
        new: log-probabilities of the sampled tokens under the current policy.
        old: log-probabilities under the policy that sampled them.
    """
    import torch

    ratio = (new - old).exp()
    kept = ratio.clamp(1 - clip, 1 + clip)
    return -masked_mean(torch.minimum(ratio * advantages, kept * advantages), mask)


def value_loss(new: Tensor, old: Tensor, targets: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Clipped loss of the critic: half the squared error.

    Per token it is the larger one of the errors with ``new`` and with ``new`` clipped to
    ``[old - clip, old + clip]``.

    Args:
        new: values of the current critic.
        old: values of the critic at the time of sampling.
        targets: the returns, see `gae`.
    """
    import torch

    near = old + (new - old).clamp(-clip, clip)
    worse = torch.maximum((new - targets) ** 2, (near - targets) ** 2)
    return 0.5 * masked_mean(worse, mask)
