"""Pictures of learning curves."""

from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pyrl_sb3.errors import counted
from pyrl_sb3.report.curves import Curve
from pyrl_sb3.training.folders import write_whole

COLOURS = ("#1f5fa8", *colormaps["Dark2"].colors)  # type: ignore[attr-defined]
_LINES = ("-", "--", ":", "-.")  # one for each round of the colours
_BESIDE = 8  # names, beyond which they would cover the curves
_MARKED = 60  # points, beyond which markers would cover the line


def plot_curves(
    curves: Sequence[Curve], picture: Path, title: str, threshold: float | None = None
) -> None:
    """
    Draw curves into one picture: success rates, where there are any, and returns.

    Args:
        curves: of one run or several.
        picture: the file to write, of a kind that matplotlib knows.
        title: over the picture.
        threshold: the success rate, in [0, 1], from which the task counts as solved.
    """
    with_success = [curve for curve in curves if curve.successes is not None]
    panels = 2 if with_success else 1
    figure = Figure(figsize=(7, 2.2 + 2.2 * panels), layout="constrained")
    axes = figure.subplots(panels, sharex=True, squeeze=False)[:, 0]
    figure.suptitle(title, parse_math=False)
    if with_success:
        _draw_successes(axes[0], curves, threshold)
    _draw_returns(axes[-1], curves)
    axes[-1].set_xlabel("environment steps")
    axes[-1].set_xlim(left=0)
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    labels = [curve.label for curve in curves]
    growing = add_legend(axes[-1], labels) if len(curves) > 1 else {}
    write_whole(picture, lambda part: figure.savefig(part, dpi=120, **growing))


def add_legend(axis: Axes, labels: Sequence[str]) -> dict[str, Any]:
    """
    Name the lines there, by labels that are shown as they are.

    Returns:
        arguments of `savefig`, with which the picture grows by names that are beside the axes.
    """
    beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    place = beside if len(labels) > _BESIDE else {}
    legend = axis.legend(axis.lines, [""] * len(labels), fontsize="small", frameon=False, **place)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        # Given above, `_old` would be left out by matplotlib 3.9, and dollars begin formulas.
        text.set(text=label, parse_math=False)
    if not place:
        return {}
    legend.set_in_layout(False)  # the axes keep their size
    return {"bbox_inches": "tight", "bbox_extra_artists": [legend, *axis.figure.texts]}


def look(number: int) -> dict[str, Any]:
    """Return how the curve of that number is drawn, which no other of the first 36 is."""
    line = _LINES[number // len(COLOURS) % len(_LINES)]
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": line}


def _style(steps: Sized, number: int) -> dict[str, Any]:
    marker = "o" if len(steps) <= _MARKED else None
    return {**look(number), "marker": marker, "markersize": 4, "linewidth": 1.5}


def _draw_returns(axis: Axes, curves: Sequence[Curve]) -> None:
    for number, curve in enumerate(curves):
        style = _style(curve.steps, number)
        axis.plot(curve.steps, curve.returns, **style)
        if curve.spread is not None:
            low, high = curve.returns - curve.spread, curve.returns + curve.spread
            axis.fill_between(curve.steps, low, high, color=style["color"], alpha=0.2, linewidth=0)
    episodes = {curve.episodes for curve in curves}
    of_evaluations = all(curve.spread is not None for curve in curves)
    if of_evaluations and len(episodes) == 1:
        axis.set_ylabel(f"return, mean ± std\nof {counted(episodes.pop(), 'episode')}")
    else:
        axis.set_ylabel("return, mean ± std" if of_evaluations else "return")


def _draw_successes(axis: Axes, curves: Sequence[Curve], threshold: float | None) -> None:
    for number, curve in enumerate(curves):
        if curve.successes is not None:
            said = np.isfinite(curve.successes)  # where it is not the line would have a gap
            steps, successes = curve.steps[said], curve.successes[said]
            axis.plot(steps, successes, clip_on=False, zorder=3, **_style(steps, number))
    axis.set_ylim(0, 1.04)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_ylabel("success rate")
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
