"""
What becomes of the copies at a synchronisation: pure functions.

Each takes the reports of all copies, the rank of this one and the memory as it was left, and
returns what this one goes on from. All copies call it with the same arguments but for `own`, so
that they agree without a further exchange.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrl_sb3.errors import NotANumberError
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.sync.averages import combined, towards
from pyrl_sb3.training.sync.ranges import require_in_range
from pyrl_sb3.training.sync.state import AgentState, Arrays, mistake_in

Memory: TypeAlias = Mapping[str, Arrays]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a copy brings; its score, such as its mean return, is NaN before it has any episode."""

    state: AgentState
    score: float


class Outcome(NamedTuple):
    """
    What comes of a synchronisation.

    Attributes:
        state: what this copy goes on from, with all that the state it has reported has.
        master: the one agent that stands for all copies, likewise.
        memory: what the strategy is given next time; the same in all copies. Before the first
            synchronisation it holds, as `weights`, the weights that all copies began with.
    """

    state: AgentState
    master: AgentState
    memory: Memory


# Reports by rank, in rank order; the rank of the copy that asks; the memory.
Strategy: TypeAlias = Callable[[Mapping[int, Report], int, Memory], Outcome]


def mean(reports: Mapping[int, Report], own: int, memory: Memory) -> Outcome:
    """The mean of weights and of Adam's moments (FedAvg, McMahan 2017, arXiv:1602.05629)."""
    states = [report.state for report in reports.values()]
    everybody = combined(states, [1 / len(states)] * len(states))
    return Outcome(everybody, everybody, {})


def weighted(
    reports: Mapping[int, Report], own: int, memory: Memory, *, temperature: float = 1.0
) -> Outcome:
    """
    The mean, weighted by return: softmax of the standardised scores.

    Copies without a score count as one of mean score; as long as no scores differ, it is `mean`.
    `temperature`, above 0, is in standard deviations: greater means more equal weights.
    """
    scores = np.array([report.score for report in reports.values()])
    states = [report.state for report in reports.values()]
    everybody = combined(states, list(_softmax(_standardised(scores) / temperature)))
    return Outcome(everybody, everybody, {})


def best(reports: Mapping[int, Report], own: int, memory: Memory, *, patience: int = 2) -> Outcome:
    """
    A copy that was behind in `patience` synchronisations in a row, at least 1, takes over the best
    one's whole state, Adam's moments included (PBT's exploitation, Jaderberg 2017,
    arXiv:1711.09846).
    """
    leader = _leader(reports)
    before = memory.get("behind", {})
    behind, state = {}, reports[own].state
    for rank, report in reports.items():
        is_behind = _known(report.score) < _known(reports[leader].score)
        streak = int(before.get(str(rank), 0)) + 1 if is_behind else 0
        if streak >= patience:
            streak = 0
            state = reports[leader].state if rank == own else state
        behind[str(rank)] = np.array(streak)
    return Outcome(state, reports[leader].state, {"behind": behind})


def soft_best(
    reports: Mapping[int, Report], own: int, memory: Memory, *, pull: float = 0.5
) -> Outcome:
    """
    Each copy goes a part of the way to the best one, `pull`, from 0 to 1, Adam's moments too; after
    P3S (Jung 2020, arXiv:2001.02907), which draws actions together rather than weights.
    """
    leader = reports[_leader(reports)].state
    if all(math.isnan(report.score) for report in reports.values()):
        return Outcome(reports[own].state, leader, {})
    return Outcome(combined([reports[own].state, leader], [1 - pull, pull]), leader, {})


def elastic(
    reports: Mapping[int, Report], own: int, memory: Memory, *, beta: float = 0.9
) -> Outcome:
    """
    Weights are drawn to a centre, and the centre to them: synchronous elastic averaging
    (EASGD, Zhang 2015, arXiv:1412.6651, equations 5 and 6, alpha = beta / p). The centre goes
    `beta`, from 0 to 1, of the way to the mean of the copies. Adam's moments stay each copy's own;
    running statistics are averaged.
    """
    everybody = mean(reports, own, memory).state
    centre = memory["weights"]
    alpha = beta / len(reports)
    mine = replace(
        reports[own].state,
        weights=towards(reports[own].state.weights, centre, alpha),
        running=everybody.running,
        counts=everybody.counts,
    )
    centre = towards(centre, everybody.weights, beta)
    return Outcome(mine, replace(everybody, weights=centre), {"weights": centre})


def outer(
    reports: Mapping[int, Report],
    own: int,
    memory: Memory,
    *,
    learning_rate: float = 0.7,
    momentum: float = 0.9,
) -> Outcome:
    """
    The mean change since the last synchronisation is a gradient for SGD with Nesterov's momentum
    (DiLoCo, Douillard 2023, arXiv:2311.08105). Target networks get the same treatment, which is
    linear and keeps their lag. Adam's moments stay each copy's own; running statistics, which must
    not be extrapolated, are averaged. Momentum is from 0 to less than 1; without any, and with a
    learning rate of 1, the outcome is the mean.
    """
    everybody = mean(reports, own, memory).state
    velocity, weights = {}, {}
    for name, start in memory["weights"].items():
        gradient = start.astype(np.float64) - everybody.weights[name]
        before = memory.get("velocity", {}).get(name, 0.0)
        velocity[name] = np.asarray(momentum * before + gradient)
        step = learning_rate * (gradient + momentum * velocity[name])
        weights[name] = np.asarray(start - step).astype(start.dtype)
    master = replace(everybody, weights=weights)
    mine = replace(master, moments=reports[own].state.moments)
    return Outcome(mine, master, {"weights": weights, "velocity": velocity})


STRATEGIES: Mapping[str, Callable[..., Outcome]] = {
    "mean": mean,
    "weighted": weighted,
    "best": best,
    "soft-best": soft_best,
    "elastic": elastic,
    "outer": outer,
}


def strategy_of(strategy: str | Callable[..., Outcome], params: Mapping[str, Any]) -> Strategy:
    """
    Return the strategy of that name, or the function that was given, with its parameters.

    Raises:
        InputError: there is none of that name, or one of the built-in ones has no such parameter,
            or not in this range.
    """
    if isinstance(strategy, str):
        if strategy not in STRATEGIES:
            raise InputError(f"no strategy {strategy!r}; there are {', '.join(STRATEGIES)}")
        name, strategy = strategy, STRATEGIES[strategy]
    else:
        name = str(getattr(strategy, "__name__", type(strategy).__name__))
    if strategy in STRATEGIES.values():
        require_in_range(params, getattr(strategy, "__kwdefaults__", None) or ())
    return partial(_checked, partial(strategy, **params), name)


def _checked(
    strategy: Strategy, name: str, reports: Mapping[int, Report], own: int, memory: Memory
) -> Outcome:
    """
    Return what comes of a strategy.

    Raises:
        InputError: it is no `Outcome`, or one of something else than such states as are reported.
        NotANumberError: it makes NaN or infinity of finite numbers; other NaN is of a copy.
    """
    # Before it has them: it may change them where they are.
    expected = reports[own].state.as_arrays()
    outcome = strategy(reports, own, memory)
    if mistake := _mistake_in(outcome, expected):
        raise InputError(f"strategy {name} returns {mistake}")
    brought = [report.state.as_arrays() for report in reports.values()]
    for state in (outcome.state, outcome.master):
        arrays = state.as_arrays()
        for key in expected:
            if not _is_finite(arrays[key]) and all(_is_finite(each[key]) for each in brought):
                raise NotANumberError(
                    f"strategy {name} makes NaN or infinity of finite numbers, in {key}"
                )
    return outcome


def _mistake_in(outcome: object, expected: Arrays) -> str | None:
    """What is wrong with what a strategy returns, and what it is to be; None where nothing is."""
    if not isinstance(outcome, Outcome):
        return f"a {type(outcome).__name__}; expected is Outcome(state, master, memory)"
    for role, state in (("state", outcome.state), ("master", outcome.master)):
        if mistake := mistake_in(state, expected):
            return (
                f"a {role} {mistake}; expected is an AgentState as reports[own].state is, of which "
                "dataclasses.replace keeps what a strategy leaves alone"
            )
    if not isinstance(outcome.memory, Mapping):
        kind = type(outcome.memory).__name__
        return f"a memory that is a {kind}; expected is a mapping, {{}} to remember nothing"
    return None


def _is_finite(array: ArrayLike) -> bool:
    return bool(np.isfinite(np.asarray(array)).all())


def _known(score: float) -> float:
    """For comparison: a copy that has finished no episode is behind all that have."""
    return -math.inf if math.isnan(score) else score


def _leader(reports: Mapping[int, Report]) -> int:
    """The rank of the best score, of equals the lowest."""
    return max(reports, key=lambda rank: (_known(reports[rank].score), -rank))


def _standardised(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    known = scores[~np.isnan(scores)]
    spread = known.std() if len(known) else 0.0
    if not spread > 0:
        return np.zeros_like(scores)
    return np.nan_to_num((scores - known.mean()) / spread)


def _softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(values - np.max(values))
    return np.asarray(powers / powers.sum())
