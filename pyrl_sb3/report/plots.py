"""Learning curves."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pyrl_sb3.training.folders import write_whole

_COLOUR = "#1f5fa8"


def plot_learning_curve(
    evaluations: Path, picture: Path, title: str, threshold: float | None = None
) -> None:
    """
    Draw the evaluations of one run: success rate, where there is one, and return.

    Args:
        evaluations: the run's `evaluations.npz`.
        picture: the PNG to write.
        title: over the picture.
        threshold: the success rate, in [0, 1], from which the task counts as solved.
    """
    with np.load(evaluations) as saved:
        steps, returns = saved["timesteps"], saved["results"]
        successes = saved.get("successes")
    panels = 1 if successes is None else 2
    figure = Figure(figsize=(7, 2.2 + 2.2 * panels), layout="constrained")
    axes = figure.subplots(panels, sharex=True, squeeze=False)[:, 0]
    figure.suptitle(title)
    if successes is not None:
        _draw_success(axes[0], steps, successes.mean(axis=1), threshold)
    mean, deviation = returns.mean(axis=1), returns.std(axis=1)
    axes[-1].fill_between(
        steps, mean - deviation, mean + deviation, color=_COLOUR, alpha=0.2, linewidth=0
    )
    axes[-1].plot(steps, mean, "o-", color=_COLOUR, markersize=4)
    axes[-1].set_ylabel(f"return, mean ± std\nof {returns.shape[1]} episodes")
    axes[-1].set_xlabel("environment steps")
    axes[-1].set_xlim(left=0)
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    write_whole(picture, lambda part: figure.savefig(part, dpi=120))


def _draw_success(
    axis: Axes, steps: np.ndarray, rates: np.ndarray, threshold: float | None
) -> None:
    axis.plot(steps, rates, "o-", color=_COLOUR, markersize=4, clip_on=False, zorder=3)
    axis.set_ylim(0, 1.04)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_ylabel("success rate\nin evaluation")
    if threshold is not None:
        axis.axhline(threshold, color="#b03a2e", linestyle="--", linewidth=1.2)
        axis.annotate(
            f"solved: {threshold:.0%}",
            (1.0, threshold),
            xycoords=("axes fraction", "data"),
            xytext=(-4, -4),
            textcoords="offset points",
            ha="right",
            va="top",
            color="#b03a2e",
        )
