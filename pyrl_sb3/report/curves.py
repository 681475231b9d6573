"""Learning curves as numbers, read from what a run has logged."""

import csv
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyrl_sb3.devices import is_device
from pyrl_sb3.training.errors import InputError, damage
from pyrl_sb3.training.logs import EVALUATIONS, evaluation_tables
from pyrl_sb3.training.monitors import STEPS, monitor_files

_MOST_STEPS = 2**63  # what arrays of whole numbers hold

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """
    How a run went.

    Attributes:
        label: the run.
        steps: `(points,)`, environment steps, over all environments.
        returns: `(points,)`, undiscounted.
        spread: `(points,)`, the standard deviation over the episodes of each evaluation; None for
            single episodes.
        successes: `(points,)`, in [0, 1]; NaN at points of which nothing says so, None without any
            that does.
        episodes: of each point.
    """

    label: str
    steps: Values
    returns: Values
    spread: Values | None
    successes: Values | None
    episodes: int

    @property
    def scores(self) -> Values:
        """`(points,)`, what a run is scored by: successes where there are any, or returns."""
        return self.returns if self.successes is None else self.successes

    def scored(self, scores: Values) -> "Curve":
        """Return the curve with other scores."""
        if self.successes is None:
            return replace(self, returns=scores)
        return replace(self, successes=scores)

    def carried(self) -> "Curve":
        """
        Return the curve in which points without a success have that of the point before, from the
        first that has one on. NaN stays where the return is none either.
        """
        if self.successes is None:
            return self
        said = np.isfinite(self.successes) | ~np.isfinite(self.returns)
        latest = np.maximum.accumulate(np.where(said, np.arange(len(said)), -1))
        begun = latest >= 0
        return replace(
            self,
            steps=self.steps[begun],
            returns=self.returns[begun],
            spread=None if self.spread is None else self.spread[begun],
            successes=self.successes[latest[begun]],
        )

    def smoothed(self, window: int) -> "Curve":
        """
        Return the curve of means over the last `window` points, fewer at its beginning; of the
        successes, over those of them that say so.
        """
        if window == 1:
            return self
        return replace(
            self,
            returns=_trailing_mean(self.returns, window),
            spread=None,
            successes=None if self.successes is None else _trailing_share(self.successes, window),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; a number that is not finite becomes null."""
        return {
            "run": self.label,
            "steps": [int(step) for step in self.steps],
            "returns": _finite(self.returns),
            "spread": _finite(self.spread),
            "successes": _finite(self.successes),
            "episodes": self.episodes,
        }


def _trailing_mean(values: Values, window: int) -> Values:
    starts = [max(end - window, 0) for end in range(1, len(values) + 1)]
    # Differences of running sums would be quicker, and spread one infinite return over the rest.
    return np.array([values[start : i + 1].mean() for i, start in enumerate(starts)])


def _trailing_share(values: Values, window: int) -> Values:
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):  # NaN where none is known
        return _trailing_mean(np.where(known, values, 0), window) / _trailing_mean(known, window)


def _finite(values: Values | None) -> list[float | None] | None:
    if values is None:
        return None
    return [float(value) if np.isfinite(value) else None for value in values]


def read_evaluations(run: Path) -> Curve:
    """
    Read the evaluations of a run.

    Raises:
        InputError: there are none, or the file is damaged.
    """
    path = run / EVALUATIONS
    if not path.is_file():
        raise InputError(f"{run} has no {EVALUATIONS} yet; --training plots the training episodes")
    saved = evaluation_tables(path)
    steps, returns, successes = saved["timesteps"], saved["results"], saved.get("successes")
    with np.errstate(invalid="ignore"):  # returns that are not finite
        means, spread = returns.mean(axis=1), returns.std(axis=1)
        if successes is not None:  # NaN where an episode does not say
            known = np.isfinite(successes)
            successes = np.where(known, successes, 0).sum(axis=1) / known.sum(axis=1)
            successes = successes if known.any() else None
    # Of evaluations at the same step, the last is that of the agent as it went on.
    steps, last = np.unique(steps[::-1].astype(float), return_index=True)
    last = len(means) - 1 - last
    return Curve(
        label=str(run),
        steps=steps,
        returns=means[last],
        spread=spread[last],
        successes=None if successes is None else successes[last],
        episodes=returns.shape[1],
    )


def read_training(run: Path) -> Curve:
    """
    Read the training episodes of a run, those of all its environments in the order of their ends.

    Raises:
        InputError: there are none, or a file is damaged.
    """
    files = monitor_files(run)
    ended = [each for file in files for each in read_episodes(file, len(files))]
    rows = [(each.steps, each.value, each.success) for each in ended]
    if not rows:
        raise InputError(f"{run} has no finished training episodes")
    steps, returns, successes = np.array(sorted(rows)).T
    return Curve(
        label=str(run),
        steps=steps,
        returns=returns,
        spread=None,
        successes=None if np.isnan(successes).all() else successes,
        episodes=1,
    )


class TrainingEpisode(NamedTuple):
    """
    How a training episode ended.

    Attributes:
        steps: environment steps until then, over all environments.
        value: its return.
        success: in [0, 1]; NaN where nothing says so.
        seconds: wall-clock until then, from the run's start.
    """

    steps: int
    value: float
    success: float
    seconds: float


def read_episodes(file: Path, n_envs: int) -> Iterator[TrainingEpisode]:
    """
    Read the episodes of one environment, of `n_envs` that step together.

    A last line that was not written to its end, as when a disk is full, is none.

    Raises:
        InputError: the file is damaged otherwise, or cannot be opened.
    """
    if is_device(file):
        raise InputError(f"{file} cannot be read: it is a device or a pipe")
    done = 0
    try:
        with file.open(encoding="utf-8", errors="replace", newline="") as lines:
            next(lines, None)  # a comment with the date
            rows = csv.DictReader(line for line in lines if line.endswith(("\n", "\r")))
            for row in rows:
                done += int(row["l"]) * n_envs
                if STEPS in row:  # not in older runs, whose episodes cut by checkpoints are lost
                    done = int(row[STEPS]) * n_envs
                if not 0 <= done < _MOST_STEPS:
                    raise ValueError(f"no number of steps: {str(done)[:40]}")
                success = _truth(row.get("is_success"))
                yield TrainingEpisode(done, float(row["r"]), success, float(row["t"]))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        line = rows.line_num + 1  # after the comment
        raise InputError(f"{file} cannot be read: {damage(error)} (line {line})") from error


def _truth(text: str | None) -> float:
    with suppress(ValueError):
        share = float({"True": 1, "False": 0}.get(text or "", text or "nan"))
        return share if 0 <= share <= 1 else math.nan
    return math.nan
