"""Pictures of groups of runs: sample efficiency and performance profiles."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyrl_sb3.errors import counted
from pyrl_sb3.report import statistics
from pyrl_sb3.report.groups import Group
from pyrl_sb3.report.plots import add_legend, look
from pyrl_sb3.report.statistics import Array
from pyrl_sb3.report.summary import by_environment, scores_of
from pyrl_sb3.training.folders import write_whole

_REPS = 2_000  # as in rliable's pictures


def plot_groups(groups: Sequence[Group], folder: Path, *, seed: int) -> list[Path]:
    """
    Draw sample-efficiency curves and performance profiles for each environment.

    Args:
        groups: of runs.
        folder: that gets the pictures.
        seed: of the bootstrap.

    Returns:
        the pictures, `ENV_curves.png` and `ENV_profile.png`.
    """
    written = []
    for env_id, there in by_environment(groups):
        for name, draw in (("curves", _draw_curves), ("profile", _draw_profiles)):
            figure = Figure(figsize=(7, 4.2), layout="constrained")
            axis = figure.subplots()
            axis.set_title(env_id, parse_math=False)
            draw(axis, there, env_id, seed)
            axis.ticklabel_format(useOffset=False)
            axis.grid(alpha=0.3)
            axis.spines[["top", "right"]].set_visible(False)
            growing = add_legend(axis, [str(line.get_label()) for line in axis.lines])
            path = folder / f"{env_id.replace('/', '-')}_{name}.png"
            write_whole(path, partial(figure.savefig, dpi=120, **growing))
            written.append(path)
    return written


def curve_values(group: Group, env_id: str) -> tuple[Array, Array]:
    """Return the steps that all runs were evaluated at, and `(runs, points)` scores there."""
    curves = group.curves[env_id]
    shared = sorted(set.intersection(*(set(curve.steps) for curve in curves)))
    rows = [curve.scores[np.isin(curve.steps, shared)] for curve in curves]
    return np.array(shared), np.array(rows).reshape(len(curves), len(shared))


def _draw_curves(axis: Axes, groups: Sequence[Group], env_id: str, seed: int) -> None:
    for number, group in enumerate(groups):
        _draw_curve(axis, group, env_id, look(number), np.random.default_rng(seed))
    axis.set_xlim(left=0)  # once all are drawn: the right end stays where it is then
    axis.set_xlabel("environment steps")
    interval = ", 95% interval" if axis.collections else ""
    axis.set_ylabel(f"IQM of the evaluations{interval}")


def _draw_curve(
    axis: Axes, group: Group, env_id: str, style: dict[str, Any], rng: np.random.Generator
) -> None:
    steps, values = curve_values(group, env_id)
    label = f"{group.label} ({counted(len(values), 'run')})"
    if not len(steps):
        axis.plot([], [], **style, label=f"{label}, never evaluated at the same steps")
        return
    marker = "o" if len(steps) == 1 else None
    axis.plot(steps, statistics.pointwise_iqm(values), **style, label=label, marker=marker)
    if len(values) > 1 and not group.couples_seeds:
        # One draw of whole runs for all points: a run is followed along its curve.
        chosen = rng.integers(len(values), size=(_REPS, len(values)))
        low, high = statistics.interval(statistics.pointwise_iqm(values[chosen]))
        if len(steps) == 1:
            axis.vlines(steps, low, high, color=style["color"], alpha=0.5)
        else:
            axis.fill_between(steps, low, high, color=style["color"], alpha=0.2, linewidth=0)


def _range(groups: Sequence[Group], env_id: str) -> tuple[float, float]:
    if all(curve.successes is not None for group in groups for curve in group.curves[env_id]):
        return -0.05, 1.05
    scores = np.concatenate([scores_of(group, env_id) for group in groups])
    low, high = float(scores.min()), float(scores.max())
    size = max(-low, high)
    same = high - low <= 1e-9 * size  # but for rounding
    margin = 0.5 * max(size, 1) if same else 0.05 * (high - low)
    return low - margin, high + margin


def _draw_profiles(axis: Axes, groups: Sequence[Group], env_id: str, seed: int) -> None:
    low, high = _range(groups, env_id)
    axis.set_xlim(low, high)
    thresholds = np.linspace(low, high, 401)
    profile = partial(statistics.performance_profile, thresholds=thresholds)
    for number, group in enumerate(groups):
        scores, style = scores_of(group, env_id), look(number)
        axis.plot(thresholds, profile(scores), **style, label=group.label)
        if len(scores) > 1 and not group.couples_seeds:
            rng = np.random.default_rng(seed)
            ends = statistics.interval(statistics.bootstrap(scores, profile, rng, _REPS))
            axis.fill_between(thresholds, *ends, color=style["color"], alpha=0.2, linewidth=0)
    axis.set_xlabel("score")
    axis.set_ylabel("share of runs above it")
    axis.set_ylim(-0.02, 1.02)
