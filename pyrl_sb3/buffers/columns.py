"""How one observation key is stored: once per step, once per episode, or once per frame."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pyrl_sb3.buffers.table import Array, EpisodeTable, Ints

Allocate = Callable[[str, tuple[int, ...], np.dtype], Array]  # name, shape, dtype


class Where(NamedTuple):
    """Transitions and the episodes they belong to; every field has shape `(batch,)`."""

    positions: Ints  # absolute: counted from the first transition ever added
    envs: Ints
    rows: Ints  # of the episode table
    starts: Ints  # first position of the episode, perhaps overwritten by now
    lasts: Ints  # last position of the episode, so far

    def part(self, rows: slice) -> "Where":
        """The same for some of the transitions."""
        return Where(*(field[rows] for field in self))


def same_bits(a: Array, b: Array) -> Array:
    """Which of the leading entries hold the same bits (so that NaN equals itself), shape `(n,)`."""
    if a.tobytes() == b.tobytes():
        return np.ones(len(a), bool)
    flat_a, flat_b = (np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8) for x in (a, b))
    return (flat_a == flat_b).all(axis=1)


class StepColumn:
    """One observation per step, and in the episode table the one after each episode's last step.

    The observation after any other step is the next step's.
    """

    def __init__(
        self,
        key: str,
        shape: tuple[int, ...],
        dtype: np.dtype,
        slots: int,
        table: EpisodeTable,
        allocate: Allocate,
    ) -> None:
        self.key, self.shape, self.table = key, shape, table
        self.ring = allocate(key, (slots * table.n_envs, *shape), dtype)
        self.tail = f"{key}/tail"
        table.add_field(self.tail, shape, dtype)

    def continues(self, obs: Array, newest: Ints) -> Array:
        """Whether `obs` is what each environment's newest episode ended with, shape `(n_envs,)`."""
        return same_bits(self.table.fields[self.tail][newest], obs)

    def begin(self, obs: Array, rows: Ints, envs: Ints) -> None:
        """Take note of the first observation of episodes that begin in these table rows."""

    def write(self, position: int, obs: Array, next_obs: Array, newest: Ints) -> None:
        """Store one step of every environment."""
        n_envs = len(obs)
        slot = position * n_envs % len(self.ring)
        self.ring[slot : slot + n_envs] = obs
        self.table.fields[self.tail][newest] = next_obs

    def read(self, positions: Ints, where: Where) -> Array:
        """Observations before the steps at `positions` of the episodes of `where`."""
        n_envs = self.table.n_envs
        return self.ring.take((positions * n_envs + where.envs) % len(self.ring), axis=0)

    def read_next(self, positions: Ints, where: Where) -> Array:
        """Observations after the steps at `positions` of the episodes of `where`."""
        out = self.read(positions + 1, where)
        ends = np.flatnonzero(positions == where.lasts)
        if len(ends):
            out[ends] = self.table.fields[self.tail].take(where.rows[ends], axis=0)
        return out


class EpisodeColumn:
    """One observation per episode, for a key that keeps its value from reset to reset: a goal."""

    def __init__(
        self, key: str, shape: tuple[int, ...], dtype: np.dtype, table: EpisodeTable
    ) -> None:
        self.key, self.shape, self.table = key, shape, table
        table.add_field(key, shape, dtype)

    def continues(self, obs: Array, newest: Ints) -> Array:
        """Whether `obs` is the value of each environment's newest episode, shape `(n_envs,)`."""
        return same_bits(self.table.fields[self.key][newest], obs)

    def begin(self, obs: Array, rows: Ints, envs: Ints) -> None:
        """Take note of the value of episodes that begin in these table rows."""
        self.table.fields[self.key][rows] = obs[envs]

    def write(self, position: int, obs: Array, next_obs: Array, newest: Ints) -> None:
        """Nothing: the value is the episode's."""

    def read(self, positions: Ints, where: Where) -> Array:
        """Values in the episodes of `where`."""
        return self.table.fields[self.key].take(where.rows, axis=0)

    read_next = read
