"""Noise on the parameters of the actor instead of its actions."""

from typing import NoReturn

import numpy as np

from pyrl_sb3.noise.action import Array, Context, Standalone


class ParameterNoise(Standalone):
    """
    Adaptive parameter noise (Plappert 2017, https://arxiv.org/abs/1706.01905): in each episode an
    environment is explored by the actor with Gaussian noise on its parameters, whose
    standard deviation sigma is adapted until the actions differ by `target` from the actor's own.

    Here are sigma, the generator and the parameters of the running episode; the algorithms of
    `pyrl_sb3` do the rest.

    :param target: Root mean square of the difference of the actions, which are in [-1, 1].
    :param rng: Generator to draw from.
    :param adapt_every: Gradient steps between adaptations.
    :param factor: By which an adaptation divides or multiplies sigma.
    :param sigma: In the beginning; None takes the target.
    :raises ValueError: for a parameter out of range.
    """

    def __init__(
        self,
        target: float,
        rng: np.random.Generator,
        adapt_every: int = 50,
        factor: float = 1.01,
        sigma: float | None = None,
    ) -> None:
        super().__init__()
        sigma = target if sigma is None else sigma
        for name, value in (("target", target), ("sigma", sigma)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} must be positive, not {value!r}")
        if not 1 < factor < float("inf"):
            raise ValueError(f"factor must be above 1, not {factor!r}")
        if adapt_every % 1 != 0:  # NaN and infinity too
            raise ValueError(f"adapt_every must be a whole number, not {adapt_every!r}")
        if adapt_every < 1:
            raise ValueError(f"adapt_every must be at least 1, not {adapt_every!r}")
        self.target = target
        self.rng = rng
        self.adapt_every = int(adapt_every)
        self.factor = factor
        self.sigma = sigma
        self.parameters: Array | None = None
        self.adaptations = 0

    def reset(self) -> None:
        """Start an episode: the actor is to be perturbed anew."""
        self.parameters = None

    def perturb(self, parameters: Array, where: Array) -> Array:
        """
        Parameters of a perturbed actor.

        :param parameters: ``(size,)``, the actor's own
        :param where: ``(size,)``, 1 for each that is perturbed, 0 for the others
        :return: ``(size,)``
        """
        noise = self.rng.standard_normal(len(parameters), dtype=np.float32)
        return parameters + np.float32(self.sigma) * noise * where

    def begin(self, gradient_steps: int) -> None:
        """Count adaptations from here, after so many gradient steps."""
        self.adaptations = gradient_steps // self.adapt_every

    def due(self, gradient_steps: int) -> int:
        """How many adaptations it is time for, after so many gradient steps."""
        last, self.adaptations = self.adaptations, gradient_steps // self.adapt_every
        return max(self.adaptations - last, 0)

    def adapt(self, distance: float) -> None:
        """
        Move sigma towards what makes the target.

        :param distance: root mean square of the difference that sigma makes now
        """
        self.sigma *= self.factor if distance < self.target else 1 / self.factor

    def __call__(self) -> NoReturn:
        """:raises TypeError: it is not to be added to actions."""
        raise TypeError(
            "parameter noise is for the actor: use it with pyrl_sb3's DDPG, TD3 or SAC, "
            "which know how to"
        )

    def __repr__(self) -> str:
        return f"ParameterNoise(target={self.target}, sigma={self.sigma})"


def parameter(
    context: Context,
    *,
    target: float = 0.2,
    adapt_every: int = 50,
    factor: float = 1.01,
    sigma: float | None = None,
) -> ParameterNoise:
    """Parameter noise in one environment; as in `ParameterNoise`."""
    return ParameterNoise(target, context.rng, adapt_every, factor, sigma)
