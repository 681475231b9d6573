"""Each strategy against results worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch as th

from pyrl_sb3.errors import NotANumberError
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.sync import strategies
from pyrl_sb3.training.sync.averages import combined
from pyrl_sb3.training.sync.state import AgentState
from pyrl_sb3.training.sync.strategies import STRATEGIES, Report


def state(weight, *, running=0.0, moment=0.0, count=0.0):
    def array(value):
        return {"w": np.array([value, 2 * value], np.float32)}

    return AgentState(
        weights=array(weight),
        running=array(running),
        moments=array(moment),
        counts={"n": np.array(count, np.float32)},
    )


def report(weight, score=math.nan, **rest):
    return Report(state=state(weight, **rest), score=score)


def weight(found):
    value, double = found.weights["w"]
    assert found.weights["w"].dtype == np.float32
    assert double == pytest.approx(2 * value)
    return float(value)


START = {"weights": state(1.0).weights}


def test_mean_averages_weights_running_statistics_and_moments_and_takes_the_last_count():
    reports = {
        0: report(1.0, running=4.0, moment=0.5, count=7),
        2: report(2.0, running=8.0, moment=1.5, count=9),
    }
    out = strategies.mean(reports, 2, START)
    assert weight(out.state) == 1.5
    assert out.state.running["w"][0] == 6.0
    assert out.state.moments["w"][0] == 1.0
    assert out.state.counts["n"] == 9
    assert out.master is out.state


def test_weighted_is_a_softmax_of_standardised_returns():
    # Scores 10 and 30 are -1 and +1 standard deviations from their mean.
    share = math.exp(1 / 2) / (math.exp(1 / 2) + math.exp(-1 / 2))
    reports = {0: report(0.0, 10.0), 1: report(1.0, 30.0)}
    out = strategies.weighted(reports, 0, START, temperature=2.0)
    assert weight(out.state) == pytest.approx(share)


def test_weighted_counts_a_copy_without_episodes_as_average():
    reports = {0: report(0.0, 10.0), 1: report(1.0), 2: report(2.0, 30.0)}
    e = math.e
    share = np.array([1 / e, 1.0, e]) / (1 / e + 1 + e)
    assert weight(strategies.weighted(reports, 0, START).state) == pytest.approx(
        share[1] + 2 * share[2]
    )


@pytest.mark.parametrize("scores", [(math.nan, math.nan), (5.0, 5.0), (math.nan, 5.0)])
def test_weighted_is_the_mean_while_no_returns_differ(scores):
    reports = {i: report(float(i), score) for i, score in enumerate(scores)}
    assert weight(strategies.weighted(reports, 0, START).state) == 0.5


def test_best_replaces_a_copy_that_was_behind_for_long_enough():
    memory = START
    states = []
    for scores in [(1, 2, 3), (4, 2, 3), (1, 2, 3), (1, 2, 3)]:
        reports = {i: report(float(i), float(score), moment=i) for i, score in enumerate(scores)}
        outs = [strategies.best(reports, i, memory, patience=2) for i in range(3)]
        assert all(out.memory == outs[0].memory for out in outs)
        memory = outs[0].memory
        states.append([weight(out.state) for out in outs])
    # Copy 1 is behind twice, so it takes over copy 0; then its patience begins anew.
    assert states == [[0, 1, 2], [0, 0, 2], [0, 1, 2], [2, 2, 2]]


def test_best_takes_over_moments_and_counts_too():
    reports = {0: report(1.0, 1.0, moment=1, count=5), 1: report(2.0, 2.0, moment=2, count=4)}
    out = strategies.best(reports, 0, START, patience=1)
    assert out.state is reports[1].state
    assert out.master is reports[1].state


def test_best_leaves_all_alone_before_an_episode_has_ended():
    reports = {0: report(1.0), 1: report(2.0)}
    for own in reports:
        assert strategies.best(reports, own, START, patience=1).state is reports[own].state


def test_soft_best_goes_a_part_of_the_way():
    reports = {0: report(1.0, 5.0, moment=4, count=2), 1: report(3.0, 9.0, moment=8, count=1)}
    out = strategies.soft_best(reports, 0, START, pull=0.25)
    assert weight(out.state) == 1.5
    assert out.state.moments["w"][0] == 5.0
    assert out.state.counts["n"] == 2
    assert weight(strategies.soft_best(reports, 1, START, pull=0.25).state) == 3.0
    assert out.master is reports[1].state


def test_soft_best_leaves_all_alone_before_an_episode_has_ended():
    reports = {0: report(1.0), 1: report(3.0)}
    assert weight(strategies.soft_best(reports, 1, START).state) == 3.0


def test_elastic_pulls_copies_and_centre():
    reports = {0: report(2.0, moment=1), 1: report(4.0, moment=3)}
    out = strategies.elastic(reports, 1, START, beta=0.5)
    # alpha = 0.25: 4 - 0.25 (4 - 1); the centre: 1 + 0.5 (3 - 1)
    assert weight(out.state) == 3.25
    assert out.state.moments["w"][0] == 3  # its own
    assert weight(out.master) == 2.0
    again = strategies.elastic(reports, 0, out.memory, beta=0.5)
    assert weight(again.state) == 2.0  # is where the centre is now
    assert weight(again.master) == 2.5


def test_outer_is_torchs_nesterov_on_the_mean_change():
    import torch as th

    parameter = th.nn.Parameter(th.tensor([1.0, 2.0], dtype=th.float64))
    sgd = th.optim.SGD([parameter], lr=0.7, momentum=0.9, nesterov=True)
    memory = START
    rng = np.random.default_rng(0)
    for _ in range(4):
        reports = {i: report(float(rng.normal()), moment=i) for i in range(3)}
        means = np.mean([each.state.weights["w"] for each in reports.values()], axis=0)
        parameter.grad = parameter.detach() - th.as_tensor(means, dtype=th.float64)
        sgd.step()
        out = strategies.outer(reports, 2, memory)
        memory = out.memory
        np.testing.assert_allclose(out.state.weights["w"], parameter.detach(), rtol=1e-5)
        assert out.state.moments["w"][0] == 2  # its own


def test_outer_by_hand():
    # Delta = 1 - 3 = -2; v = -2; theta = 1 - 0.5 (-2 + 0.5 * -2) = 2.5
    out = strategies.outer({0: report(3.0, running=-1)}, 0, START, learning_rate=0.5, momentum=0.5)
    assert weight(out.state) == 2.5
    assert out.state.running["w"][0] == -1
    assert out.memory["velocity"]["w"][0] == -2


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("size", [2, 3, 7])
def test_equal_copies_stay_what_they_are_to_the_bit(name, size):
    rng = np.random.default_rng(size)
    parts = {
        part: {"w": rng.normal(size=1000).astype(np.float32)}
        for part in ("weights", "running", "moments", "counts")
    }
    one = AgentState(**parts)
    reports = {i: Report(state=one, score=float(i)) for i in range(size)}
    out = STRATEGIES[name](reports, size - 1, {"weights": one.weights})
    for part, arrays in parts.items():
        for found in (out.state, out.master):
            np.testing.assert_array_equal(getattr(found, part)["w"], arrays["w"])


@pytest.mark.parametrize("name", STRATEGIES)
def test_nothing_that_is_reported_is_changed(name):
    reports = {0: report(1.0, 1.0, moment=3), 1: report(2.0, 2.0, moment=4)}
    STRATEGIES[name](reports, 0, START)
    assert [weight(each.state) for each in reports.values()] == [1.0, 2.0]
    assert START["weights"]["w"][0] == 1.0


def test_combined_is_numpys_mean():
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(50, 40)).astype(np.float32) for _ in range(4)]
    states = [AgentState(weights={"w": w}, running={}, moments={}, counts={}) for w in weights]
    expected = np.mean(weights, axis=0, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(combined(states, [0.25] * 4).weights["w"], expected)


def test_a_strategy_that_makes_nan_of_numbers_is_named():
    def careless(reports, own, memory):
        return strategies.Outcome(reports[own].state, state(math.nan), {})

    reports = {0: report(1.0), 1: report(2.0)}
    with pytest.raises(NotANumberError, match=r"strategy careless makes NaN .* in weights/w"):
        strategies.strategy_of(careless, {})(reports, 0, START)
    reports[1] = report(math.nan)  # of a copy: no fault of the strategy
    outcome = strategies.strategy_of("mean", {})(reports, 0, START)
    assert np.isnan(outcome.state.weights["w"]).all()


def changed(state, **parts):
    return strategies.Outcome(state, replace(state, **parts), {})


WRONG = {
    "a tuple": (lambda s: (s, s, {}), "a tuple; expected is Outcome(state, master, memory)"),
    "nothing": (lambda s: None, "a NoneType; expected is Outcome(state, master, memory)"),
    "no master": (
        lambda s: strategies.Outcome(s, None, {}),
        "a master that is a NoneType; expected is an AgentState as reports[own].state is",
    ),
    "no memory": (
        lambda s: strategies.Outcome(s, s, None),
        "a memory that is a NoneType; expected is a mapping, {} to remember nothing",
    ),
    "no moments": (
        lambda s: changed(s, moments={}),
        "a master that lacks moments/w; expected is an AgentState as reports[own].state is",
    ),
    "moments that are none": (
        lambda s: changed(s, moments=None),
        "a master with moments that are a NoneType; expected is an AgentState as",
    ),
    "another shape": (
        lambda s: changed(s, weights={"w": np.float32(1.0)}),
        "a master with weights/w of shape (), not (2,); expected is an AgentState as",
    ),
    "no numbers": (
        lambda s: changed(s, weights={"w": np.array(["a", "b"])}),
        "a master with weights/w of <U1, no numbers; expected is an AgentState as",
    ),
}


class Torn:
    def __array__(self, *args, **kwargs):
        raise AttributeError("no values yet")


NO_ARRAYS = {
    "a parameter": (lambda: th.nn.Parameter(th.ones(2)), "Can't call numpy() on Tensor that req"),
    "bfloat16": (lambda: th.ones(2).bfloat16(), "Got unsupported ScalarType BFloat16"),
    "a ragged list": (lambda: [[1], [1, 2]], "setting an array element with a sequence."),
    "what raises": (Torn, "no values yet"),
}


@pytest.mark.parametrize("kind", NO_ARRAYS)
def test_a_strategy_that_returns_what_numpy_does_not_take_is_named(kind):
    make, said = NO_ARRAYS[kind]

    def careless(reports, own, memory):
        return changed(reports[own].state, weights={"w": make()})

    with pytest.raises(InputError) as error:
        strategies.strategy_of(careless, {})({0: report(1.0), 1: report(2.0)}, 1, START)
    told = f"strategy careless returns a master with weights/w that is no array: {said}"
    assert str(error.value).startswith(told)
    assert "; expected is an AgentState as reports[own].state is" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("made", WRONG)
def test_a_strategy_that_returns_something_else_is_named(made):
    make, said = WRONG[made]

    def careless(reports, own, memory):
        return make(reports[own].state)

    with pytest.raises(InputError) as error:
        strategies.strategy_of(careless, {})({0: report(1.0), 1: report(2.0)}, 1, START)
    assert str(error.value).startswith(f"strategy careless returns {said}")
    assert "\n" not in str(error.value)


def test_a_strategy_that_makes_scalars_of_what_is_reported_is_named():
    def careless(reports, own, memory):
        weights = reports[own].state.weights
        weights["w"] = np.mean([each.state.weights["w"] for each in reports.values()])
        return strategies.Outcome(reports[own].state, reports[own].state, {})

    with pytest.raises(InputError, match=r"a state with weights/w of shape \(\), not \(2,\)"):
        strategies.strategy_of(careless, {})({0: report(1.0), 1: report(2.0)}, 1, START)


def test_a_strategy_may_return_tensors_other_numbers_and_more_than_there_is():
    def generous(reports, own, memory):
        state = reports[own].state
        weights = {"w": th.ones(2, dtype=th.float64), "mine": np.array(math.nan)}
        return strategies.Outcome(state, replace(state, weights=weights, counts={"n": 3}), {})

    strategies.strategy_of(generous, {})({0: report(1.0), 1: report(2.0)}, 1, START)
