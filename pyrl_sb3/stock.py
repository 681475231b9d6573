"""
What the policies spare stock algorithms, whose losses differentiate more than is used.

What is computed is the same, and so are the gradients that anything is trained with.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch as th
from sb3_contrib.crossq import policies as crossq
from sb3_contrib.tqc import policies as tqc
from stable_baselines3.common import policies as sb3
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn
from torch.distributions import Normal

from pyrl_sb3.errors import NotANumberError

LOG_ROOT_2_PI = math.log(math.sqrt(2 * math.pi))

if TYPE_CHECKING:

    class _Critic(sb3.BaseModel):
        def forward(self, obs: PyTorchObs, actions: th.Tensor) -> Any: ...
else:
    _Critic = object


class ConstantForPolicies(_Critic):
    """
    A critic whose parameters are constants where it judges what a policy has just done, as in the
    losses of policies. There stock algorithms compute the gradients of both, and throw those of
    the critic away before its next step; a quarter of its products are for these.

    That actions were computed shows in their ``grad_fn``. Where they are only asked for their
    gradient, as a gradient penalty does with ``actions.requires_grad_()``, nothing is constant.
    """

    constants: tuple[nn.Parameter, ...] = ()

    def leave_to(self, optimizer: th.optim.Optimizer) -> None:
        """
        Take as constants all parameters but those which ``optimizer``, the policy's, trains: an
        encoder of both, for example.
        """
        if "_own" not in vars(self):
            self._own = tuple(self.parameters())  # to walk through the modules takes long
        trained = {p for group in optimizer.param_groups for p in group["params"]}
        self.constants = tuple(p for p in self._own if p not in trained)

    def forward(self, obs: PyTorchObs, actions: th.Tensor) -> Any:
        with _constant(self.constants if actions.grad_fn else ()):
            return super().forward(obs, actions)


@contextmanager
def _constant(parameters: tuple[nn.Parameter, ...]) -> Iterator[None]:
    learned = [p for p in parameters if p.requires_grad]
    for p in learned:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learned:
            p.requires_grad_(True)


class ContinuousCritic(ConstantForPolicies, sb3.ContinuousCritic):
    """SB3's critics of SAC, TD3 and DDPG; see `ConstantForPolicies`."""

    def q1_forward(self, obs: Any, actions: th.Tensor) -> th.Tensor:
        with _constant(self.constants if actions.grad_fn else ()):
            return super().q1_forward(obs, actions)


class QuantileCritic(ConstantForPolicies, tqc.Critic):
    """sb3-contrib's critics of TQC; see `ConstantForPolicies`."""


class CrossQCritic(ConstantForPolicies, crossq.CrossQCritic):
    """sb3-contrib's critics of CrossQ; see `ConstantForPolicies`."""


_LEAN: dict[type, type[ConstantForPolicies]] = {
    sb3.ContinuousCritic: ContinuousCritic,
    tqc.Critic: QuantileCritic,
    crossq.CrossQCritic: CrossQCritic,
}


def spare(network: Any) -> None:
    """Make an actor or critic, just built by its policy, do without what is not used; one of a
    user's class stays as it is.
    """
    # Not built anew as another class: a policy's `make_critic` may have done more than build it.
    network.__class__ = _LEAN.get(type(network), type(network))
    if type(vars(network).get("action_dist")) is SquashedDiagGaussianDistribution:
        drawn = network.action_dist
        network.action_dist = SquashedGaussian(drawn.action_dim, drawn.epsilon)


class SquashedGaussian(SquashedDiagGaussianDistribution):
    """
    SB3's, by the same operations on the same noise, without the checks and broadcasts around them
    (Haarnoja 2018, https://arxiv.org/abs/1801.01290, appendix C).
    """

    def log_prob_from_params(
        self, mean_actions: th.Tensor, log_std: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor]:
        """
        :param mean_actions: ``(batch, action_dim)``, before squashing
        :param log_std: likewise
        :return: actions ``(batch, action_dim)``, log-probabilities ``(batch,)``
        :raises NotANumberError: a mean is NaN
        """
        if mean_actions.isnan().any():
            raise NotANumberError("the mean of an action is NaN: a parameter of the policy is")
        std = log_std.exp()
        # For whoever asks for it
        self.distribution = Normal(mean_actions, std, validate_args=False)
        self.gaussian_actions = u = mean_actions + th.randn_like(mean_actions) * std
        actions = u.tanh()
        log_prob = -((u - mean_actions) ** 2) / (2 * std**2) - std.log() - LOG_ROOT_2_PI
        log_slopes = th.log(1 - actions**2 + self.epsilon)
        return actions, log_prob.sum(dim=1) - log_slopes.sum(dim=1)
