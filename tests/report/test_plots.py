"""Learning curves: what is drawn is what was measured."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from pyrl_sb3.report.plots import plot_learning_curve

STEPS, RETURNS = np.array([10, 20, 30]), np.array([[0.0, 2.0], [3.0, 3.0], [8.0, 4.0]])


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw evaluations; return the figure that was saved."""
    figures = []
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)

    def draw(**saved):
        np.savez(tmp_path / "evaluations.npz", timesteps=STEPS, results=RETURNS, **saved)
        picture = tmp_path / "curve.png"
        plot_learning_curve(tmp_path / "evaluations.npz", picture, "a title", threshold=0.95)
        assert picture.read_bytes().startswith(b"\x89PNG")
        return figures[-1]

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
