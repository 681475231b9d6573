"""Noise for environments side by side: a process each, and never the same stream twice."""

import copy
from collections.abc import Iterator, Sequence

import numpy as np
from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise

from pyrl_sb3.noise.action import Array
from pyrl_sb3.noise.greedy import stacked


class PerEnvNoise(VectorizedActionNoise):
    """
    One ready-made process per environment; SB3's class would copy one, generator and all.

    :param noises: one for each environment
    """

    def __init__(self, noises: Sequence[ActionNoise]) -> None:
        # Not SB3's constructor and setter, which copy the processes and reset them.
        ActionNoise.__init__(self)
        self.n_envs = len(noises)
        self.base_noise = noises[0]
        self._noises = list(noises)

    def __call__(self) -> Array:
        """The noise of one step, ``(n_envs, *action_shape)``."""
        return stacked([noise() for noise in self.noises])


def for_envs(noise: ActionNoise, n_envs: int) -> ActionNoise:
    """
    The noise for `n_envs` environments: processes that are there go on, others are begun.

    What is begun is a copy of the first with generators spawned from its own. A process without a
    generator, such as SB3's, draws from numpy's global one and is merely copied. Generators must
    be attributes of the process, or of a process that is.
    """
    old = noise.noises if isinstance(noise, VectorizedActionNoise) else [noise]
    if type(noise) is VectorizedActionNoise and any(_generators(old[0])):
        old = old[:1]  # of which the others are copies, generator and all
    if len(old) == n_envs and (n_envs == 1) == (not isinstance(noise, VectorizedActionNoise)):
        return noise
    more = [_begun(old[0]) for _ in range(n_envs - len(old))]
    noises = [*old[:n_envs], *more]
    return noises[0] if n_envs == 1 else PerEnvNoise(noises)


def _begun(noise: ActionNoise) -> ActionNoise:
    """A copy with generators of its own, at the start of an episode."""
    fresh = {id(rng): rng.spawn(1)[0] for rng in _generators(noise)}
    new = copy.deepcopy(noise, fresh)
    new.reset()
    return new


def _generators(noise: ActionNoise) -> Iterator[np.random.Generator]:
    for value in vars(noise).values():
        if isinstance(value, np.random.Generator):
            yield value
        elif isinstance(value, ActionNoise):
            yield from _generators(value)
