"""One process for several environments together, as SB3's algorithms want it."""

from collections.abc import Iterable
from inspect import signature
from typing import NoReturn

import numpy as np
from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise

from pyrl_sb3.noise.action import Array


class WrongShapeError(ValueError):
    """What a process draws does not fit the environments and their actions."""


class JointNoise(VectorizedActionNoise):
    """
    A process with draws of shape ``(n_envs, *action_shape)``. SB3 takes what is no
    `VectorizedActionNoise` for the noise of one environment.

    A process whose `reset` takes `indices` is told which environments begin an episode; another one
    goes on until all do.

    :param noise: the process
    :param shape: of its draws
    """

    def __init__(self, noise: ActionNoise, shape: tuple[int, ...]) -> None:
        # Not SB3's constructor, which copies the process.
        ActionNoise.__init__(self)
        self.n_envs = shape[0]
        self.base_noise = noise
        self.shape = shape
        self._noises = [_Part(self.n_envs)] * self.n_envs
        self._takes_indices = "indices" in signature(noise.reset).parameters

    def reset(self, indices: Iterable[int] | None = None) -> None:
        """Start an episode, in all environments or some."""
        if indices is None:
            self.base_noise.reset()
        elif self._takes_indices:
            self.base_noise.reset(indices=indices)  # type: ignore[call-arg]  # it takes them

    def __call__(self) -> Array:
        """The noise of one step; see `_drawn`."""
        return _drawn(self.base_noise, self.shape)

    def __repr__(self) -> str:
        return f"JointNoise({self.base_noise})"


class JointNoiseOfOne(ActionNoise):
    """
    `JointNoise` of a single environment, with draws of the shape of an action.

    :param noise: the process, with draws of shape ``(1, *action_shape)``
    :param shape: of an action
    """

    def __init__(self, noise: ActionNoise, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.base_noise = noise
        self.shape = (1, *shape)

    def reset(self) -> None:
        """Start an episode."""
        self.base_noise.reset()

    def __call__(self) -> Array:
        """The noise of one step; see `_drawn`."""
        first: Array = _drawn(self.base_noise, self.shape)[0]
        return first

    def __repr__(self) -> str:
        return f"JointNoiseOfOne({self.base_noise})"


def _drawn(noise: ActionNoise, shape: tuple[int, ...]) -> Array:
    """
    A draw of the shape.

    :raises WrongShapeError: it has another
    """
    drawn = noise()
    if np.shape(drawn) != shape:
        raise WrongShapeError(f"{noise}: draws have shape {np.shape(drawn)}, not {shape}")
    return drawn


class _Part(ActionNoise):
    """Stands for one environment where somebody asks, and cannot go on alone."""

    def __init__(self, n_envs: int) -> None:
        super().__init__()
        self.n_envs = n_envs

    def __call__(self) -> NoReturn:
        raise ValueError(
            f"the noise is one process for {self.n_envs} environments together, "
            "and cannot go on with another number of them"
        )
