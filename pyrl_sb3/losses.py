"""
The equations: targets, losses and the gradients of the losses, as pure functions.

Shapes: ``B`` rows in a batch, ``N`` critics. Rewards, dones, discounts, targets, weights and
log-probabilities are ``(B, 1)``, Q-values of the ensemble ``(N, B, 1)``, actions
``(B, action_dim)``. All raise ``ValueError`` where broadcasting would hide a wrong shape.

A gradient function stands below its loss and is tested against autograd. ``gamma`` of a target is a
number or, for n-step returns, gamma**n for each row, ``(B, 1)``.
"""

import math
from typing import TypeAlias

import torch as th

from pyrl_sb3.shapes import (
    check_actions,
    check_axes,
    check_critics,
    check_discount,
    check_number,
    check_one_critic,
    check_rows,
    check_same,
    check_temperature,
)

Discount: TypeAlias = float | th.Tensor


def td_target(
    rewards: th.Tensor, dones: th.Tensor, gamma: Discount, next_q: th.Tensor
) -> th.Tensor:
    """
    The target y = r + gamma (1 - d) min_i Q'_i(s', a').

    With one critic this is the target of DDPG (Lillicrap 2015, https://arxiv.org/abs/1509.02971),
    with two the clipped double Q-learning of TD3 (Fujimoto 2018,
    https://arxiv.org/abs/1802.09477, equation 10).

    :param next_q: ``(N, B, 1)``, from the target critics
    :return: ``(B, 1)``
    """
    check_rows(rewards, dones=dones)
    check_critics(rewards, next_q=next_q)
    check_discount(rewards, gamma)
    return rewards + (1 - dones) * gamma * next_q.amin(dim=0)


def soft_td_target(
    rewards: th.Tensor,
    dones: th.Tensor,
    gamma: Discount,
    next_q: th.Tensor,
    alpha: th.Tensor,
    next_log_prob: th.Tensor,
) -> th.Tensor:
    """
    The target y = r + gamma (1 - d) (min_i Q'_i(s', a') - alpha log pi(a'|s')): SAC (Haarnoja 2018,
    https://arxiv.org/abs/1812.05905, equations 3 and 5).

    :param next_q: ``(N, B, 1)``, from the target critics
    :param alpha: temperature, ``(1,)`` or a scalar
    :return: ``(B, 1)``
    """
    check_rows(rewards, dones=dones, next_log_prob=next_log_prob)
    check_critics(rewards, next_q=next_q)
    check_discount(rewards, gamma)
    check_temperature(alpha=alpha)
    return rewards + (1 - dones) * gamma * (next_q.amin(dim=0) - alpha * next_log_prob)


def smoothed_action(actions: th.Tensor, noise: th.Tensor, clip: float) -> th.Tensor:
    """
    Target policy smoothing: a' = clip(mu'(s') + clip(noise, -c, c), -1, 1)
    (Fujimoto 2018, https://arxiv.org/abs/1802.09477, equation 14).

    :param actions: ``(B, action_dim)``, of the target actor
    :param noise: ``(B, action_dim)``
    """
    check_same(actions=actions, noise=noise)
    return (actions + noise.clamp(-clip, clip)).clamp(-1, 1)


def critic_loss(
    q: th.Tensor, y: th.Tensor, weights: th.Tensor | None = None, scale: float = 1.0
) -> th.Tensor:
    """
    J_Q = scale * sum_i mean_b w_b (Q_i(s_b, a_b) - y_b)^2.

    SAC has ``scale`` 1/2, TD3 and DDPG 1. ``weights`` are the importance-sampling weights of
    prioritised replay (Schaul 2015, https://arxiv.org/abs/1511.05952, section 3.4).

    :param q: ``(N, B, 1)``
    """
    check_rows(y, weights=weights)
    check_critics(y, q=q)
    squared = (q - y).square()
    return (squared if weights is None else squared * weights).sum() * (scale / len(y))


def critic_gradient(
    q: th.Tensor, y: th.Tensor, weights: th.Tensor | None = None, scale: float = 1.0
) -> th.Tensor:
    """
    dJ_Q/dQ = 2 * scale * w (Q - y) / B, the gradient of `critic_loss`.

    :return: ``(N, B, 1)``
    """
    check_rows(y, weights=weights)
    check_critics(y, q=q)
    gradient = (q - y) * (2 * scale / len(y))
    return gradient if weights is None else gradient * weights


def soft_policy_loss(q: th.Tensor, alpha: th.Tensor, log_prob: th.Tensor) -> th.Tensor:
    """
    J_pi = mean(alpha log pi(a|s) - min_i Q_i(s, a)): SAC (Haarnoja 2018,
    https://arxiv.org/abs/1812.05905, equation 9).

    :param q: ``(N, B, 1)``, of actions drawn from the policy
    """
    check_rows(log_prob)
    check_critics(log_prob, q=q)
    check_temperature(alpha=alpha)
    return (alpha * log_prob - q.amin(dim=0)).mean()


def soft_policy_gradient(
    q: th.Tensor, alpha: th.Tensor, log_prob: th.Tensor
) -> tuple[th.Tensor, th.Tensor]:
    """
    dJ_pi/dQ and dJ_pi/dlog pi, the gradients of `soft_policy_loss`: -1/B for the smallest
    Q-value of each row and nothing for the others, and alpha/B.

    :return: ``(N, B, 1)`` and ``(B, 1)``
    """
    check_rows(log_prob)
    check_critics(log_prob, q=q)
    check_temperature(alpha=alpha)
    # min() and not argmin(), which is five times slower here
    _, smallest = q.min(dim=0, keepdim=True)
    dq = th.zeros_like(q).scatter_(0, smallest, -1 / len(log_prob))
    return dq, (alpha / len(log_prob)).expand_as(log_prob)


def deterministic_policy_loss(q: th.Tensor) -> th.Tensor:
    """
    J_mu = -mean Q_1(s, mu(s)): DDPG and TD3 (Silver 2014,
    https://proceedings.mlr.press/v32/silver14.html; Fujimoto 2018,
    https://arxiv.org/abs/1802.09477, algorithm 1).

    :param q: ``(1, B, 1)``, of the first critic, for the actor's actions
    """
    check_one_critic(q=q)
    return -q.mean()


def deterministic_policy_gradient(q: th.Tensor) -> th.Tensor:
    """dJ_mu/dQ = -1/B, the gradient of `deterministic_policy_loss`; ``(1, B, 1)``, as ``q``."""
    check_one_critic(q=q)
    return th.full_like(q, -1 / q.numel())


def temperature_loss(log_alpha: th.Tensor, log_prob: th.Tensor, target_entropy: float) -> th.Tensor:
    """
    J(alpha) = -mean(log alpha (log pi(a|s) + H)): SAC (Haarnoja 2018,
    https://arxiv.org/abs/1812.05905, equation 18), in log alpha where the paper has alpha, as in
    the authors' code and SB3.

    :param log_alpha: ``(1,)``
    :param log_prob: ``(B, 1)``
    :param target_entropy: H, in nats
    """
    check_temperature(log_alpha=log_alpha)
    return log_alpha * temperature_gradient(log_prob, target_entropy)


def temperature_gradient(log_prob: th.Tensor, target_entropy: float) -> th.Tensor:
    """dJ(alpha)/dlog alpha = -mean(log pi(a|s) + H), of `temperature_loss`; a scalar."""
    check_rows(log_prob)
    return -(log_prob.mean() + target_entropy)


def q_filter(demo_q: th.Tensor, q: th.Tensor) -> th.Tensor:
    """
    1 where the critics think the demonstrated action better than the policy's,
    min_i Q_i(s, a_demo) > min_i Q_i(s, pi(s)), else 0 (Nair 2018,
    https://arxiv.org/abs/1709.10089, equation 4).

    :param demo_q: ``(N, B, 1)``, of the demonstrated actions
    :param q: ``(N, B, 1)``, of the policy's
    :return: ``(B, 1)``
    """
    check_axes(3, demo_q=demo_q)
    check_same(demo_q=demo_q, q=q)
    return (demo_q.amin(dim=0) > q.amin(dim=0)).to(q.dtype)


def cloning_loss(actions: th.Tensor, demo_actions: th.Tensor, mask: th.Tensor) -> th.Tensor:
    """
    L_BC = mean_b mask_b |pi(s_b) - a_b|^2 (Nair 2018, https://arxiv.org/abs/1709.10089,
    equations 3 and 4; there a sum).

    :param actions: ``(B, action_dim)``, of the policy, in the states of the demonstrations
    :param mask: ``(B, 1)``, of `q_filter`
    """
    check_rows(mask)
    check_actions(mask, actions=actions)
    check_same(actions=actions, demo_actions=demo_actions)
    return ((actions - demo_actions).square() * mask).sum() / len(mask)


def cloning_gradient(actions: th.Tensor, demo_actions: th.Tensor, mask: th.Tensor) -> th.Tensor:
    """
    dL_BC/da = 2 mask (pi(s) - a) / B, the gradient of `cloning_loss`.

    :return: ``(B, action_dim)``
    """
    check_rows(mask)
    check_actions(mask, actions=actions)
    check_same(actions=actions, demo_actions=demo_actions)
    return (actions - demo_actions) * mask * (2 / len(mask))


def clipped_to_sparse_returns(next_q: th.Tensor, gamma: float | th.Tensor) -> th.Tensor:
    """
    Q-values clipped to [-1/(1-gamma), 0], between which the returns lie where each reward is -1 or
    0 (Andrychowicz 2017, https://arxiv.org/abs/1707.01495, appendix A); without discounting there
    is no least one.

    :param next_q: ``(N, B, 1)``
    :param gamma: a number, the discount of one step: with n-step returns too, since these are
        the bounds of what follows their last step
    """
    check_number(gamma=gamma)
    return next_q.clamp(-1 / (1 - float(gamma)) if gamma < 1 else -math.inf, 0)
