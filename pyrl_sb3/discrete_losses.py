"""
The equations of algorithms with discrete actions; autograd computes their gradients.

Shapes are those of `pyrl_sb3.losses`, and ``n_actions`` is the number of actions. All raise
``ValueError`` where broadcasting would hide a wrong shape.
"""

import torch as th

from pyrl_sb3.losses import Discount
from pyrl_sb3.shapes import (
    check_actions,
    check_axes,
    check_critics,
    check_discount,
    check_rows,
    check_same,
    check_temperature,
)


def q_learning_target(
    rewards: th.Tensor, dones: th.Tensor, gamma: Discount, next_q: th.Tensor, choosing_q: th.Tensor
) -> th.Tensor:
    """
    The target y = r + gamma (1 - d) Q'(s', argmax_a Q_c(s', a)).

    With Q_c = Q', the target network, this is DQN's (Mnih 2015, https://doi.org/10.1038/nature14236);
    with Q_c = Q, the network that is trained, that of double Q-learning (van Hasselt 2016,
    https://arxiv.org/abs/1509.06461, equation 4).

    :param next_q: ``(B, n_actions)``, Q' of the next states
    :param choosing_q: ``(B, n_actions)``, Q_c of the next states
    :return: ``(B, 1)``
    """
    check_rows(rewards, dones=dones)
    check_actions(rewards, next_q=next_q)
    check_same(next_q=next_q, choosing_q=choosing_q)
    check_discount(rewards, gamma)
    chosen = next_q.gather(1, choosing_q.argmax(dim=1, keepdim=True))
    return rewards + (1 - dones) * gamma * chosen


def huber_loss(q: th.Tensor, y: th.Tensor, weights: th.Tensor | None = None) -> th.Tensor:
    """
    mean_b w_b h(Q - y), h(x) = x^2 / 2 for abs(x) < 1, otherwise abs(x) - 1/2 (Mnih 2015).

    :param q: ``(B, 1)``
    :param weights: as of `pyrl_sb3.losses.critic_loss`
    """
    check_rows(y, q=q, weights=weights)
    losses = th.nn.functional.smooth_l1_loss(q, y, reduction="none")
    return (losses if weights is None else losses * weights).mean()


def expected_soft_value(q: th.Tensor, alpha: th.Tensor, log_pi: th.Tensor) -> th.Tensor:
    """
    V(s) = sum_a pi(a|s) (Q(s, a) - alpha log pi(a|s)): discrete SAC (Christodoulou 2019,
    https://arxiv.org/abs/1910.07207).

    Minus its mean, with the critics held fixed, is the policy's loss.

    :param q: ``(B, n_actions)``
    :param alpha: temperature, ``(1,)`` or a scalar
    :param log_pi: ``(B, n_actions)``
    :return: ``(B, 1)``
    """
    check_axes(2, q=q)
    check_same(q=q, log_pi=log_pi)
    check_temperature(alpha=alpha)
    return (log_pi.exp() * (q - alpha * log_pi)).sum(dim=1, keepdim=True)


def policy_entropy(log_pi: th.Tensor) -> th.Tensor:
    """H(pi(.|s)) = -sum_a pi(a|s) log pi(a|s): ``(B, n_actions)`` to ``(B, 1)``."""
    check_axes(2, log_pi=log_pi)
    return -(log_pi.exp() * log_pi).sum(dim=1, keepdim=True)


def entropy_penalty(log_pi: th.Tensor, old_log_pi: th.Tensor) -> th.Tensor:
    """
    mean_b (H(pi_old(.|s_b)) - H(pi(.|s_b)))^2 / 2 (Zhou 2022, https://arxiv.org/abs/2209.10081).

    :param log_pi: ``(B, n_actions)``
    :param old_log_pi: ``(B, n_actions)``, of an earlier policy
    """
    old, new = policy_entropy(old_log_pi), policy_entropy(log_pi)
    check_rows(new, old_log_pi=old)
    return (old - new).square().mean() / 2


def clipped_critic_loss(
    q: th.Tensor,
    target_q: th.Tensor,
    y: th.Tensor,
    clip: float,
    weights: th.Tensor | None = None,
    scale: float = 1.0,
) -> th.Tensor:
    """
    J_Q = scale * sum_i mean_b w_b max((Q_i - y)^2, (Q'_i + clip(Q_i - Q'_i, -c, c) - y)^2), which
    no longer draws Q further than c away from the target critic (Zhou 2022,
    https://arxiv.org/abs/2209.10081).

    :param q: ``(N, B, 1)``
    :param target_q: ``(N, B, 1)``, of the target critics
    :param clip: c
    :param weights: as of `pyrl_sb3.losses.critic_loss`, like ``scale``
    """
    check_rows(y, weights=weights)
    check_critics(y, q=q, target_q=target_q)
    check_same(q=q, target_q=target_q)
    near = target_q + (q - target_q).clamp(-clip, clip)
    squared = th.maximum((q - y).square(), (near - y).square())
    return (squared if weights is None else squared * weights).sum() * (scale / len(y))
