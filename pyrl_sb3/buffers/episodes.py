"""Storage of episodes in a ring: each observation once, facts about an episode once per episode."""

from collections.abc import Collection, Mapping
from copy import copy
from types import MappingProxyType
from typing import Any

import numpy as np

from pyrl_sb3.buffers.actions import as_scaled
from pyrl_sb3.buffers.columns import Allocate, EpisodeColumn, Field, Obs, StepColumn, Where
from pyrl_sb3.buffers.ends import CUT, RUNNING
from pyrl_sb3.buffers.stacks import StackColumn
from pyrl_sb3.buffers.table import Array, EpisodeTable, Ints, StartBits

_NONE = np.empty(0, np.int64)


class EpisodeStore:
    """The last `slots` transitions of each of `n_envs` environments that step together.

    Positions are absolute: they count the steps since the store was made and never wrap. The window
    is `[first, now)`. An episode whose start has left the window keeps its remaining transitions.

    An observation that is not the one the previous step led to begins a new episode: whoever reset
    the environment need not tell. Only a reset to the very same observation goes unnoticed.
    What is compared are the stored bits.
    """

    _floor = 0  # nothing older is whole

    def __init__(
        self,
        slots: int,
        n_envs: int,
        observations: Mapping[str, Field],
        action: Field,
        once: Collection[str] = (),
        stacks: Mapping[str, int] = MappingProxyType({}),
        allocate: Allocate = np.empty,
    ) -> None:
        self.slots, self.n_envs, self._allocate = slots, n_envs, allocate
        self.now = 0
        self.table = EpisodeTable(n_envs)
        self.actions = self._allocate((slots * n_envs, *action.shape), action.dtype)
        self.rewards = self._allocate((slots * n_envs,), np.dtype(np.float32))
        self.columns: list[StepColumn] = []
        by_dtype: dict[np.dtype, dict[str, Field]] = {}
        for key, field in observations.items():
            if key in once:
                self.columns.append(EpisodeColumn(key, field, self.table))
            elif key in stacks:
                stack = StackColumn(key, field, stacks[key], slots, self.table, allocate)
                self.columns.append(stack)
            else:
                by_dtype.setdefault(field.dtype, {})[key] = field
        for fields in by_dtype.values():
            self.columns.append(StepColumn(fields, slots, self.table, self._allocate))
        self.bits = StartBits(slots, n_envs)  # after what is larger, and is refused by its size
        self._ends = np.full(n_envs, CUT, np.int8)  # of the newest episodes
        self._over = True  # an episode is
        self._newest: Any = None  # their rows in the table
        self._synced = True

    def __getstate__(self) -> dict[str, Any]:
        """Only what is filled."""
        self.sync()
        filled = min(self.now, self.slots) * self.n_envs
        columns = [copy(column) for column in self.columns]
        for column in columns:
            column.ring = column.ring[: self.now * self.n_envs]
        return {
            **self.__dict__,
            "columns": columns,
            "actions": self.actions[:filled],
            "rewards": self.rewards[:filled],
            "lengths": [len(column.ring) for column in self.columns],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        lengths = state.pop("lengths")
        self.__dict__.update(state)
        self.actions = self._regrown(self.actions, self.slots * self.n_envs)
        self.rewards = self._regrown(self.rewards, self.slots * self.n_envs)
        for column, length in zip(self.columns, lengths, strict=True):
            column.ring = self._regrown(column.ring, length)

    def convert_actions(self, dtype: np.dtype) -> None:
        """Hold actions in this dtype from now on."""
        filled = min(self.now, self.slots) * self.n_envs
        self.actions = self._regrown(as_scaled(self.actions[:filled], dtype), len(self.actions))

    def _regrown(self, filled: Array, length: int) -> Array:
        ring = self._allocate((length, *filled.shape[1:]), filled.dtype)
        ring[: len(filled)] = filled
        return ring

    @property
    def first(self) -> int:
        """The oldest position still stored."""
        return max(self.now - self.slots, self._floor)

    def add(
        self, obs: Obs, next_obs: Obs, actions: Array, rewards: Array, ends: Array | None = None
    ) -> None:
        """Store one step of every environment: arrays `(n_envs, ...)`.

        Where that fails or is interrupted, what was stored stays, except for the step that was to
        be overwritten.

        :param ends: how each step ended its episode (`RUNNING` if it did not); None: no step did
        """
        now, n_envs, table = self.now, self.n_envs, self.table
        # What changes before all is done; arrays that are replaced, not those that are written to.
        pending = [column.pending for column in self.columns]
        before = self._ends, self._over, self._newest, table.counts, self.columns, pending
        try:
            # All columns have to see the observation, whatever the first says.
            same = [column.put(now, obs) for column in self.columns]
            if self._over or not all(same):
                self._begin()
            elif now % 64 == 0:
                self.bits.push(now, np.zeros(n_envs, bool), table.counts)
            for column in self.columns:
                if not column.put_next(next_obs):
                    self._otherwise(column, obs, next_obs).put_next(next_obs)
            slot = now % self.slots * n_envs
            self.actions[slot : slot + n_envs] = actions
            self.rewards[slot : slot + n_envs] = rewards
            self._synced = False
            if ends is not None:
                self._ends, self._over = np.array(ends, np.int8), True
            self.now = now + 1  # last: now the step is stored
        except BaseException:
            self._go_back(before)
            raise

    def drop_oldest(self) -> None:
        """Give up the step that the next one overwrites, which `add` does by itself."""
        self._floor = max(self.now + 1 - self.slots, self._floor)

    def _go_back(self, before: tuple[Any, ...]) -> None:
        """Make what `add` has changed what it was before."""
        self._ends, self._over, self._newest, self.table.counts, self.columns, pending = before
        for column, values in zip(self.columns, pending, strict=True):
            column.go_back(values)
        self.bits.clear(self.now)
        self.drop_oldest()
        self._synced = self.now == 0

    def sync(self) -> None:
        """Bring the episode table up to date with the newest step."""
        if self._synced:
            return
        table, newest = self.table, self._newest
        for column in self.columns:
            column.sync(newest)
        table.fields["end"][newest] = self._ends
        # Where the next episode would begin: so the newest's end is read like any other's.
        table.fields["start"][table.row(table.counts, table.envs)] = self.now
        self._synced = True

    def cut(self) -> None:
        """End the running episodes here: the environments have been, or will be, reset."""
        self._ends = np.where(self._ends == RUNNING, np.int8(CUT), self._ends)
        self._over, self._synced = True, self.now == 0

    def _begin(self) -> None:
        """Begin an episode where one is over, or where the environment was reset unannounced."""
        table = self.table
        self.sync()
        goes_on = running = self._ends == RUNNING
        if np.count_nonzero(running):
            for column in self.columns:
                goes_on = goes_on & column.continues(self.now)
            table.fields["end"][self._newest[running & ~goes_on]] = CUT
        starts = ~goes_on
        envs = starts.nonzero()[0]
        self._make_room()
        table.counts = table.counts + starts
        self._newest = newest = table.newest()
        rows = newest[envs]
        table.fields["start"][rows] = self.now
        self._ends, self._over = np.zeros(self.n_envs, np.int8), False  # RUNNING
        for column in self.columns:
            column.begin(rows, envs, self.now)
        self.bits.push(self.now, starts, table.counts)

    def _make_room(self) -> None:
        table = self.table
        if not table.full():
            return
        first = max(self.now + 1 - self.slots, 0)  # once this step is in
        stored, oldest, expected = self.now - first, table.counts.copy(), 0
        if stored:
            half = first + stored // 2
            oldest, middle = (
                self.bits.numbers(np.full(self.n_envs, at), table.envs) for at in (first, half)
            )
            # A full ring at the pace of the newest half; when it is full, all at that pace.
            pace = (table.counts - middle) / (self.now - half)
            kept = np.maximum(table.counts - oldest, pace * stored)
            expected = int(np.max(kept + pace * (self.slots - stored)))
        table.forget(oldest, expected, self.slots + 2)

    def _otherwise(self, column: StepColumn, obs: Obs, next_obs: Obs) -> StepColumn:
        """Store otherwise what has now changed as its column cannot keep it."""
        self._synced = False
        self.sync()
        first = max(self.first, self.now + 1 - self.slots)  # the one before is overwritten
        positions, envs = self.transitions(first, self.now + 1)
        if isinstance(column, StackColumn):
            column.turn_for(next_obs, self.locate(positions, envs))
            return column
        values = self.table.fields[column.name]
        step = StepColumn(column.fields, self.slots, self.table, self._allocate)
        rows = self.table.row(self.bits.numbers(positions, envs), envs)
        step.ring[(positions * self.n_envs + envs) % len(step.ring)] = values[rows]
        step.put(self.now, obs)
        self.columns = [step if other is column else other for other in self.columns]
        return step

    def transitions(self, first: int, past: int) -> tuple[Ints, Ints]:
        """Positions and environments of all steps `[first, past)`, step after step."""
        positions = np.repeat(np.arange(first, past), self.n_envs)
        return positions, np.tile(np.arange(self.n_envs), past - first)

    def locate(self, positions: Ints, envs: Ints) -> Where:
        """The episodes of transitions inside the window; O(batch)."""
        self.sync()
        table = self.table
        following = table.near(self.bits.following(positions, envs), envs)
        rows, stops = following - self.n_envs, table.starts(following)
        return Where(positions, envs, rows, stops, self._near(positions, envs))

    def slot(self, positions: Ints, envs: Ints) -> Ints:
        """Where actions and rewards of these transitions are; stable while they are stored."""
        slots = positions % self.slots
        return slots if self.n_envs == 1 else slots * self.n_envs + envs

    def _near(self, positions: Ints, envs: Ints) -> Ints:
        """The same, up to whole turns, which is quicker: to be taken with `mode="wrap"`."""
        at = positions - (self.now - self.now % self.slots)
        return at if self.n_envs == 1 else at * self.n_envs + envs

    def actions_at(self, where: Where) -> Array:
        """Actions of these transitions, `(batch, action_dim)`."""
        return self.actions.take(where.steps, axis=0, mode="wrap")

    def rewards_at(self, where: Where) -> Array:
        """Rewards of these transitions, `(batch,)`."""
        return self.rewards.take(where.steps, mode="wrap")

    def rewards_of(self, positions: Ints, envs: Ints) -> Array:
        """Rewards of the transitions at these positions, of any shape."""
        return self.rewards.take(self._near(positions, envs), mode="wrap")

    def ends(self, where: Where) -> Array:
        """How the episodes of `where` ended."""
        return self.table.fields["end"].take(where.rows, mode="wrap")

    def column(self, key: str) -> StepColumn:
        """The column that holds this key."""
        return next(column for column in self.columns if key in column.fields)

    def read_before(self, key: str, positions: Ints, where: Where) -> Array:
        """Observations of one key before the steps at `positions` of the episodes of `where`."""
        column = self.column(key)
        return column.pick(column.read(positions, where), key)

    def read_next(self, key: str, positions: Ints, where: Where) -> Array:
        """Observations of one key after the steps at `positions` of the episodes of `where`."""
        column = self.column(key)
        return column.pick(column.read_next(positions, where), key)

    def read_both(self, where: Where, finals: Ints) -> dict[str, Array]:
        """All keys: observations at `where`, then those after `finals` in the same episodes;
        arrays `(2 * batch, ...)`.
        """
        return self.read_both_and(where, finals, "", _NONE)[0]

    def read_both_and(
        self, where: Where, finals: Ints, key: str, chosen: Ints
    ) -> tuple[dict[str, Array], Array]:
        """The same; and of this key those, then those after the steps at `chosen`, which are in the
        last episodes of `where`, in one array.
        """
        n, both, every = 2 * len(finals), {}, np.empty(0)
        for column in self.columns:
            rows = column.read_all(where, finals, chosen if key in column.fields else _NONE)
            for each in column.fields:
                if each == key:
                    every = column.pick(rows, key)
                both[each] = every[:n] if each == key else column.pick(rows[:n], each)
        return both, every

    def read(self, where: Where, finals: Ints) -> tuple[dict[str, Array], dict[str, Array]]:
        """The same in two dicts of arrays `(batch, ...)`."""
        n, both = len(finals), self.read_both(where, finals)
        return {k: x[:n] for k, x in both.items()}, {k: x[n:] for k, x in both.items()}
