"""How observations are stored: a row per step, or a value per episode."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np

from pyrl_sb3.buffers.table import Array, EpisodeTable, Ints

Allocate = Callable[[tuple[int, ...], np.dtype], Array]  # shape, dtype
Obs = Mapping[str, Any]


class Field(NamedTuple):
    """Shape and stored dtype of one array per transition."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def n_bytes(self) -> int:
        """Bytes of one of them."""
        # Of shapes in a stranger's file `math.prod` could take for ever.
        return int(np.prod(self.shape)) * self.dtype.itemsize


class Where(NamedTuple):
    """Transitions and the episodes they belong to; every field has shape `(batch,)`."""

    positions: Ints  # absolute: counted from the first transition ever added
    envs: Ints
    rows: Ints  # of the episode table, up to whole turns around it: take them with mode="wrap"
    stops: Ints  # one past the last position of the episode, so far
    steps: Ints  # rows of what is stored per step, up to whole turns around it

    @property
    def lasts(self) -> Ints:
        """Last position of the episode, so far."""
        return self.stops - 1

    def part(self, rows: "slice | Ints") -> "Where":
        """The same for some of the transitions."""
        return Where(*[field[rows] for field in self])


def same_bits(a: Array, b: Array) -> Array:
    """Which of the leading entries hold the same bits (so that NaN equals itself), shape `(n,)`."""
    a, b = (np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8) for x in (a, b))
    return np.logical_and.reduce(a == b, axis=1)


class StepColumn:
    """Keys of one dtype, side by side in a row per step.

    The observation after a step is the next step's, except after the last step of an episode: that
    one is in the episode table. Of the running episodes it is in `pending` until `sync`.
    """

    def __init__(
        self, fields: Mapping[str, Field], slots: int, table: EpisodeTable, allocate: Allocate
    ) -> None:
        self.table = table
        self.fields = dict(fields)
        widths = [prod(field.shape) for field in fields.values()]
        edges = np.cumsum([0, *widths]).tolist()
        self.spans = {key: slice(*edges[i : i + 2]) for i, key in enumerate(fields)}
        self.name = "last/" + "+".join(map(repr, fields))  # no key can be taken for another fact
        self.dtype = next(iter(fields.values())).dtype
        # What is stored in half precision is computed with in single.
        self._read_dtype = np.dtype(np.float32) if self.dtype.kind == "f" else self.dtype
        self.ring = allocate((slots * table.n_envs, edges[-1]), self.dtype)
        self.pending = np.empty((table.n_envs, edges[-1]), self.dtype)
        self._turn = 0  # times around the ring, in rows: of the newest step
        if self.name not in table.fields:  # by another column of these keys, whose values stay
            table.add_field(self.name, (edges[-1],), self.dtype)
        self._forget_given()

    def _forget_given(self) -> None:
        # Where the next observation goes, by key, and the bytes of what is pending as they were
        # given: both save time in `add`.
        self._spare = np.empty_like(self.pending)
        self._spares = self._parts(self._spare), self._parts(self.pending)
        self._given: list[bytes] = []

    def __getstate__(self) -> dict[str, Any]:
        left_out = ("_spare", "_spares", "_given")
        return {k: v for k, v in self.__dict__.items() if k not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget_given()

    def _parts(self, rows: Array) -> dict[str, Array]:
        return {key: rows[:, span] for key, span in self.spans.items()}

    def _put(self, parts: Mapping[str, Array], obs: Obs) -> list[bytes]:
        """Write each key to its part of the rows; the bytes that were given."""
        given = []
        for key, part in parts.items():
            value = np.asarray(obs[key])
            part[...] = value if value.shape == part.shape else self._flat(key, value)
            given.append(value.tobytes())
        return given

    def _flat(self, key: str, value: Array) -> Array:
        shape = (self.table.n_envs, *self.fields[key].shape)
        # Single numbers may come without their axis, a single environment without its own.
        shapes = shape, shape[:1], shape[1:], ()
        if value.shape not in shapes or value.size != prod(shape):
            raise ValueError(f"observation {key!r} has shape {value.shape} instead of {shape}")
        return value.reshape(self.table.n_envs, -1)

    def go_back(self, pending: Array) -> None:
        """Undo what an `add` has changed, except for what it overwrote in the ring."""
        self.pending = pending
        self._forget_given()

    def turn_to(self, position: int) -> int:
        """Make this position the newest; where it begins in the ring."""
        row = position * self.table.n_envs
        start = row % len(self.ring)
        self._turn = row - start
        return start

    def put(self, position: int, obs: Obs) -> bool:
        """Store what was observed before this step; whether all of it is what was pending."""
        start = self.turn_to(position)
        rows = self.ring[start : start + self.table.n_envs]
        if [np.asarray(obs[key]).tobytes() for key in self.fields] == self._given:
            rows[...] = self.pending  # in half the time of [:]
            return True
        self._put(self._parts(rows), obs)
        return rows.tobytes() == self.pending.tobytes()

    def put_next(self, obs: Obs) -> bool:
        """Keep what was observed after this step; false if this column cannot."""
        here, there = self._spares
        self._given = self._put(here, obs)
        # What was pending stays as it is, for `go_back`.
        self.pending, self._spare, self._spares = self._spare, self.pending, (there, here)
        return True

    def continues(self, position: int) -> Array:
        """By environment, whether what was put at this position is what was pending."""
        start = position * self.table.n_envs % len(self.ring)
        return same_bits(self.ring[start : start + self.table.n_envs], self.pending)

    def sync(self, newest: Ints) -> None:
        """Write what is pending to these rows of the episode table."""
        self.table.fields[self.name][newest] = self.pending

    def begin(self, rows: Ints, envs: Ints, position: int) -> None:
        """Take note that episodes begin in these rows of the table with what was just put."""

    def read(self, positions: Ints, where: Where) -> Array:
        """Rows before the steps at `positions` of the episodes of `where`."""
        n_envs = self.table.n_envs
        at = positions if n_envs == 1 else positions * n_envs + where.envs
        # Wrapping is quicker than taking remainders, when it is not far around.
        return self.ring.take(at - self._turn, axis=0, mode="wrap")

    def read_next(self, positions: Ints, where: Where) -> Array:
        """Rows after the steps at `positions` of the episodes of `where`."""
        after = positions + 1
        out = self.read(after, where)
        ends = (after == where.stops).nonzero()[0]
        if len(ends):
            out[ends] = self._tails(where.rows[ends])
        return out

    def _tails(self, rows: Ints) -> Array:
        """What was observed after the last steps of the episodes in these rows of the table."""
        return self.table.fields[self.name].take(rows, axis=0, mode="wrap")

    def read_all(self, where: Where, finals: Ints, chosen: Ints) -> Array:
        """Rows before the steps of `where`, after those at `finals`, and after those at `chosen`,
        which are steps of the last episodes of `where`; in one go, because memory is slow.
        """
        n, of, n_envs = len(finals), len(finals) - len(chosen), self.table.n_envs
        at = np.concatenate((where.positions, finals, chosen))
        at[n:] += 1
        ends = (at[n:] == np.concatenate((where.stops, where.stops[of:]))).nonzero()[0]
        if n_envs > 1:
            at = at * n_envs + np.concatenate((where.envs, where.envs, where.envs[of:]))
        at -= self._turn
        out = self.ring.take(at, axis=0, mode="wrap")
        if len(ends):
            rows = np.concatenate((where.rows, where.rows[of:]))
            out[n + ends] = self._tails(rows[ends])
        return out

    def pick(self, rows: Array, key: str) -> Array:
        """One key of rows: an array `(batch, *shape)`, a view where it can be one."""
        part = rows[:, self.spans[key]].astype(self._read_dtype, copy=False)
        return part.reshape(len(rows), *self.fields[key].shape)


class EpisodeColumn(StepColumn):
    """A key that keeps its value from reset to reset (a goal): one row per episode."""

    def __init__(self, key: str, field: Field, table: EpisodeTable) -> None:
        super().__init__({key: field}, 1, table, np.empty)
        self.key = key
        self._seen = b""  # the value as it was given, which is quicker to compare

    def go_back(self, pending: Array) -> None:
        """As for every column."""
        super().go_back(pending)
        self.ring[:] = pending
        self._seen = b""

    def put(self, position: int, obs: Obs) -> bool:
        """As for every column, but the value of the episode is what was pending."""
        if np.asarray(obs[self.key]).tobytes() == self._seen:
            return True
        return super().put(position, obs)

    def put_next(self, obs: Obs) -> bool:
        """Whether the value stays the same in every environment."""
        seen = np.asarray(obs[self.key]).tobytes()
        if seen == self._seen:
            return True
        rows = np.empty_like(self.pending)
        self._put(self._parts(rows), obs)
        if rows.tobytes() != self.pending.tobytes():
            return False
        self._seen = seen
        return True

    def begin(self, rows: Ints, envs: Ints, position: int) -> None:
        """Take note of the values that were just put."""
        pending = self.pending.copy()
        pending[envs] = self.ring[envs]
        self.pending, self._seen = pending, b""

    def read(self, positions: Ints, where: Where) -> Array:
        """Rows of the episodes of `where`."""
        return self._tails(where.rows)

    def read_next(self, positions: Ints, where: Where) -> Array:
        """The same rows."""
        return self.read(positions, where)

    def read_all(self, where: Where, finals: Ints, chosen: Ints) -> Array:
        """The same rows, twice, and again those of the last episodes."""
        rows = self.read(finals, where)
        return np.concatenate((rows, rows, rows[len(rows) - len(chosen) :]))
