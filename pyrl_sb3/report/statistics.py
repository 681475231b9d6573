"""
What several runs say: aggregates, and how far they can be trusted.

Scores are `(runs, tasks)`: one number for each seed of each task. The estimators are those of
Agarwal 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(https://arxiv.org/abs/2108.13264). A run without a score is not left out: whoever calls gives it
one, or counts it as a failure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
# Of `(..., runs, tasks)` to `(...)`.
Statistic = Callable[[Array], Array]

REPS = 50_000
IMPROVEMENT_REPS = 2_000
_AT_ONCE = 4_000_000  # numbers that are resampled in one go: 32 MB


@dataclass(frozen=True)
class Estimate:
    """
    A number and its confidence interval; `low` and `high` are None where there is none.

    Attributes:
        value: of the scores as they are.
        low: the lower end.
        high: the upper end.
    """

    value: float
    low: float | None
    high: float | None


def iqm(scores: Array) -> Array:
    """
    The interquartile mean: that of the middle half of all scores of all tasks.

    As `scipy.stats.trim_mean(scores, 0.25)`, which rliable uses: a quarter of the number of scores,
    rounded down, is cut off at each end. With 10 scores these are 2, not 2.5.

    Args:
        scores: `(..., runs, tasks)`.
    """
    pooled = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = pooled.shape[-1] // 4
    return pooled[..., cut : pooled.shape[-1] - cut].mean(axis=-1)


def pointwise_iqm(scores: Array) -> Array:
    """The `iqm` at each point of curves: of `(..., runs, points)`, `(..., points)`."""
    return iqm(scores.swapaxes(-1, -2)[..., None])


def mean(scores: Array) -> Array:
    """The mean over the tasks' means; `scores` are `(..., runs, tasks)`."""
    return scores.mean(axis=(-2, -1))


def run_median(scores: Array) -> Array:
    """The median over all scores; `scores` are `(..., runs, tasks)`."""
    return np.median(scores, axis=(-2, -1))


def optimality_gap(scores: Array, gamma: float) -> Array:
    """How far scores stay below `gamma` in the mean, those above it counted as `gamma`."""
    return gamma - np.minimum(scores, gamma).mean(axis=(-2, -1))


def bootstrap(
    scores: Array, statistic: Statistic, rng: np.random.Generator, reps: int = REPS
) -> Array:
    """
    Return a statistic of stratified resamples: the runs of each task are drawn by themselves.

    Args:
        scores: `(runs, tasks)`.
        statistic: takes `(reps, runs, tasks)`.
        rng: draws.
        reps: resamples.

    Returns:
        `(reps, ...)`.
    """
    runs, tasks = scores.shape
    chunk = max(1, _AT_ONCE // scores.size)
    found = []
    for first in range(0, reps, chunk):
        chosen = rng.integers(runs, size=(min(chunk, reps - first), runs, tasks))
        found.append(statistic(scores[chosen, np.arange(tasks)]))
    return np.concatenate(found)


def interval(samples: Array) -> tuple[Array, Array]:
    """Return both ends of the 95% percentile interval of bootstrap samples, `(reps, ...)`."""
    low, high = np.quantile(samples, (0.025, 0.975), axis=0)
    return low, high


def estimate(
    scores: Array,
    statistic: Statistic,
    rng: np.random.Generator,
    reps: int = REPS,
    *,
    coupled: bool = False,
) -> Estimate:
    """
    Return a statistic with its 95% stratified-bootstrap interval.

    Args:
        scores: `(runs, tasks)`.
        statistic: takes `(..., runs, tasks)`.
        rng: draws.
        reps: resamples.
        coupled: the runs learned from each other, so they are one sample, and have no interval.
    """
    value = float(statistic(scores))
    if coupled or len(scores) < 2:
        return Estimate(value, None, None)
    low, high = interval(bootstrap(scores, statistic, rng, reps))
    return Estimate(value, float(low), float(high))


def probability_of_improvement(x: Array, y: Array) -> Array:
    """
    The probability that a run of `x` scores higher than one of `y`, ties counted as half, in the
    mean over the tasks (the Mann-Whitney U statistic over the number of pairs).

    Args:
        x: `(..., runs, tasks)`.
        y: `(..., other runs, tasks)`.
    """
    ahead = x[..., :, None, :] > y[..., None, :, :]
    even = x[..., :, None, :] == y[..., None, :, :]
    return (ahead + 0.5 * even).mean(axis=(-3, -2, -1))


def improvement(x: Array, y: Array, rng: np.random.Generator) -> Estimate:
    """Return `probability_of_improvement` with its interval, `x` and `y` resampled separately."""
    value = float(probability_of_improvement(x, y))
    if min(len(x), len(y)) < 2:
        return Estimate(value, None, None)

    def drawn(scores: Array) -> Array:
        return bootstrap(scores, lambda resamples: resamples, rng, IMPROVEMENT_REPS)

    low, high = interval(probability_of_improvement(drawn(x), drawn(y)))
    return Estimate(value, float(low), float(high))


def performance_profile(scores: Array, thresholds: Array) -> Array:
    """
    The share of runs that score above each threshold.

    Args:
        scores: `(..., runs, tasks)`.
        thresholds: `(points,)`.

    Returns:
        `(..., points)`.
    """
    pooled = scores.reshape(*scores.shape[:-2], -1)
    return (pooled[..., None] > thresholds).mean(axis=-2)


def censored_median(times: Sequence[float | None]) -> float | None:
    """
    The median of times until something happened; None stands for a run in which it never did.

    Those count as longer than all others, whatever they would have taken; None is returned where
    the median is among them. Runs need not have been equally long only where those that were
    censored were the longest.
    """
    ordered = sorted(np.inf if time is None else time for time in times)
    if not ordered:
        return None
    middle = len(ordered) // 2
    # Between a number and infinity there is no middle.
    value = (ordered[(len(ordered) - 1) // 2] + ordered[middle]) / 2
    return float(value) if np.isfinite(value) else None
