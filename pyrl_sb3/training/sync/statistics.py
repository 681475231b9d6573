"""
The running statistics of `VecNormalize`, merged over copies.

After each synchronisation all copies have the same statistics. What each has seen since is found
by subtraction, and only that is added up (Chan 1979, Welford 1962): merging the statistics
themselves would count the common past once for each copy.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from pyrl_sb3.training.sync.state import Arrays

_PARTS = ("mean", "var", "count")


def read_statistics(env: VecNormalize | None) -> dict[str, NDArray[Any]]:
    """Return mean, variance and number of what was normalised, by name; none without `env`."""
    return {
        f"{name}/{part}": np.array(getattr(moments, part), dtype=np.float64)
        for name, moments in _moments(env).items()
        for part in _PARTS
    }


def write_statistics(env: VecNormalize | None, statistics: Arrays) -> None:
    """Put back what `read_statistics` returned."""
    for name, moments in _moments(env).items():
        moments.mean = np.array(statistics[f"{name}/mean"])
        moments.var = np.array(statistics[f"{name}/var"])
        moments.count = float(statistics[f"{name}/count"])


def _moments(env: VecNormalize | None) -> dict[str, RunningMeanStd]:
    if env is None:
        return {}
    found: dict[str, RunningMeanStd] = {"returns": env.ret_rms}
    observed = getattr(env, "obs_rms", None)  # not there with norm_obs=False
    if isinstance(observed, dict):
        found.update({f"observations.{key}": each for key, each in observed.items()})
    elif observed is not None:
        found["observations"] = observed
    return found


def _names(statistics: Arrays) -> list[str]:
    return [name.removesuffix("/count") for name in statistics if name.endswith("/count")]


def since(now: Arrays, before: Arrays) -> dict[str, NDArray[Any]]:
    """Return the statistics of only what `now`, which was made from `before`, has more."""
    found: dict[str, NDArray[Any]] = {}
    for name in _names(now):
        mean, var, n = (now[f"{name}/{part}"] for part in _PARTS)
        mean0, var0, n0 = (before[f"{name}/{part}"] for part in _PARTS)
        new = n - n0
        if new <= 0:
            new_mean, new_var, new = np.zeros_like(mean), np.zeros_like(var), np.zeros_like(n)
        else:
            new_mean = (n * mean - n0 * mean0) / new
            squares = n * var - n0 * var0 - (new_mean - mean0) ** 2 * n0 * new / n
            new_var = np.maximum(squares, 0.0) / new
        values = zip(_PARTS, (new_mean, new_var, new), strict=True)
        found.update({f"{name}/{part}": np.asarray(value) for part, value in values})
    return found


def merged(before: Arrays, news: Iterable[Arrays]) -> dict[str, NDArray[Any]]:
    """
    Return the statistics of `before`, which all have in common, and `news`, what each has seen
    since, in an order that is the same everywhere.
    """
    total = dict(before)
    both = RunningMeanStd()
    for new in news:
        for name in _names(total):
            mean, var, count = (new[f"{name}/{part}"] for part in _PARTS)
            if count > 0:
                both.mean, both.var = total[f"{name}/mean"], total[f"{name}/var"]
                both.count = float(total[f"{name}/count"])
                both.update_from_moments(mean, var, float(count))
                total |= {f"{name}/{part}": np.asarray(getattr(both, part)) for part in _PARTS}
    return total
