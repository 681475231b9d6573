"""Random actions now and then, in place of the policy's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.noise import ActionNoise

from pyrl_sb3.noise.action import Array, Context, Standalone, require_plain


class Perturbation(np.ndarray[Any, np.dtype[Any]]):
    """
    Noise that, added to actions, takes the place of some of them: ``a + noise`` is what was drawn
    for those, and the sum for the others. So it works wherever noise is added, in SB3 too.

    As an array of its own it is the noise of the others.

    :ivar replaced: which actions it takes the place of: ``(1, ...)`` with the axes of an action, or
        ``(n_envs, 1, ...)``
    :ivar instead: shaped as the actions, by what
    """

    replaced: Array
    instead: Array

    def __array_finalize__(self, other: Any) -> None:
        """Views and slices are plain noise."""
        none = np.zeros((1,) * self.ndim, bool)
        self.replaced, self.instead = none, np.zeros(self.shape, self.dtype)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Stacked, as SB3's VectorizedActionNoise does, it goes on taking actions' places."""
        if func is np.stack and len(args) == 1 and not kwargs:
            return stacked(args[0])
        return super().__array_function__(func, types, args, kwargs)

    def __radd__(self, actions: Array) -> Array:  # type: ignore[override, unused-ignore]
        """Perturbed actions."""
        return np.where(self.replaced, self.instead, actions + np.asarray(self))


def perturbation(noise: Array, replaced: Array, instead: Array) -> Perturbation:
    """
    :param noise: on the actions that are not replaced, shaped as the actions
    :param replaced: as of `Perturbation`
    :param instead: likewise
    """
    made = noise.view(Perturbation)
    made.replaced, made.instead = replaced, instead
    return made


def stacked(draws: Sequence[Array]) -> Array:
    """The noise of several environments as one, ``(n_envs, ...)``."""
    noise = np.stack([np.asarray(draw) for draw in draws])
    if not any(isinstance(draw, Perturbation) for draw in draws):
        return noise
    each = [d if isinstance(d, Perturbation) else d.view(Perturbation) for d in draws]
    return perturbation(
        noise,
        np.stack([draw.replaced for draw in each]),
        np.stack([draw.instead for draw in each]),
    )


class EpsilonGreedy(Standalone):
    """
    A uniformly random action with some probability, otherwise the policy's with other noise on it,
    as in the first work on hindsight (Andrychowicz 2017, https://arxiv.org/abs/1707.01495,
    appendix A).

    :param shape: Shape of an action.
    :param probability: Of a random action, at each step.
    :param noise: On all other actions; None for none.
    :param rng: Generator to draw from.
    :raises ValueError: for a probability that is none, or noise that is not added to actions.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        probability: float,
        noise: ActionNoise | None,
        rng: np.random.Generator,
    ) -> None:
        super().__init__()
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be from 0 to 1, not {probability!r}")
        if noise is not None:
            require_plain("eps", noise)
        self.shape = shape
        self.probability = probability
        self.noise = noise
        self.rng = rng

    def reset(self) -> None:
        """Start an episode."""
        if self.noise is not None:
            self.noise.reset()

    def __call__(self) -> Array:
        """The noise of one step, of the shape of an action."""
        return self.scaled(1.0)

    def scaled(self, factor: float) -> Array:
        """The noise of one step, with the probability times `factor`."""
        noise = np.zeros(self.shape, np.float32) if self.noise is None else self.noise()
        replaced = self.rng.random((1,) * len(self.shape)) < factor * self.probability
        instead = self.rng.uniform(-1, 1, self.shape).astype(np.float32)
        return perturbation(np.asarray(noise), replaced, instead)

    def __repr__(self) -> str:
        return f"EpsilonGreedy(probability={self.probability}, noise={self.noise})"


def epsilon_greedy(
    context: Context, *, probability: float = 0.1, noise: ActionNoise | None = None
) -> EpsilonGreedy:
    """Random actions now and then, for one environment; as in `EpsilonGreedy`."""
    return EpsilonGreedy(context.action_space.shape, probability, noise, context.rng)
