"""The statistics, against rliable's numbers (`make_golden.py`) and some worked out by hand."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pyrl_sb3.report import statistics

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())
AGGREGATES = {
    "iqm": statistics.iqm,
    "mean": statistics.mean,
    "optimality_gap": partial(statistics.optimality_gap, gamma=1.0),
}


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
@pytest.mark.parametrize("name", AGGREGATES)
def test_aggregates_and_intervals_are_rliables(case, name):
    value, low, high = case[name]
    rng = np.random.default_rng(0)
    found = statistics.estimate(np.array(case["x"]), AGGREGATES[name], rng, reps=20_000)
    assert found.value == pytest.approx(value, abs=1e-12)
    # Both are drawn: the ends differ by a few hundredths of the interval's width. With ties the IQM
    # has steps of 1/16, and P(IQM <= 0.1875) = 0.0246 lets either of two neighbours be an end.
    near = 1 / 16 if (case["name"], name) == ("with ties", "iqm") else 0.04 * (high - low)
    assert (found.low, found.high) == pytest.approx((low, high), abs=near)


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_improvement_and_profile_are_rliables(case):
    x, y = np.array(case["x"]), np.array(case["y"])
    value, low, high = case["improvement"]
    found = statistics.improvement(x, y, np.random.default_rng(0))
    assert found.value == pytest.approx(value, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.08 * (high - low))
    profile = statistics.performance_profile(x, np.array(GOLDEN["thresholds"]))
    assert profile == pytest.approx(case["profile"])


def test_by_hand():
    scores = np.arange(1.0, 9.0)[::-1, None]
    assert statistics.iqm(scores) == np.mean([3, 4, 5, 6])
    assert statistics.run_median(scores) == 4.5
    assert statistics.optimality_gap(scores, 2.0) == pytest.approx(1 / 8)
    assert statistics.probability_of_improvement(scores[:2], scores[1:3]) == 3.5 / 4


def test_the_same_seed_gives_the_same_interval_and_coupled_runs_have_none():
    scores = np.random.default_rng(1).normal(size=(10, 2))
    draw = partial(statistics.estimate, scores, statistics.iqm, reps=500)
    assert draw(np.random.default_rng(3)) == draw(np.random.default_rng(3))
    assert draw(np.random.default_rng(3)) != draw(np.random.default_rng(4))
    coupled = draw(np.random.default_rng(3), coupled=True)
    assert (coupled.value, coupled.low, coupled.high) == (statistics.iqm(scores), None, None)


@pytest.mark.parametrize(
    ("times", "median"),
    [([5, 1, 3], 3), ([1, None, 3], 3), ([1, None, None], None), ([1, 2, None, None], None)],
)
def test_a_run_that_never_got_there_counts_as_later_than_all(times, median):
    assert statistics.censored_median(times) == median


@pytest.mark.parametrize(("x", "y"), [(1, 3), (3, 1)])
def test_a_single_run_has_no_interval(x, y):
    rng = np.random.default_rng(0)
    scores = np.arange(3.0)[:, None]
    found = statistics.improvement(scores[:x], scores[:y], rng)
    assert (found.low, found.high) == (None, None)
    found = statistics.estimate(scores[:1], statistics.mean, rng)
    assert (found.value, found.low, found.high) == (0.0, None, None)


@pytest.mark.parametrize(("at_once", "parts"), [(25, [4, 4, 2]), (5, [1] * 10)])
def test_resamples_are_drawn_in_parts_and_each_has_a_profile_of_its_own(
    monkeypatch, at_once, parts
):
    monkeypatch.setattr(statistics, "_AT_ONCE", at_once)
    seen = []

    def profile(resamples):
        seen.append(len(resamples))
        return statistics.performance_profile(resamples, np.array([-1.0, 1.5, 9.0]))

    scores = np.arange(6.0).reshape(3, 2)
    found = statistics.bootstrap(scores, profile, np.random.default_rng(0), 10)
    assert seen == parts
    assert found.shape == (10, 3)
    assert (found[:, 0] == 1).all()
    assert (found[:, 2] == 0).all()
    assert len(set(found[:, 1])) > 1


def test_the_runs_of_each_task_are_drawn_by_themselves():
    scores = np.array([[0.0, 10.0], [1.0, 20.0]])
    drawn = statistics.bootstrap(scores, lambda resamples: resamples, np.random.default_rng(0), 50)
    assert set(drawn[..., 0].flat) == {0.0, 1.0}
    assert set(drawn[..., 1].flat) == {10.0, 20.0}
    assert any((each[:, 1] != 10 + 10 * each[:, 0]).any() for each in drawn)
