"""Storage of episodes in a ring: each observation once, facts about an episode once per episode."""

from collections.abc import Collection, Mapping
from copy import copy
from typing import Any, NamedTuple

import numpy as np

from pyrl_sb3.buffers.columns import EpisodeColumn, StepColumn, Where
from pyrl_sb3.buffers.table import Array, EpisodeTable, Ints, StartBits

RUNNING, TERMINATED, TRUNCATED, CUT = range(4)
"""How an episode ended. CUT: the environment was reset before the episode was over."""


class Field(NamedTuple):
    """Shape and stored dtype of one array per transition."""

    shape: tuple[int, ...]
    dtype: np.dtype


class EpisodeStore:
    """The last `slots` transitions of each of `n_envs` environments that step together.

    Positions are absolute: they count the steps since the store was made and never wrap. The window
    is `[first, now)`. An episode whose start has left the window keeps its remaining transitions.

    An observation that is not the one the previous step led to begins a new episode: whoever reset
    the environment need not tell. Only a reset to the very same observation goes unnoticed, and
    then the two stretches cannot be told apart by their contents either.
    Comparison is of the stored bits.
    """

    def __init__(
        self,
        slots: int,
        n_envs: int,
        observations: Mapping[str, Field],
        action: Field,
        once: Collection[str] = (),
    ) -> None:
        self.slots, self.n_envs = slots, n_envs
        self.now = 0
        self.table = EpisodeTable(n_envs)
        self.bits = StartBits(slots, n_envs)
        self.actions = self._allocate("action", (slots * n_envs, *action.shape), action.dtype)
        self.rewards = self._allocate("reward", (slots * n_envs,), np.dtype(np.float32))
        self.columns: dict[str, StepColumn | EpisodeColumn] = {
            key: EpisodeColumn(key, *field, self.table)
            if key in once
            else StepColumn(key, *field, slots, self.table, self._allocate)
            for key, field in observations.items()
        }
        self._open = np.zeros(n_envs, bool)
        self._oldest = np.zeros(n_envs, np.int64)
        self._newest: Any = slice(0, n_envs)  # table rows of the newest episodes

    def __getstate__(self) -> dict[str, Any]:
        """Only what is filled."""
        state = {**self.__dict__, "columns": {k: copy(c) for k, c in self.columns.items()}}
        filled = min(self.now, self.slots) * self.n_envs
        state["actions"], state["rewards"] = self.actions[:filled], self.rewards[:filled]
        for column in state["columns"].values():
            if isinstance(column, StepColumn):
                column.ring = column.ring[:filled]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.actions = self._regrown("action", self.actions)
        self.rewards = self._regrown("reward", self.rewards)
        for key, column in self.columns.items():
            if isinstance(column, StepColumn):
                column.ring = self._regrown(key, column.ring)

    def _regrown(self, name: str, filled: Array) -> Array:
        shape = (self.slots * self.n_envs, *filled.shape[1:])
        ring = self._allocate(name, shape, filled.dtype)
        ring[: len(filled)] = filled
        return ring

    def _allocate(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        return np.empty(shape, dtype)

    @property
    def first(self) -> int:
        """The oldest position still stored."""
        return max(self.now - self.slots, 0)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        rings = [c.ring for c in self.columns.values() if isinstance(c, StepColumn)]
        rings += [self.actions, self.rewards, self.bits.words, self.bits.before]
        return self.table.nbytes + sum(ring.nbytes for ring in rings)

    def add(
        self,
        obs: Mapping[str, Array],
        next_obs: Mapping[str, Array],
        actions: Array,
        rewards: Array,
        ends: Array,
    ) -> None:
        """Store one step of every environment; arrays are `(n_envs, ...)` of the stored dtype and
        `ends` says how each step ended its episode (`RUNNING` when it did not).
        """
        begins = ~self._continues(obs)
        if begins.any():
            self._begin(begins, obs)
        self.bits.push(self.now, begins, self.table.counts)
        for key, column in self.columns.items():
            if isinstance(column, EpisodeColumn) and not (
                column.continues(next_obs[key], self._newest).all()
            ):
                column = self._per_step(column)
            column.write(self.now, obs[key], next_obs[key], self._newest)
        slot = self.now % self.slots * self.n_envs
        self.actions[slot : slot + self.n_envs] = actions
        self.rewards[slot : slot + self.n_envs] = rewards
        self.now += 1
        self.table.fields["end"][self._newest] = ends
        # Where the next episode would begin: the end of this one, read like any other's.
        self.table.fields["start"][self._after] = self.now
        self._open = ends == RUNNING

    def _continues(self, obs: Mapping[str, Array]) -> Array:
        """Whether each environment goes on with the episode it was in, shape `(n_envs,)`."""
        same = self._open
        for key, column in self.columns.items():
            if not same.any():
                break
            same = same & column.continues(obs[key], self._newest)
        return same

    def _begin(self, begins: Array, obs: Mapping[str, Array]) -> None:
        table, envs = self.table, np.flatnonzero(begins)
        left = np.flatnonzero(begins & self._open)
        if len(left):
            table.fields["end"][table.newest()[left]] = CUT
        if (table.counts - self._oldest).max() + 2 > table.rows:
            self._oldest = self._oldest_after_add()
        table.make_room(self._oldest)
        table.counts[envs] += 1
        newest = table.newest()
        after = table.row(table.counts, np.arange(self.n_envs))
        # A slice reads and writes a single row much faster than an index array does.
        single = self.n_envs == 1
        self._newest = slice(newest[0], newest[0] + 1) if single else newest
        self._after = slice(after[0], after[0] + 1) if single else after
        table.fields["start"][newest[envs]] = self.now
        for key, column in self.columns.items():
            column.begin(obs[key], newest[envs], envs)

    def _oldest_after_add(self) -> Ints:
        """Numbers of the oldest episodes that stay in the window when one more step comes in."""
        first = max(self.now + 1 - self.slots, 0)
        if first >= self.now:
            return self.table.counts.copy()
        return self.bits.numbers(np.full(self.n_envs, first), np.arange(self.n_envs))

    def _per_step(self, column: EpisodeColumn) -> StepColumn:
        """Store per step what has now changed within an episode."""
        values = self.table.fields.pop(column.key)
        key, shape = column.key, column.shape
        step = StepColumn(key, shape, values.dtype, self.slots, self.table, self._allocate)
        positions = np.repeat(np.arange(self.first, self.now), self.n_envs)
        envs = np.tile(np.arange(self.n_envs), self.now - self.first)
        rows = self.table.row(self.bits.numbers(positions, envs), envs)
        step.ring[(positions * self.n_envs + envs) % len(step.ring)] = values[rows]
        self.table.fields[step.tail][:] = values
        self.columns[key] = step
        return step

    def locate(self, positions: Ints, envs: Ints) -> Where:
        """The episodes of transitions inside the window; O(batch)."""
        table = self.table
        numbers = self.bits.numbers(positions, envs)
        rows = table.row(numbers, envs)
        starts = table.fields["start"].take(rows)
        lasts = table.fields["start"].take(table.row(numbers + 1, envs)) - 1
        return Where(positions, envs, rows, starts, lasts)

    def slot(self, positions: Ints, envs: Ints) -> Ints:
        """Where actions and rewards of these transitions are; stable while they are stored."""
        return positions % self.slots * self.n_envs + envs

    def ends(self, positions: Ints, where: Where) -> Array:
        """How the steps at `positions` ended their episodes."""
        return np.where(
            positions == where.lasts, self.table.fields["end"].take(where.rows), RUNNING
        )
