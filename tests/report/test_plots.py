"""Learning curves: what is drawn is what was measured."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from pyrl_sb3.report.curves import Curve, read_evaluations
from pyrl_sb3.report.plots import plot_curves

FIGURES = []
STEPS, RETURNS = np.array([10, 20, 30]), np.array([[0.0, 2.0], [3.0, 3.0], [8.0, 4.0]])


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw evaluations; return the figure that was saved."""
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        FIGURES.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)

    def draw(**saved):
        np.savez(tmp_path / "evaluations.npz", timesteps=STEPS, results=RETURNS, **saved)
        picture = tmp_path / "curve.png"
        plot_curves([read_evaluations(tmp_path)], picture, "a title", threshold=0.95)
        assert picture.read_bytes().startswith(b"\x89PNG")
        return FIGURES[-1]

    return draw


def test_returns_alone(drawn):
    (axis,) = drawn().axes
    assert axis.lines[0].get_xydata().tolist() == [[10, 1], [20, 3], [30, 6]]
    assert axis.get_xlabel() == "environment steps"
    assert axis.get_ylabel() == "return, mean ± std\nof 2 episodes"


def test_with_success_rate_and_threshold(drawn):
    figure = drawn(successes=np.array([[False, False], [True, False], [True, True]]))
    success, returns = figure.axes
    assert success.lines[0].get_xydata().tolist() == [[10, 0], [20, 0.5], [30, 1]]
    assert success.lines[1].get_ydata() == [0.95, 0.95]
    assert "95%" in success.texts[0].get_text()
    assert len(returns.lines) == 1
    assert figure.get_suptitle() == "a title"


def test_success_that_is_said_at_some_points_is_a_line_through_these(drawn, tmp_path):
    drawn()
    steps, successes = np.arange(61.0), np.where(np.arange(61) % 2, np.nan, 0.5)
    curve = Curve(
        label="a", steps=steps, returns=steps, spread=None, successes=successes, episodes=1
    )
    plot_curves([curve], tmp_path / "some.png", "some")
    (line,) = FIGURES[-1].axes[0].lines
    assert line.get_xydata().tolist() == [[step, 0.5] for step in range(0, 61, 2)]
    assert line.get_marker() == "o"  # else one point alone would be none


def test_several_runs(drawn, tmp_path):
    drawn()
    one = Curve(
        label="one",
        steps=np.array([1.0, 2.0]),
        returns=np.array([3.0, 4.0]),
        spread=None,
        successes=None,
        episodes=1,
    )
    other = Curve(**{**vars(one), "label": "other", "successes": np.array([0.0, 1.0])})
    plot_curves([one, other], tmp_path / "both.svg", "both")
    figure = FIGURES[-1]
    success, returns = figure.axes
    assert [len(success.lines), len(returns.lines)] == [1, 2]
    assert [text.get_text() for text in returns.get_legend().texts] == ["one", "other"]
    first, second = (line.get_color() for line in returns.lines)
    assert first != second == success.lines[0].get_color()
    assert returns.get_ylabel() == "return"


@pytest.mark.parametrize("text", ["_old", "cost in $ and 100% of _a^{", "$\\bad{$"])
def test_titles_and_names_of_runs_are_shown_as_they_are(drawn, tmp_path, text):
    drawn()
    one = replace(read_evaluations(tmp_path), label=text)
    plot_curves([one, replace(one, label="other")], tmp_path / "both.png", text)
    figure = FIGURES[-1]
    assert figure.get_suptitle() == text
    legend = figure.axes[0].get_legend()
    assert [each.get_text() for each in legend.texts] == [text, "other"]
    first, second = (line.get_color() for line in legend.get_lines())
    assert first != second


def test_of_more_curves_than_there_are_colours_none_looks_like_another(drawn, tmp_path):
    drawn()
    one = read_evaluations(tmp_path)
    widths = []
    for number in (8, 36):
        curves = [replace(one, label=f"seed_{i}") for i in range(number)]
        plot_curves(curves, tmp_path / "many.png", "many")
        (axis,) = FIGURES[-1].axes
        assert len({(line.get_color(), line.get_linestyle()) for line in axis.lines}) == number
        legend = axis.get_legend().get_window_extent()
        assert (legend.x0 >= axis.bbox.x1) == (number > 8)
        assert axis.bbox.width > 500
        widths.append(imread(tmp_path / "many.png").shape[1])
    assert widths[0] < widths[1]
    plot_curves(curves, tmp_path / "untitled.png", "")
    heights = [len(imread(tmp_path / f"{name}.png")) for name in ("many", "untitled")]
    assert heights[0] > heights[1]  # the title is in the picture
