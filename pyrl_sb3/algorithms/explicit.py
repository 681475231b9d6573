"""
Actors and critics whose backward pass is written out, built on SB3's own modules.

What their methods are for is said in `pyrl_sb3.algorithms.learners`.
"""

from collections.abc import Callable
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.sac import policies as sac
from stable_baselines3.td3 import policies as td3

from pyrl_sb3.algorithms import learners
from pyrl_sb3.algorithms.acting import Array, Forward, gaussian_actions
from pyrl_sb3.algorithms.flat import FlatAdam, FlatParameters
from pyrl_sb3.algorithms.gaussian import SquashedGaussian
from pyrl_sb3.algorithms.layers import Mlp
from pyrl_sb3.algorithms.layout import flat_mlp, layers, networks


def preparation(policy: Any) -> Callable[[Any], th.Tensor]:
    """A function from a batch of observations to features, ``(B, features_dim)``."""
    space, extractor = policy.observation_space, policy.actor.features_extractor
    dtype = next(policy.actor.parameters()).dtype
    if not isinstance(space, spaces.Dict):
        return lambda observations: observations.flatten(1).to(dtype)
    # The order of CombinedExtractor
    keys = list(extractor.extractors)
    return lambda observations: th.cat(
        [observations[key].flatten(1).to(dtype) for key in keys], dim=1
    )


class Joined:
    """
    Two tensors as one that networks read, ``(1, rows, columns)``: the same one each time, so that
    the layers need not look at it anew.

    :param dim: 0 to put rows below rows, 1 for columns beside columns
    """

    def __init__(self, dim: int) -> None:
        self._dim, self._shapes = dim, (th.Size(), th.Size())

    def __call__(self, a: th.Tensor, b: th.Tensor) -> th.Tensor:
        """:param a: ``(rows, columns)``; :param b: likewise"""
        if (a.shape, b.shape) != self._shapes:
            self._shapes = a.shape, b.shape
            self._joined = th.cat([a, b], self._dim)
            self._batch = self._joined.unsqueeze(0)
            return self._batch
        th.cat([a, b], self._dim, out=self._joined)
        return self._batch


class _Flat:
    """What trains parameters that are laid out flat."""

    _flat: FlatParameters
    _adam: FlatAdam

    def acts(self) -> bool:
        return self._flat.attached()

    def attached(self) -> bool:
        return self._adam.attached()


class _FlatWithTarget(_Flat):
    _flat_target: FlatParameters

    def track(self, tau: float) -> None:
        self._flat_target.data.lerp_(self._flat.data, tau)

    def attached(self) -> bool:
        return super().attached() and self._flat_target.attached()


class Critics(_FlatWithTarget):
    def __init__(self, critic: ContinuousCritic, critic_target: ContinuousCritic) -> None:
        self._flat, self._online = flat_mlp(networks(critic))
        self._flat_target, self._target = flat_mlp(networks(critic_target))
        first = self._flat.data[:1], self._flat.grad[:1]
        self._first = Mlp(layers(networks(critic)[0], *first))
        self._of_policy = self._online
        self._pairs, self._target_pairs = Joined(dim=1), Joined(dim=1)
        self._action_columns = slice(-get_action_dim(critic.action_space), None)
        self.optimizer = critic.optimizer
        self._adam = FlatAdam(self._flat, self.optimizer)

    def q_values(self, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        return self._online.forward(self._pairs(observations, actions))

    def descend(self, dq: th.Tensor) -> None:
        self._online.backward(dq)
        self._adam.descend()

    def target_q_values(self, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        return self._target.forward(self._target_pairs(observations, actions))

    def q_of_policy(
        self, observations: th.Tensor, actions: th.Tensor, first: bool = False
    ) -> th.Tensor:
        self._of_policy = self._first if first else self._online
        return self._of_policy.forward(self._pairs(observations, actions))

    def action_gradient(self, dq: th.Tensor) -> th.Tensor:
        return self._of_policy.input_gradient(dq, self._action_columns)


class GaussianActor(_Flat):
    def __init__(self, actor: sac.Actor, critics: learners.Critics) -> None:
        self._flat, self._mlp = flat_mlp(networks(actor))
        self._gaussian = SquashedGaussian()
        self._both = Joined(dim=0)
        self.optimizer = actor.optimizer
        self._adam = FlatAdam(self._flat, self.optimizer)
        self._action_dim = get_action_dim(actor.action_space)
        self._forward = Forward(self._mlp)

    def explore(self, features: Array) -> Array:
        """Actions in the environments, drawn: ``(n_envs, action_dim)``, in [-1, 1]."""
        return gaussian_actions(self._forward(features))

    def sample(
        self, observations: th.Tensor, next_observations: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor, th.Tensor]:
        batch = len(observations)
        both = self._both(observations, next_observations)
        head = self._mlp.forward(both)[0]
        # Two draws, as SB3 makes them: one of both may be another sequence.
        draws = [th.randn(batch, self._action_dim, dtype=head.dtype).T for _ in range(2)]
        actions, log_prob = self._gaussian.forward(head, th.cat(draws, dim=1).T)
        (a, a_next), (log_pi, log_pi_next) = actions.chunk(2), log_prob.chunk(2)
        return a, log_pi, a_next, log_pi_next

    def descend(self, da: th.Tensor, dlog_prob: th.Tensor) -> None:
        self._mlp.backward(self._gaussian.backward(da, dlog_prob).unsqueeze(0))
        self._adam.descend()


class DeterministicActor(_FlatWithTarget):
    def __init__(self, actor: td3.Actor, actor_target: td3.Actor) -> None:
        self._flat, self._online = flat_mlp(networks(actor))
        self._flat_target, self._target = flat_mlp(networks(actor_target))
        self.optimizer = actor.optimizer
        self._adam = FlatAdam(self._flat, self.optimizer)
        self._forward = Forward(self._online)

    def explore(self, features: Array) -> Array:
        """Actions in the environments: ``(n_envs, action_dim)``, in [-1, 1]."""
        return self._forward(features)

    def act(self, observations: th.Tensor) -> th.Tensor:
        return self._online.forward(observations.unsqueeze(0))[0].clone()

    def target_act(self, observations: th.Tensor) -> th.Tensor:
        return self._target.forward(observations.unsqueeze(0))[0].clone()

    def descend(self, da: th.Tensor) -> None:
        self._online.backward(da.unsqueeze(0))
        self._adam.descend()


class Temperature(_Flat):
    def __init__(self, log_alpha: th.Tensor, optimizer: th.optim.Optimizer) -> None:
        self.log_alpha, self.optimizer = log_alpha, optimizer
        self._flat = FlatParameters([[log_alpha]])
        self._adam = FlatAdam(self._flat, optimizer)

    def descend(self, dlog_alpha: th.Tensor) -> None:
        self._flat.grad.copy_(dlog_alpha)
        self._adam.descend()
