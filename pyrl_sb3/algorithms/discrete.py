"""What the gradient steps for discrete actions share."""

import torch as th
from gymnasium import spaces
from torch import nn

from pyrl_sb3.algorithms import autograd
from pyrl_sb3.algorithms.named import NamedPolicies
from pyrl_sb3.algorithms.replay import ReplayFiles
from pyrl_sb3.algorithms.step import GradientSteps
from pyrl_sb3.algorithms.watch import Watch


class DiscreteSteps(NamedPolicies, ReplayFiles, GradientSteps):
    """
    Training with discrete actions for an SB3 off-policy algorithm; mixed in before it.

    The backward pass is left to autograd.
    """

    def _setup_model(self) -> None:
        assert isinstance(self.action_space, spaces.Discrete), (
            f"{type(self).__name__} needs Discrete actions, not {self.action_space}"
        )
        if (first := self.action_space.start) != 0:
            raise ValueError(
                f"{self.action_space} counts its actions from {first}: SB3 counts from 0"
            )
        super()._setup_model()

    def _bind(self) -> None:
        self._obstacle = "the actions are discrete"
        self._prepare = autograd.preparation(self.policy)
        self._learners = ()
        self._watch = Watch(self)


def check_flags(model: object, *names: str) -> None:
    """
    Check arguments of an algorithm, its attributes of these names.

    :raises ValueError: one is neither True nor False; names it
    """
    for name in names:
        if (value := getattr(model, name)) not in (True, False):
            raise ValueError(f"{name}={value!r}: must be True or False")


def descend(optimizer: th.optim.Optimizer, loss: th.Tensor, max_grad_norm: float | None) -> None:
    """
    A step down the gradient of ``loss``.

    :param max_grad_norm: to which the gradient of all that the optimiser trains is scaled down,
        where its norm is larger
    """
    optimizer.zero_grad()
    th.autograd.backward(loss)
    if max_grad_norm is not None:
        # Not of a whole network, which may share an encoder that another optimiser trains.
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(trained, max_grad_norm)
    optimizer.step()
