"""Pictures of groups: everything that is compared is in them."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from pyrl_sb3.report.curves import Curve
from pyrl_sb3.report.group_plots import plot_groups
from pyrl_sb3.report.groups import Group

ENV_ID = "Pendulum-v1"


def group(label, last_step, env_id=ENV_ID):
    """One run, evaluated at two steps."""
    steps = np.array([last_step / 2, last_step])
    returns = np.array([1.0, 2.0])
    curve = Curve(
        label=label, steps=steps, returns=returns, spread=None, successes=None, episodes=1
    )
    return Group(
        label=label,
        curves={env_id: [curve]},
        seconds={env_id: [steps]},
        failed=[],
        couples_seeds=False,
    )


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw groups; return the axes of their curves and of their profile."""
    figures = []
    save = Figure.savefig

    def keep(figure, path, **options):
        save(figure, path, **{**options, "dpi": 10})
        figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)

    def draw(*groups):
        plot_groups(groups, tmp_path, seed=0)
        return [figure.axes[0] for figure in figures]

    return draw


def test_curves_of_different_lengths_are_drawn_to_their_ends(drawn):
    curves, _ = drawn(group("short", 100), group("long", 1000), group("middle", 500))
    left, right = curves.get_xlim()
    assert left == 0
    assert right >= 1000


@pytest.mark.parametrize("label", ["_old", "cost in $ and 100% of _a^{", "$\\bad{$"])
def test_labels_are_shown_as_they_are(drawn, label):
    curves, profile = drawn(group(label, 100, "mine/$_{$-v0"), group("new", 100, "mine/$_{$-v0"))
    for axis, words in ((curves, " (1 runs)"), (profile, "")):
        assert axis.get_title() == "mine/$_{$-v0"
        shown = [text.get_text() for text in axis.get_legend().get_texts()]
        assert shown == [f"{label}{words}", f"new{words}"]
