"""Noise that grows or, as a rule, falls over the training."""

from typing import Protocol

import numpy as np
from stable_baselines3.common.noise import ActionNoise

from pyrl_sb3.noise.action import Array, Context, require_plain
from pyrl_sb3.noise.greedy import EpsilonGreedy

SHAPES = ("linear", "cosine", "exponential")


class TrainingContext(Context, Protocol):
    """As `Context`, with the length of the training."""

    @property
    def total_timesteps(self) -> int | None:
        """Steps of the environment in the whole training."""

    @property
    def learning_starts(self) -> int:
        """How many of these are the warm-up, whose actions are not perturbed."""


class ScheduledNoise(ActionNoise):
    """
    Another process, scaled by a factor that goes from 1 to `end` and stays there.

    Progress is counted in the process's own draws, one for each step that it perturbs: the warm-up
    is not part of it.

    :param noise: What to scale; of `EpsilonGreedy`, the probability.
    :param steps: After how many draws the end is reached.
    :param end: The last factor.
    :param shape: The way there: ``"linear"``, ``"cosine"`` or ``"exponential"``.
    :raises ValueError: for a parameter out of range, or noise that is not added to actions.
    """

    # Where a longer training goes on from a checkpoint, the steps are those of its new length.
    not_restored = frozenset({"steps"})

    def __init__(self, noise: ActionNoise, steps: int, end: float, shape: str = "linear") -> None:
        super().__init__()
        if shape not in SHAPES:
            raise ValueError(f"shape must be one of {', '.join(SHAPES)}, not {shape!r}")
        if not (np.isfinite(end) and end >= 0) or (shape == "exponential" and end == 0):
            least = "above 0" if shape == "exponential" else "0 or more"
            raise ValueError(f"end must be {least}, not {end!r}")
        if not isinstance(noise, EpsilonGreedy):
            require_plain("scheduled", noise)
        elif noise.probability * end > 1 + 1e-9:
            last = noise.probability * end
            raise ValueError(f"the probability must be at most 1, not {last:g} in the end")
        if not 1 <= steps < float("inf"):
            raise ValueError(f"steps must be at least 1 and finite, not {steps!r}")
        self.noise = noise
        self.steps = steps
        self.end = end
        self.shape = shape
        self.draws = 0

    @property
    def factor(self) -> float:
        """By which the next draw is scaled."""
        done = min(self.draws / self.steps, 1.0)
        if self.shape == "exponential":
            return float(self.end**done)
        if self.shape == "cosine":
            done = (1 - np.cos(np.pi * done)) / 2
        return float(1 + (self.end - 1) * done)

    def reset(self) -> None:
        """Start an episode."""
        self.noise.reset()

    def __call__(self) -> Array:
        """The noise of one step, of the shape of an action."""
        factor = self.factor
        self.draws += 1
        if isinstance(self.noise, EpsilonGreedy):
            return self.noise.scaled(factor)
        return (factor * self.noise()).astype(np.float32)

    def __repr__(self) -> str:
        return f"ScheduledNoise({self.noise}, steps={self.steps}, end={self.end}, {self.shape})"


def scheduled(
    context: TrainingContext,
    *,
    noise: ActionNoise,
    end: float = 0.0,
    over: float = 1.0,
    shape: str = "linear",
    steps: int | None = None,
) -> ScheduledNoise:
    """
    Scaled noise for one environment; as in `ScheduledNoise`.

    :param over: The share of the training, its warm-up included, after which the end is reached. A
        run that is resumed with another length follows that one, as SB3's schedules do.
    :param steps: In place of that, after how many steps of the environment that are perturbed.
    :raises ValueError: neither `steps` nor the length of the training is known, or a parameter is
        out of range.
    """
    if steps is None:
        if context.total_timesteps is None:
            raise ValueError("the length of the training is not known: give steps")
        if not 0 < over <= 1:
            raise ValueError(f"over must be above 0 and at most 1, not {over!r}")
        steps = max(int(over * context.total_timesteps) - context.learning_starts, 1)
    return ScheduledNoise(noise, steps, end, shape)
