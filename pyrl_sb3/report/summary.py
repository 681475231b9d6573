"""The statistics of groups of runs, as tables and JSON have them."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from pyrl_sb3.report import statistics
from pyrl_sb3.report.curves import Curve
from pyrl_sb3.report.groups import Group
from pyrl_sb3.report.statistics import Array, Estimate


@dataclass(frozen=True, kw_only=True)
class Summary:
    """
    What one group achieved in one environment.

    Attributes:
        label: of the group.
        env_id: where.
        score: what was scored: `success` or `return`, of the last evaluation.
        runs: that have a score.
        failed: runs of the group, in all environments, that did not end well.
        couples_seeds: see `Group`.
        scores: of the runs.
        last_steps: of each run, when it was evaluated last.
        iqm: interquartile mean.
        median: over the runs.
        mean: over the runs.
        optimality_gap: below the target; None where there is none.
        reached: runs that reached the threshold; None without one.
        steps: environment steps to it, censored median; None where half never did.
        seconds: wall-clock to it, likewise, without the runs of which it is not known.
    """

    label: str
    env_id: str
    score: str
    runs: int
    failed: int
    couples_seeds: bool
    scores: list[float]
    last_steps: list[int]
    iqm: Estimate
    median: Estimate
    mean: Estimate
    optimality_gap: Estimate | None
    reached: int | None
    steps: float | None
    seconds: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)


def by_environment(groups: Sequence[Group]) -> Iterator[tuple[str, list[Group]]]:
    """Yield each environment, with the groups that were trained in it."""
    for env_id in sorted({env_id for group in groups for env_id in group.curves}):
        yield env_id, [group for group in groups if env_id in group.curves]


def scores_of(group: Group, env_id: str) -> Array:
    """Return the scores of the last evaluations, `(runs, 1)`."""
    return np.array([[curve.scores[-1]] for curve in group.curves[env_id]])


def summarise(
    groups: Sequence[Group], *, threshold: float | None, seed: int, reps: int
) -> list[Summary]:
    """
    Return a summary for each group in each environment.

    Args:
        groups: of runs.
        threshold: of the score, that counts as solved, and that the optimality gap is below;
            by default 1 where the score is a success rate, and none elsewhere.
        seed: of the bootstrap.
        reps: of the bootstrap.
    """
    return [
        _summary(group, env_id, threshold, np.random.default_rng(seed), reps)
        for env_id, there in by_environment(groups)
        for group in there
    ]


def _summary(
    group: Group, env_id: str, threshold: float | None, rng: np.random.Generator, reps: int
) -> Summary:
    curves = group.curves[env_id]
    kind = "return" if curves[0].successes is None else "success"
    target = 1.0 if threshold is None and kind == "success" else threshold
    scores = scores_of(group, env_id)
    estimate = partial(statistics.estimate, scores, rng=rng, reps=reps, coupled=group.couples_seeds)
    reached = [] if target is None else [_first(curve, target) for curve in curves]
    seconds = [
        None if at is None or times is None else float(times[at])
        for at, times in zip(reached, group.seconds[env_id], strict=False)
        if at is None or times is not None
    ]
    steps = [None if at is None else float(curves[i].steps[at]) for i, at in enumerate(reached)]
    return Summary(
        label=group.label,
        env_id=env_id,
        score=kind,
        runs=len(curves),
        failed=len(group.failed),
        couples_seeds=group.couples_seeds,
        scores=[float(score) for score in scores[:, 0]],
        last_steps=[int(curve.steps[-1]) for curve in curves],
        iqm=estimate(statistics.iqm),
        median=estimate(statistics.run_median),
        mean=estimate(statistics.mean),
        optimality_gap=None
        if target is None
        else estimate(partial(statistics.optimality_gap, gamma=target)),
        reached=None if target is None else sum(at is not None for at in reached),
        steps=statistics.censored_median(steps),
        seconds=statistics.censored_median(seconds),
    )


def _first(curve: Curve, threshold: float) -> int | None:
    """The evaluation that first reached the threshold."""
    reached = np.flatnonzero(curve.scores >= threshold)
    return int(reached[0]) if len(reached) else None


def improvements(groups: Sequence[Group], *, seed: int) -> list[dict[str, Any]]:
    """Return the probability that a run of one group scores higher than one of another, for each
    pair that has runs in the same environment.
    """
    found = []
    for env_id, there in by_environment(groups):
        for first, second in combinations(there, 2):
            rng = np.random.default_rng(seed)
            x, y = scores_of(first, env_id), scores_of(second, env_id)
            estimate = statistics.improvement(x, y, rng)
            if first.couples_seeds or second.couples_seeds:
                estimate = Estimate(estimate.value, None, None)
            pair = {"env_id": env_id, "x": first.label, "y": second.label}
            found.append({**pair, **asdict(estimate)})
    return found
