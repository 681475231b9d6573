"""Critics that stock algorithms do not differentiate by their parameters for the policy's sake."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch as th
from sb3_contrib.crossq import policies as crossq
from sb3_contrib.tqc import policies as tqc
from stable_baselines3.common import policies as sb3
from torch import nn

if TYPE_CHECKING:
    _Critic = sb3.BaseModel
else:
    _Critic = object


class ConstantForPolicies(_Critic):
    """
    A critic whose parameters are constants where it judges computed actions, as in the losses of
    policies. Stock algorithms compute the gradients of both there, and throw those of the critic
    away before its next step: a fifth of the products of SAC, and all of a CNN's.

    That actions were computed shows in their ``grad_fn``.
    """

    constants: tuple[nn.Parameter, ...] = ()

    def leave_to(self, optimizer: th.optim.Optimizer | None) -> None:
        """
        Take as constants all parameters but those which ``optimizer``, the policy's, trains: an
        encoder of both, for example.

        :param optimizer: None outside of training, where nothing is constant
        """
        if optimizer is None:
            self.constants = ()
            return
        if "_own" not in vars(self):
            self._own = tuple(self.parameters())  # to walk through the modules takes long
        trained = {p for group in optimizer.param_groups for p in group["params"]}
        self.constants = tuple(p for p in self._own if p not in trained)

    @contextmanager
    def _judging(self, actions: th.Tensor) -> Iterator[None]:
        constants = self.constants if actions.grad_fn else ()
        learned = [p for p in constants if p.requires_grad]
        for p in learned:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in learned:
                p.requires_grad_(True)


class ContinuousCritic(ConstantForPolicies, sb3.ContinuousCritic):
    """SB3's critics of SAC, TD3 and DDPG; see `ConstantForPolicies`."""

    def forward(self, obs: Any, actions: th.Tensor) -> tuple[th.Tensor, ...]:
        with self._judging(actions):
            return super().forward(obs, actions)

    def q1_forward(self, obs: Any, actions: th.Tensor) -> th.Tensor:
        with self._judging(actions):
            return super().q1_forward(obs, actions)


class QuantileCritic(ConstantForPolicies, tqc.Critic):
    """sb3-contrib's critics of TQC; see `ConstantForPolicies`."""

    def forward(self, obs: Any, action: th.Tensor) -> th.Tensor:
        with self._judging(action):
            return super().forward(obs, action)


class CrossQCritic(ConstantForPolicies, crossq.CrossQCritic):
    """sb3-contrib's critics of CrossQ; see `ConstantForPolicies`."""

    def forward(self, obs: Any, actions: th.Tensor) -> tuple[th.Tensor, ...]:
        with self._judging(actions):
            return super().forward(obs, actions)


_KINDS: dict[type, type[ConstantForPolicies]] = {
    sb3.ContinuousCritic: ContinuousCritic,
    tqc.Critic: QuantileCritic,
    crossq.CrossQCritic: CrossQCritic,
}


def make_constant(critic: nn.Module) -> None:
    """
    Make a critic that its policy has just built one of those above.

    :raises TypeError: it is of another class
    """
    kind = type(critic)
    if kind not in _KINDS:
        raise TypeError(f"constant_critic: a {kind.__name__} of its own kind cannot be constant")
    # Not built anew as another class: a policy's `make_critic` may have done more than build it.
    critic.__class__ = _KINDS[kind]
