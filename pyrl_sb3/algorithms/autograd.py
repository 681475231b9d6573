"""
Actors and critics of any kind, by autograd.

What their methods are for is said in `pyrl_sb3.algorithms.learners`. Tensors that come back are
detached; the graph stays here.
"""

from collections.abc import Callable
from itertools import compress
from typing import Any

import torch as th
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.utils import get_parameters_by_name
from stable_baselines3.sac import policies as sac
from stable_baselines3.td3 import policies as td3
from torch import nn

from pyrl_sb3.algorithms import learners


def preparation(policy: Any) -> Callable[[Any], Any]:
    return lambda observations: observations


class Follower:
    """
    A network that follows another by Polyak averaging, theta' = (1 - tau) theta' + tau theta.

    Statistics of batch normalisation are copied, https://github.com/DLR-RM/stable-baselines3/issues/996
    """

    def __init__(self, online: nn.Module, target: nn.Module) -> None:
        # Lists: to walk through the modules takes longer than to average.
        self._online: list[th.Tensor] = list(online.parameters())
        self._target: list[th.Tensor] = list(target.parameters())
        self._statistics = [get_parameters_by_name(net, ["running_"]) for net in (online, target)]

    @th.no_grad()
    def track(self, tau: float) -> None:
        th._foreach_lerp_(self._target, self._online, tau)
        for new, old in zip(*self._statistics, strict=True):
            old.copy_(new)


def _step(optimizer: th.optim.Optimizer, outputs: Any, gradients: Any) -> None:
    optimizer.zero_grad()
    learned = [output.requires_grad for output in outputs]
    if any(learned):  # what is trained is not frozen
        th.autograd.backward(list(compress(outputs, learned)), list(compress(gradients, learned)))
    optimizer.step()


class _InModules:
    """What trains the modules' own parameters, wherever they are."""

    def acts(self) -> bool:
        return True

    def attached(self) -> bool:
        return True


class Critics(_InModules):
    def __init__(self, critic: ContinuousCritic, critic_target: ContinuousCritic) -> None:
        self._online, self._target = critic, critic_target
        self.track = Follower(critic, critic_target).track
        self.optimizer = critic.optimizer
        self._shared: list[th.Tensor] = []
        self._of_shared: dict[th.Tensor, th.Tensor] = {}

    def share_with(self, actor: nn.Module) -> None:
        """Keep, with each gradient by the actions, those by parameters that are the actor's too."""
        own = set(self._online.parameters())
        self._shared = [p for p in actor.parameters() if p in own and p.requires_grad]

    def take_shared(self) -> dict[th.Tensor, th.Tensor]:
        """Parameters shared with the actor, and what the last `action_gradient` kept for them."""
        taken, self._of_shared = self._of_shared, {}
        return taken

    def q_values(self, observations: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        self._q = th.stack(self._online(observations, actions))
        return self._q.detach()

    def descend(self, dq: th.Tensor) -> None:
        _step(self.optimizer, [self._q], [dq])
        del self._q  # and the graph with it

    def target_q_values(self, observations: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        with th.no_grad():
            return th.stack(self._target(observations, actions))

    def q_of_policy(self, observations: Any, actions: th.Tensor, first: bool = False) -> th.Tensor:
        self._actions = actions.detach().requires_grad_()
        if first:
            self._q = self._online.q1_forward(observations, self._actions).unsqueeze(0)
        else:
            self._q = th.stack(self._online(observations, self._actions))
        return self._q.detach()

    def action_gradient(self, dq: th.Tensor) -> th.Tensor:
        inputs = [self._actions, *self._shared]
        gradient, *others = th.autograd.grad(self._q, inputs, dq, allow_unused=True)
        found = zip(self._shared, others, strict=True)
        self._of_shared = {p: other for p, other in found if other is not None}
        del self._q, self._actions
        return gradient


class GaussianActor(_InModules):
    def __init__(self, actor: sac.Actor, critics: learners.Critics) -> None:
        assert isinstance(critics, Critics)
        self._actor, self.optimizer, self._critics = actor, actor.optimizer, critics
        critics.share_with(actor)

    def sample(
        self, observations: PyTorchObs, next_observations: PyTorchObs
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor, th.Tensor]:
        if self._actor.use_sde:
            self._actor.reset_noise()
        self._actions, log_prob = self._actor.action_log_prob(observations)
        self._log_prob = log_prob.unsqueeze(1)
        with th.no_grad():
            next_actions, next_log_prob = self._actor.action_log_prob(next_observations)
        sampled = self._actions.detach(), self._log_prob.detach()
        return *sampled, next_actions, next_log_prob.unsqueeze(1)

    def descend(self, da: th.Tensor, dlog_prob: th.Tensor) -> None:
        # The policy's loss reaches an encoder of both through the critics' features too.
        shared = self._critics.take_shared()
        outputs = [self._actions, self._log_prob, *shared]
        _step(self.optimizer, outputs, [da, dlog_prob, *shared.values()])
        del self._actions, self._log_prob


class DeterministicActor(_InModules):
    def __init__(self, actor: td3.Actor, actor_target: td3.Actor) -> None:
        self._online, self._target = actor, actor_target
        self.track = Follower(actor, actor_target).track
        self.optimizer = actor.optimizer

    def act(self, observations: PyTorchObs) -> th.Tensor:
        self._actions = self._online(observations)
        return self._actions.detach()

    def target_act(self, observations: PyTorchObs) -> th.Tensor:
        with th.no_grad():
            return self._target(observations)

    def descend(self, da: th.Tensor) -> None:
        _step(self.optimizer, [self._actions], [da])
        del self._actions


class Temperature(_InModules):
    def __init__(self, log_alpha: th.Tensor, optimizer: th.optim.Optimizer) -> None:
        self.log_alpha, self.optimizer = log_alpha, optimizer

    def descend(self, dlog_alpha: th.Tensor) -> None:
        _step(self.optimizer, [self.log_alpha], [dlog_alpha.reshape(1)])
