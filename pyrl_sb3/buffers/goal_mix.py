"""What share of a batch gets goals of which kind, and from which steps."""

from collections.abc import Mapping

import numpy as np

from pyrl_sb3.buffers.columns import Where
from pyrl_sb3.buffers.episodes import EpisodeStore
from pyrl_sb3.buffers.fields import known_keys
from pyrl_sb3.buffers.table import Ints


def shares(goal_mix: Mapping[str, float]) -> tuple[float, dict[str, float]]:
    """The share of rows with new goals, and among these the shares of the strategies."""
    kinds = ("real", "future", "final", "episode")
    known_keys("goal_mix", goal_mix, dict.fromkeys(kinds))
    total = sum(goal_mix.values())
    if min(goal_mix.values(), default=-1) < 0 or not 0 < total < float("inf"):
        raise ValueError(
            f"goal_mix={dict(goal_mix)} is no ratio: give weights such as {{'real': 1}}"
        )
    new = total - goal_mix.get("real", 0)
    shares = {kind: goal_mix[kind] / new for kind in kinds[1:] if goal_mix.get(kind)}
    return new / total, shares


def choose(
    shares: Mapping[str, float],
    where: Where,
    store: EpisodeStore,
    rng: np.random.Generator,
    kept: int = 0,
) -> Ints:
    """Positions of steps later in the episodes of `where`, at their ends, or anywhere in them: what
    these achieved are the new goals.

    :param kept: so many rows, the first, keep their goals: what is chosen for them is not used
    """
    starts = where.positions if shares.keys() == {"future"} else _starts(shares, where, store, kept)
    drawn = rng.random(len(starts))
    drawn *= where.stops - starts
    return starts + drawn.astype(np.int64)


def _starts(shares: Mapping[str, float], where: Where, store: EpisodeStore, kept: int) -> Ints:
    """The first steps that may be chosen: each strategy has its share of rows with new goals."""
    starts, done, share = where.positions.copy(), kept, 0.0
    for strategy, fraction in shares.items():
        share += fraction
        rows = slice(done, done := kept + round(share * (len(starts) - kept)))
        if strategy == "final":
            starts[rows] = where.lasts[rows]
        elif strategy == "episode":
            first = store.table.starts(where.rows[rows])
            starts[rows] = np.maximum(first, store.first)
    return starts
