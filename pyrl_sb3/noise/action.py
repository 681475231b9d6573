"""
Action noise. Each process owns its generator: parallel environments explore differently where each
has a process of its own (`NoiseContext(n_envs=...)`, `for_envs`), and alike where SB3 copies one,
generator and all. A seeded run does not depend on who else draws from numpy, and a pickled process
continues its stream.
"""

from typing import Any, Protocol, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.noise import ActionNoise

Array: TypeAlias = NDArray[Any]


class Context(Protocol):
    """What the factories use of `pyrl_sb3.plugins.NoiseContext`."""

    @property
    def action_space(self) -> spaces.Box:
        """Space of one environment's actions."""

    @property
    def rng(self) -> np.random.Generator:
        """The generator of one environment."""


class Standalone(ActionNoise):
    """Noise that is more than a sum with the actions, so that no other noise can be made of it."""


def require_plain(outer: str, noise: ActionNoise) -> None:
    """
    Check that noise is merely added to actions, itself and what it is made of.

    :param outer: what is to be made of it, for the message
    :raises ValueError: it is not
    """
    if not isinstance(noise, ActionNoise):  # a config may have anything there
        raise ValueError(f"{outer} takes noise that is added to actions, not {noise!r}")
    inner: object = noise
    while isinstance(inner, ActionNoise):
        if isinstance(inner, Standalone):
            raise ValueError(f"{outer} takes noise that is added to actions, not {inner}")
        inner = getattr(inner, "noise", None)


class GaussianNoise(ActionNoise):
    """
    Independent Gaussian noise.

    :param shape: Shape of an action.
    :param sigma: Standard deviation, one or one per dimension; actions are scaled to [-1, 1].
    :param rng: Generator to draw from.
    :raises ValueError: for a sigma that is negative, not finite, or of another shape.
    """

    def __init__(self, shape: tuple[int, ...], sigma: ArrayLike, rng: np.random.Generator) -> None:
        super().__init__()
        self.sigma = _scale(sigma, shape)
        self.rng = rng

    def __call__(self) -> Array:
        """The noise of one step, of the shape of an action."""
        return (self.sigma * self.rng.standard_normal(self.sigma.shape)).astype(np.float32)

    def __repr__(self) -> str:
        return f"GaussianNoise(sigma={_stated(self.sigma)})"


class OrnsteinUhlenbeckNoise(ActionNoise):
    """
    Ornstein-Uhlenbeck noise (Uhlenbeck & Ornstein 1930, https://doi.org/10.1103/PhysRev.36.823),
    correlated over about 1/theta steps.

    Unlike SB3's, `sigma` is the standard deviation that the noise really has, and each episode
    starts from that distribution rather than from zero; the discretisation is exact.

    :param shape: Shape of an action.
    :param sigma: Stationary standard deviation, one or one per dimension.
    :param theta: Rate of return to zero, per step.
    :param rng: Generator to draw from.
    :raises ValueError: for a theta that is not positive and finite, or a sigma as in
        `GaussianNoise`.
    """

    def __init__(
        self, shape: tuple[int, ...], sigma: ArrayLike, theta: float, rng: np.random.Generator
    ) -> None:
        super().__init__()
        if not 0 < theta < float("inf"):
            raise ValueError(f"theta must be positive and finite, not {theta!r}")
        self.sigma = _scale(sigma, shape)
        self.theta = theta
        self.rng = rng
        self.reset()

    def reset(self) -> None:
        """Start an episode: draw from the stationary distribution."""
        self.state = self.sigma * self.rng.standard_normal(self.sigma.shape)

    def __call__(self) -> Array:
        """The noise of one step, of the shape of an action."""
        noise = self.state
        decay = np.exp(-self.theta)
        fresh = self.rng.standard_normal(self.sigma.shape)
        self.state = decay * noise + np.sqrt(1 - decay**2) * self.sigma * fresh
        return noise.astype(np.float32)

    def __repr__(self) -> str:
        return f"OrnsteinUhlenbeckNoise(sigma={_stated(self.sigma)}, theta={self.theta})"


def gaussian(context: Context, *, sigma: ArrayLike = 0.1) -> GaussianNoise:
    """Gaussian noise for one environment; `sigma` as in `GaussianNoise`."""
    return GaussianNoise(context.action_space.shape, sigma, context.rng)


def ornstein_uhlenbeck(
    context: Context, *, sigma: ArrayLike = 0.2, theta: float = 0.15
) -> OrnsteinUhlenbeckNoise:
    """Ornstein-Uhlenbeck noise for one environment; as in `OrnsteinUhlenbeckNoise`."""
    return OrnsteinUhlenbeckNoise(context.action_space.shape, sigma, theta, context.rng)


def _scale(sigma: ArrayLike, shape: tuple[int, ...]) -> Array:
    scale = np.asarray(sigma, dtype=np.float64)
    if not (np.isfinite(scale).all() and (scale >= 0).all()):
        raise ValueError(f"sigma must be finite and not negative, not {sigma!r}")
    if scale.shape not in ((), shape):
        raise ValueError(f"sigma has shape {scale.shape}, the actions have {shape}")
    return np.broadcast_to(scale, shape).copy()


def _stated(sigma: Array) -> str:
    """Sigma in one line: one number where it is the same for all dimensions."""
    different = np.unique(sigma)
    return str(different[0] if len(different) == 1 else sigma.tolist())
