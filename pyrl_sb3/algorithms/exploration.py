"""How noise makes actions: added, in place of the policy's own, or on the actor's parameters."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import repeat
from typing import Any, ClassVar, cast

import numpy as np
import torch as th
from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise
from stable_baselines3.common.type_aliases import MaybeCallback
from torch import nn
from torch.nn.utils import parameters_to_vector

from pyrl_sb3.algorithms.acting import Array
from pyrl_sb3.algorithms.step import GradientSteps, Metrics, rows_of
from pyrl_sb3.algorithms.watch import identical
from pyrl_sb3.noise.parameter import ParameterNoise
from pyrl_sb3.noise.policy import PolicyNoise
from pyrl_sb3.noise.several import for_envs


class Exploration(GradientSteps):
    """
    Noise for an SB3 off-policy algorithm; mixed in before it.

    Differences from SB3:

    - noise for another number of environments than the model's is taken over: processes go on or
      are begun, none is a copy that draws the same;
    - where training goes on in the middle of an episode, so does the noise;
    - `PolicyNoise` and `ParameterNoise` work.

    :cvar takes_noise: of the kinds that are not added to actions, those it can explore with
    """

    takes_noise: ClassVar[frozenset[type[ActionNoise]]] = frozenset({ParameterNoise})

    _bound = (*GradientSteps._bound, "_explorers")
    _explorers: "Sequence[_Explorer]" = ()
    # The actor's parameters, from which those of the running episodes were made
    _perturbed_of: Sequence[nn.Parameter] = ()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_perturbed_of"]

    def _bind(self) -> None:
        super()._bind()
        policy: Any = self.policy
        before, now = self._perturbed_of, list(policy.actor.parameters())
        if before and not identical(before, now):
            for noise in self._parameter_noises():
                noise.reset()
        self._explorers, self._perturbed_of = (), now

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        goes_on = not reset_num_timesteps and self._last_obs is not None
        if self.action_noise is not None:
            noise = self.action_noise = for_envs(self.action_noise, self.n_envs)
            if problem := noise_problem(type(self), noise, use_sde=self.use_sde):
                raise ValueError(problem)
            if noises := self._parameter_noises():
                noises[0].begin(self._n_updates)
        # Where training goes on, SB3 resets the noise, but no environment.
        kept = self.action_noise if goes_on else None
        with nullcontext() if kept is None else _once_not_reset(kept):
            return super()._setup_learn(
                total_timesteps, callback, reset_num_timesteps, *args, **kwargs
            )

    def _explore(self) -> Array:
        """Actions of the policy, ``(n_envs, *action_shape)``, in [-1, 1]."""
        raise NotImplementedError

    def _explore_with(self, noise: ActionNoise | None) -> Array:
        """Actions of policy and noise, ``(n_envs, *action_shape)``, in [-1, 1]."""
        if noise is None:
            return self._explore()
        processes = _processes(noise)
        if isinstance(processes[0], PolicyNoise):
            return self._explore_driven(cast("list[PolicyNoise]", processes))
        if isinstance(processes[0], ParameterNoise):
            return self._explore_perturbed(cast("list[ParameterNoise]", processes))
        return np.clip(self._explore() + noise(), -1, 1)

    def _explore_driven(self, noises: Sequence[PolicyNoise]) -> Array:
        assert self._last_obs is not None
        observations, _ = self.policy.obs_to_tensor(self._last_obs)
        with th.no_grad():
            mean, log_std, _ = self.actor.get_action_dist_params(observations)
            drawn = np.stack([noise.draw() for noise in noises]).reshape(mean.shape)
            actions = th.tanh(mean + log_std.exp() * th.as_tensor(drawn).to(mean))
        return self._shaped(actions)

    def _explore_perturbed(self, noises: Sequence[ParameterNoise]) -> Array:
        """Each environment explored by an actor of its own, which stays the same for an episode."""
        assert self._last_obs is not None
        observations, _ = self.policy.obs_to_tensor(self._last_obs)
        if len(self._explorers) != len(noises):
            self._explorers = [_Explorer(self.policy) for _ in noises]
        actions = []
        for i, (explorer, noise) in enumerate(zip(self._explorers, noises, strict=True)):
            if noise.parameters is None:
                noise.parameters = self._perturbed(noise)
            explorer.take(noise.parameters)
            own = rows_of(observations, slice(i, i + 1))
            actions.append(explorer.act(own, deterministic=False))
        return self._shaped(th.cat(actions))

    def _shaped(self, actions: th.Tensor) -> Array:
        shape = self.action_space.shape
        assert shape is not None
        return actions.cpu().numpy().reshape(-1, *shape)

    def _perturbed(self, noise: ParameterNoise) -> Array:
        policy: Any = self.policy
        own = parameters_to_vector(policy.actor.parameters()).detach().cpu().numpy()
        return noise.perturb(own, _outside_layer_norm(policy.actor))

    def _record(self, metrics: Metrics) -> None:
        super()._record(metrics)
        if noises := self._parameter_noises():
            self._adapt(noises)

    def _parameter_noises(self) -> list[ParameterNoise]:
        """One for each environment, where the noise is on the actor's parameters."""
        noises = [] if self.action_noise is None else _processes(self.action_noise)
        return [each for each in noises if isinstance(each, ParameterNoise)]

    def _adapt(self, noises: Sequence[ParameterNoise]) -> None:
        """Measure, on replayed observations, what sigma makes of the actions, and adapt it."""
        first = noises[0]
        due = first.due(self._n_updates)
        if not due:
            return
        for _ in range(due):
            distance = self._distance(first)
            first.adapt(distance)
        for noise in noises[1:]:
            noise.sigma = first.sigma
        self.logger.record("rollout/parameter_noise_sigma", first.sigma)
        self.logger.record("rollout/parameter_noise_distance", distance)

    def _distance(self, noise: ParameterNoise) -> float:
        """Root mean square of the difference that perturbed parameters make of the actions."""
        assert self.replay_buffer is not None
        batch = self.replay_buffer.sample(self.batch_size, env=self._vec_normalize_env)
        explorer = _Explorer(self.policy)
        own = explorer.act(batch.observations, deterministic=True)
        explorer.take(self._perturbed(noise))
        perturbed = explorer.act(batch.observations, deterministic=True)
        return float((perturbed - own).square().mean().sqrt())


class _Explorer:
    """
    A policy that acts with other parameters of its actor for a moment.

    It is lent them, since a copy would lack what hooks and methods, put on any part of it, do.
    """

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self._parameters: list[nn.Parameter] = list(policy.actor.parameters())
        self._taken: Array | None = None
        self._lent = [each.data for each in self._parameters]  # its own, until others are taken

    def take(self, parameters: Array) -> None:
        """:param parameters: ``(size,)``, not to be changed later"""
        if parameters is not self._taken:
            first = self._parameters[0]
            flat = th.tensor(parameters, dtype=first.dtype, device=first.device)
            parts = flat.split_with_sizes([each.numel() for each in self._parameters])
            self._lent = list(map(th.Tensor.view_as, parts, self._parameters))
            self._taken = parameters

    def act(self, observations: Any, *, deterministic: bool) -> th.Tensor:
        """Actions, ``(batch, action_dim)``."""
        if self._policy.actor.training:
            self._policy.actor.set_training_mode(False)
        own = [parameter.data for parameter in self._parameters]
        with th.no_grad():
            try:
                _lend(self._parameters, self._lent)
                return self._policy._predict(observations, deterministic=deterministic)
            finally:
                _lend(self._parameters, own)


def _lend(parameters: Sequence[nn.Parameter], memory: Sequence[th.Tensor]) -> None:
    # In one call, which Ctrl-C does not divide.
    deque(map(setattr, parameters, repeat("data"), memory), maxlen=0)


@contextmanager
def _once_not_reset(noise: ActionNoise) -> Iterator[None]:
    """The first reset in here leaves the noise as it is."""
    attributes = vars(noise)
    as_it_was = {"reset": attributes["reset"]} if "reset" in attributes else {}

    def skip() -> None:
        del attributes["reset"]
        attributes.update(as_it_was)

    attributes["reset"] = skip
    try:
        yield
    finally:
        if attributes.get("reset") is skip:
            skip()


def noise_problem(algorithm: type, noise: ActionNoise, *, use_sde: bool) -> str | None:
    """
    Why an algorithm cannot explore with noise, in one line; None where it can.

    :param algorithm: any class
    :param use_sde: whether it explores with gSDE besides
    """
    process = _processes(noise)[0]
    if not isinstance(process, (PolicyNoise, ParameterNoise)):
        return None
    name = algorithm.__name__
    if use_sde:
        return f"{process} is for a policy without gSDE, this {name} explores with gSDE"
    takes: frozenset[type[ActionNoise]] = getattr(algorithm, "takes_noise", frozenset())
    if isinstance(process, tuple(takes)):
        return None
    if isinstance(process, PolicyNoise) and ParameterNoise in takes:
        return (
            f"{process} is for a policy that draws its actions, this {name} has a deterministic "
            "policy: use SAC"
        )
    ours = "SAC" if isinstance(process, PolicyNoise) else "DDPG, TD3 or SAC"
    return f"{name} cannot explore with {process}: use {ours} of pyrl_sb3, or ou_0.2 and the like"


def _processes(noise: ActionNoise) -> list[ActionNoise]:
    return noise.noises if isinstance(noise, VectorizedActionNoise) else [noise]


def _outside_layer_norm(actor: nn.Module) -> Array:
    """1 for each parameter that is perturbed, 0 for those of layer normalisation."""
    norms = [module for module in actor.modules() if isinstance(module, nn.LayerNorm)]
    inside = {parameter for norm in norms for parameter in norm.parameters()}
    parts = [np.full(p.numel(), p not in inside, np.float32) for p in actor.parameters()]
    return np.concatenate(parts)
