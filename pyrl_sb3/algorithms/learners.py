"""
What gradient steps are written for: actors, critics and a temperature that train SB3's modules.

A step is written once for both back ends, `pyrl_sb3.algorithms.explicit` and
`pyrl_sb3.algorithms.autograd`. What they return is detached; what a backward pass needs of the
forward pass stays with them. Observations are as `Backend.preparation` makes them, gradients those
of the loss.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch as th
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.sac import policies as sac
from stable_baselines3.td3 import policies as td3


class Learner(Protocol):
    """Parameters and their optimiser."""

    @property
    def optimizer(self) -> th.optim.Optimizer: ...

    def attached(self) -> bool:
        """Whether what is trained here is still what SB3's modules and optimiser hold."""
        ...


class Critics(Learner, Protocol):
    """The ensemble of critics, its target, and its optimiser."""

    def q_values(self, observations: Any, actions: th.Tensor) -> th.Tensor:
        """Q-values of stored actions, to be followed by `descend`: ``(N, B, 1)``."""
        ...

    def descend(self, dq: th.Tensor) -> None:
        """A step of the optimiser; ``dq`` is the gradient by the last `q_values`, ``(N, B, 1)``."""
        ...

    def target_q_values(self, observations: Any, actions: th.Tensor) -> th.Tensor:
        """Q-values of the target critics: ``(N, B, 1)``."""
        ...

    def q_of_policy(self, observations: Any, actions: th.Tensor, first: bool = False) -> th.Tensor:
        """
        Q-values of the policy's actions, to be followed by `action_gradient`.

        :param first: of the first critic only
        :return: ``(N, B, 1)`` or ``(1, B, 1)``
        """
        ...

    def action_gradient(self, dq: th.Tensor) -> th.Tensor:
        """
        :param dq: shaped as the last `q_of_policy`, the gradient of the loss by it
        :return: the gradient of the loss by the actions, ``(B, action_dim)``
        """
        ...

    def track(self, tau: float) -> None:
        """Move the target: theta' <- (1 - tau) theta' + tau theta."""
        ...


class Actor(Learner, Protocol):
    """What acts in the environments; the written-out ones also have `explore`."""

    def acts(self) -> bool:
        """Whether acting still reads the parameters of SB3's actor."""
        ...


class GaussianActor(Actor, Protocol):
    """SAC's actor and its optimiser."""

    def sample(
        self, observations: Any, next_observations: Any
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor, th.Tensor]:
        """
        Draw an action for each row, the first ones to be followed by `descend`.

        :return: actions ``(B, action_dim)`` and log-probabilities ``(B, 1)``, then the same for
            ``next_observations``
        """
        ...

    def descend(self, da: th.Tensor, dlog_prob: th.Tensor) -> None:
        """
        A step of the optimiser.

        :param da: the gradient by the actions of the last `sample`, ``(B, action_dim)``
        :param dlog_prob: and by their log-probabilities, ``(B, 1)``
        """
        ...


class DeterministicActor(Actor, Protocol):
    """The actor of DDPG and TD3, its target, and its optimiser."""

    def act(self, observations: Any) -> th.Tensor:
        """Actions, to be followed by `descend`: ``(B, action_dim)``."""
        ...

    def target_act(self, observations: Any) -> th.Tensor:
        """Actions of the target actor: ``(B, action_dim)``."""
        ...

    def descend(self, da: th.Tensor) -> None:
        """A step of the optimiser; ``da`` is the gradient by the last `act`."""
        ...

    def track(self, tau: float) -> None:
        """As `Critics.track`."""
        ...


class Temperature(Learner, Protocol):
    """SAC's temperature and its optimiser."""

    @property
    def log_alpha(self) -> th.Tensor:
        """``(1,)``"""
        ...

    def descend(self, dlog_alpha: th.Tensor) -> None:
        """A step of the optimiser; ``dlog_alpha`` is the gradient by log alpha, a scalar."""
        ...


class Backend(Protocol):
    """A module with a class for each of them; the optimisers are those of SB3's modules."""

    def preparation(self, policy: Any) -> Callable[[Any], Any]:
        """A function from a batch of observations to what the learners read."""
        ...

    # ruff: noqa: N802
    # Named as the classes; and in this order, since below a method its name is no longer a type.
    def GaussianActor(self, actor: sac.Actor, critics: Critics) -> GaussianActor:
        """:param critics: made by the same module; they may share parameters with the actor"""
        ...

    def DeterministicActor(
        self, actor: td3.Actor, actor_target: td3.Actor
    ) -> DeterministicActor: ...

    def Critics(self, critic: ContinuousCritic, critic_target: ContinuousCritic) -> Critics: ...

    def Temperature(self, log_alpha: th.Tensor, optimizer: th.optim.Optimizer) -> Temperature: ...
