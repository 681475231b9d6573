"""Pictures of groups: everything that is compared is in them."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from pyrl_sb3.report.curves import Curve
from pyrl_sb3.report.group_plots import plot_groups
from pyrl_sb3.report.groups import Group

ENV_ID = "Pendulum-v1"


def group(label, last_step, env_id=ENV_ID, scores=(2.0,), rates=False, coupled=False):
    """Runs, evaluated at two steps."""
    steps = np.array([last_step / 2, last_step])
    curves = []
    for score in scores:
        values = np.array([score / 2, score])
        successes = values if rates else None
        curves.append(
            Curve(
                label=label,
                steps=steps,
                returns=values,
                spread=None,
                successes=successes,
                episodes=1,
            )
        )
    return Group(
        label=label,
        curves={env_id: curves},
        seconds={env_id: [steps] * len(scores)},
        failed=[],
        couples_seeds=coupled,
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
    for axis, words in ((curves, " (1 run)"), (profile, "")):
        assert axis.get_title() == "mine/$_{$-v0"
        shown = [text.get_text() for text in axis.get_legend().get_texts()]
        assert shown == [f"{label}{words}", f"new{words}"]


SAME = [
    (1.0, True, (-0.05, 1.05)),
    (0.0, True, (-0.05, 1.05)),
    (1.0, False, (0.5, 1.5)),
    (0.0, False, (-0.5, 0.5)),
    (-150.0, False, (-225, -75)),
    (1e200, False, (0.5e200, 1.5e200)),
]


@pytest.mark.parametrize(("score", "rates", "limits"), SAME)
@pytest.mark.parametrize("runs", [1, 10])
def test_a_score_that_all_runs_have_is_where_the_axis_says(drawn, score, rates, limits, runs):
    _, profile = drawn(group("a", 100, scores=[score] * runs, rates=rates))
    assert profile.get_xlim() == pytest.approx(limits)
    (line,) = profile.lines
    thresholds, shares = line.get_data()
    falls = thresholds[np.argmin(shares)]
    assert falls == pytest.approx(score, abs=0.01 * (limits[1] - limits[0]))
    assert not profile.xaxis.get_major_formatter().get_offset().startswith(("+", "1e-"))


def test_scores_that_are_close_are_told_apart(drawn):
    _, profile = drawn(group("a", 100, scores=[1000, 1000.01]))
    assert profile.get_xlim() == pytest.approx((999.9995, 1000.0105), abs=1e-6)
    labels = [text.get_text() for text in profile.get_xticklabels()]
    assert "1000.000" in labels


def test_small_scores_are_told_apart(drawn):
    _, profile = drawn(group("a", 100, scores=[1e-9, 2e-9]))
    assert profile.get_xlim() == pytest.approx((0.95e-9, 2.05e-9))


def test_rates_have_the_whole_of_their_axis(drawn):
    _, profile = drawn(group("a", 100, scores=[0.9, 0.95], rates=True))
    assert profile.get_xlim() == pytest.approx((-0.05, 1.05))


@pytest.mark.parametrize(
    ("groups", "there"),
    [
        ([{"scores": [1.0, 2.0]}], True),
        ([{"scores": [1.0]}, {"scores": [1.0, 2.0]}], True),
        ([{"scores": [1.0, 2.0]}, {"scores": [1.0]}], True),
        ([{"scores": [1.0]}], False),
        ([{"scores": [1.0, 2.0], "coupled": True}], False),
    ],
)
def test_an_interval_is_named_where_there_is_one(drawn, groups, there):
    curves, _ = drawn(*(group(str(i), 100, **each) for i, each in enumerate(groups)))
    interval = ", 95% interval" if there else ""
    assert curves.get_ylabel() == f"IQM of the evaluations{interval}"


def test_runs_are_counted(drawn):
    curves, _ = drawn(group("a", 100), group("b", 100, scores=[1.0, 2.0]))
    texts = [text.get_text() for text in curves.get_legend().get_texts()]
    assert texts == ["a (1 run)", "b (2 runs)"]


def test_axes_of_runs_that_share_no_steps_are_named_too(drawn):
    apart = group("a", 100)
    apart.curves[ENV_ID].extend(group("a", 1000).curves[ENV_ID])
    curves, _ = drawn(apart)
    assert curves.get_xlabel() == "environment steps"
    assert curves.get_ylabel() == "IQM of the evaluations"
