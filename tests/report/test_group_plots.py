"""Pictures of groups: everything that is compared is in them."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from pyrl_sb3.report.curves import Curve
from pyrl_sb3.report.group_plots import plot_groups
from pyrl_sb3.report.groups import Group

ENV_ID = "Pendulum-v1"


def group(label, last_step):
    """One run, evaluated at two steps."""
    steps = np.array([last_step / 2, last_step])
    returns = np.array([1.0, 2.0])
    curve = Curve(
        label=label, steps=steps, returns=returns, spread=None, successes=None, episodes=1
    )
    return Group(
        label=label,
        curves={ENV_ID: [curve]},
        seconds={ENV_ID: [steps]},
        failed=[],
        couples_seeds=False,
    )


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw groups; return the axes of their curves and of their profile."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: keep(self, path))

    def keep(figure, path):
        path.write_bytes(b"")
        figures.append(figure)

    def draw(*groups):
        plot_groups(groups, tmp_path, seed=0)
        return [figure.axes[0] for figure in figures]

    return draw


def test_curves_of_different_lengths_are_drawn_to_their_ends(drawn):
    curves, _ = drawn(group("short", 100), group("long", 1000), group("middle", 500))
    left, right = curves.get_xlim()
    assert left == 0
    assert right >= 1000
