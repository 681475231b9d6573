"""Coloured noise, made block by block in the frequency domain."""

from math import prod
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.noise import ActionNoise

from pyrl_sb3.plugins import NoiseContext

Array = NDArray[Any]

DEFAULT_LENGTH = 1024


class ColoredNoise(ActionNoise):
    """
    Gaussian noise with a power spectrum proportional to 1/f**exponent (Timmer & Koenig 1995,
    https://ui.adsabs.harvard.edu/abs/1995A&A...300..707T), each dimension on its own. Pink noise,
    exponent 1, explores well across tasks (Eberhard 2023,
    https://openreview.net/forum?id=hQ9V5QN27eS).

    A block of `length` steps is drawn at once; the next begins when it is used up, and at each
    reset. Frequency 0 gets the power of the lowest other, so that the noise of a block has a mean.

    :param action_dim: Dimensions of an action, or its shape.
    :param exponent: 0 is white, 1 pink, 2 red noise.
    :param sigma: Standard deviation, one or one per dimension; actions are scaled to [-1, 1].
    :param length: Steps in a block, best those of an episode; rounded up to an even number.
    :param rng: Generator to draw from.
    :raises ValueError: for a parameter out of range.
    """

    def __init__(
        self,
        action_dim: int | tuple[int, ...],
        exponent: float,
        sigma: ArrayLike,
        length: int,
        rng: np.random.Generator,
    ) -> None:
        super().__init__()
        self.shape = (action_dim,) if isinstance(action_dim, int) else tuple(action_dim)
        self.sigma = np.asarray(sigma, dtype=np.float64)
        if self.sigma.shape not in ((), (1,), self.shape):
            raise ValueError(f"sigma has shape {self.sigma.shape}, the actions have {action_dim}")
        if not (np.isfinite(self.sigma).all() and (self.sigma >= 0).all()):
            raise ValueError(f"sigma must be finite and not negative, not {sigma!r}")
        if not np.isfinite(exponent):
            raise ValueError(f"exponent must be finite, not {exponent!r}")
        if not isinstance(length, Integral) or length < 2:
            raise ValueError(f"length must be at least 2 whole steps, not {length!r}")
        self.exponent = exponent
        self.rng = rng
        self.length = length + length % 2
        self.reset()

    def reset(self) -> None:
        """Begin a new block with the next step."""
        self._block = np.empty((0, *self.shape), np.float32)
        self._used = 0

    def __call__(self) -> Array:
        """The noise of one step, of the shape of an action."""
        if self._used == len(self._block):
            self._block, self._used = self._draw(), 0
        self._used += 1
        return self._block[self._used - 1].copy()

    def __repr__(self) -> str:
        sigma = self.sigma.tolist()
        return f"ColoredNoise(exponent={self.exponent}, sigma={sigma}, length={self.length})"

    def _draw(self) -> Array:
        """A block, ``(length, *shape)``."""
        frequencies = np.arange(self.length // 2 + 1)
        frequencies[0] = 1
        amplitude = frequencies ** (-self.exponent / 2)
        # All but the first and the last stand for a positive and a negative frequency.
        weight = np.full(len(amplitude), 2.0)
        weight[[0, -1]] = 1
        amplitude *= self.length / np.sqrt((weight * amplitude**2).sum())
        shape = (2, prod(self.shape), len(amplitude))
        real, imaginary = self.rng.standard_normal(shape)
        spectrum = (real + 1j * imaginary) * np.sqrt(0.5)
        spectrum[:, [0, -1]] = real[:, [0, -1]]
        block = np.fft.irfft(spectrum * amplitude, n=self.length)
        block = block.T.reshape(-1, *self.shape)
        return np.ascontiguousarray((self.sigma * block).astype(np.float32))


def colored(
    context: NoiseContext,
    *,
    exponent: float = 1.0,
    sigma: ArrayLike = 0.3,
    length: int | None = None,
) -> ColoredNoise:
    """
    Coloured noise for one environment.

    :param length: Steps in a block; by default those of an episode, where it has a limit.
    """
    if length is None:
        length = context.max_episode_steps or DEFAULT_LENGTH
    return ColoredNoise(context.action_space.shape, exponent, sigma, length, context.rng)
