"""Frame stacks, stored once per frame."""

from collections.abc import Container, Iterable
from math import prod
from typing import Any

import numpy as np

from pyrl_sb3.buffers import frames
from pyrl_sb3.buffers.columns import Allocate, Field, Obs, StepColumn, Where, same_bits
from pyrl_sb3.buffers.table import Array, EpisodeTable, Ints
from pyrl_sb3.errors import NoStackError

Write = tuple[Array, Any, Array]  # into what, in which rows, what

_CHUNK_BYTES = 2**22  # of stacks that are whole in memory at a time


class StackColumn(StepColumn):
    """One key whose observations are the last `n_stack` frames: a frame per step.

    The frames of an episode's first stack that are older than the episode are in the table, so
    that any padding comes back as it was. Rows are whole stacks, `(batch, *shape)`. Along which
    axis the frames lie is told by the first step that does not move the stack along the likelier
    one.
    """

    other: int | None = None  # axis that it may be instead

    def __init__(
        self,
        key: str,
        field: Field,
        n_stack: int,
        slots: int,
        table: EpisodeTable,
        allocate: Allocate,
    ) -> None:
        self.key, self.n_stack, self.shape = key, n_stack, field.shape
        self.axis, *others = frames.stacking_axes(key, field.shape, n_stack)
        self.other = others[0] if others else None
        size = prod(field.shape) // n_stack
        # The oldest step stored needs the frames of the steps before it.
        super().__init__({key: Field((size,), field.dtype)}, slots + n_stack - 1, table, allocate)
        self.pending = np.empty((table.n_envs, *field.shape), field.dtype)
        self.latest = np.empty_like(self.pending)  # what was put
        self.padding, self.padding_other = f"{key}/padding", f"{key}/padding along the other axis"
        table.add_field(self.padding, (n_stack - 1, size), field.dtype)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "current" in state:  # by an older version, frame after frame
            before, after = vars(self).pop("current"), self.pending
            self.latest = frames.stacked(before, self.shape, self.axis)
            self.pending = frames.stacked(after, self.shape, self.axis)

    def _value(self, obs: Obs) -> Array:
        """As it is stored; perhaps the very array that was given."""
        value = np.asarray(obs[self.key])
        if value.shape == self.shape and len(self.pending) == 1:
            value = value[None]  # of a single environment
        if value.shape != self.pending.shape:
            raise ValueError(
                f"observation {self.key!r} has shape {value.shape} instead of {self.pending.shape}"
            )
        return np.asarray(value, self.dtype, order="C")

    def put(self, position: int, obs: Obs) -> bool:
        """As for every column; the newest frame is stored."""
        value, start = self._value(obs), self.turn_to(position)
        newest = frames.newest(value, self.n_stack, self.axis)
        frames.put(newest, self.ring[start : start + len(newest)].reshape(newest.shape))
        pending = self._given[0] if self._given else bytearray(self.pending)
        same = bool(pending == value)
        self.latest = self.pending if same else value.copy()
        return same

    def put_next(self, obs: Obs) -> bool:
        """False if this is not the stack before, moved by one frame."""
        value = self._value(obs)
        after = frames.moved(self.latest, value, self.n_stack, self.axis)
        given: Any = bytearray(value)  # which is compared with arrays by their memory
        if given != after:
            return False
        self.pending, self._given = after, [given]  # a new array, for `go_back`
        return True

    def turn_for(self, obs: Obs, where: Where) -> None:
        """Take the other axis for all that is stored, where this step tells that it is that one.

        :param obs: after the step that has been put
        :param where: all steps, in order, that one last
        :raises NoStackError: this step, or one before, has not moved the stack along that axis
        """
        if self.other is None or not frames.is_moved(
            self.latest, self._value(obs), self.n_stack, self.other
        ):
            raise self._no_stack()
        size = max(_CHUNK_BYTES // self.pending.nbytes, 1) * self.table.n_envs
        chunks = [where.part(slice(at, at + size)) for at in range(0, len(where.rows), size)]
        for some in chunks:
            before, after = self._both(some)
            stored = some.positions < where.positions[-1]
            if not frames.is_moved(before[stored], after[stored], self.n_stack, self.other):
                raise self._no_stack()
        left: list[tuple[list[Write], list[Where]]] = [([], chunks)]
        axis = self.other
        try:
            self._turn_all(left, axis)
        except BaseException:
            self._turn_all(left, axis)  # half of it is along neither axis
            raise

    def _turn_all(self, left: list[tuple[list[Write], list[Where]]], axis: int) -> None:
        """Write what is worked out, and then what follows, the newest steps first: a stack is read
        from its own and older frames. After an interruption it goes on where it was.

        :param left: one entry, what is to be written and the steps that follow, oldest first
        """
        while left:
            writes, chunks = left[0]
            for array, rows, values in writes:
                array[rows] = values
            # At once, and only now: what is written twice does no harm, what is read then would.
            left[:] = [(self._writes(chunks[-1], len(chunks) == 1), chunks[:-1])] if chunks else []
        self.turn(axis)

    def _writes(self, some: Where, oldest: bool) -> list[Write]:
        """What is stored of these steps along the other axis."""
        assert self.other is not None
        whole = self._both(some)
        before, after = (frames.split(stacks, self.n_stack, self.other) for stacks in whole)
        n_envs, n, fields = self.table.n_envs, self.n_stack - 1, self.table.fields
        late = some.positions - self.table.starts(some.rows)
        ends, rows = some.positions == some.lasts, some.rows % len(fields[self.name])
        at = some.positions * n_envs + some.envs
        writes = [
            (self.ring, at % len(self.ring), before[:, -1]),
            (fields[self.name], rows[ends], after[ends, -1]),
        ]
        # The first step of an episode that is stored is the last for which its padding is read.
        first = late == 0
        if oldest:
            first[:n_envs] = True
            for i in range(n):  # it needs the frames of the steps before it
                lead = at[:n_envs] - (n - i) * n_envs
                writes.append((self.ring, lead % len(self.ring), before[:n_envs, i]))
        for steps in range(n):
            early = first & (late == steps)
            padding = fields[self.padding][:, steps:]
            writes.append((padding, rows[early], before[early, : n - steps]))
        return writes

    def _both(self, some: Where) -> tuple[Array, Array]:
        """Stacks before and after these steps."""
        return self.read(some.positions, some), self.read_next(some.positions, some)

    def _no_stack(self) -> NoStackError:
        return NoStackError(
            f"{self.key!r} is no stack of {self.n_stack} frames along axis {self.axis}: "
            "a step did not move it by one frame; leave out frame_stack"
        )

    def turn(self, axis: int) -> None:
        """Take this axis from now on, which was the other."""
        if axis == self.axis:
            return
        old, new = self.padding, self.padding_other
        fields = {name: rows for name, rows in self.table.fields.items() if name != old}
        fields[new] = self.table.fields[old]
        turned = fields, axis, self.axis, new, old
        # By one statement without a call, which no signal interrupts.
        self.table.fields, self.axis, self.other, self.padding, self.padding_other = turned

    def continues(self, position: int) -> Array:
        """By environment, whether what was just put is what was pending."""
        return same_bits(self.latest, self.pending)

    def sync(self, newest: Ints) -> None:
        """Write the newest frame to these rows of the episode table."""
        rows = self.table.fields[self.name]
        last = frames.newest(self.pending, self.n_stack, self.axis)
        rows[newest] = last.reshape(len(newest), rows.shape[1])

    def begin(self, rows: Ints, envs: Ints, position: int) -> None:
        """Keep the frames that are older than the episodes beginning."""
        whole = frames.split(self.latest[envs], self.n_stack, self.axis)
        self.table.fields[self.padding][rows] = whole[:, :-1]

    def read(self, positions: Ints, where: Where) -> Array:
        """Stacks before the steps at `positions`."""
        return self._fill(self._new(len(positions)), positions, where)

    def read_next(self, positions: Ints, where: Where) -> Array:
        """Stacks after the steps at `positions`."""
        return self._fill_next(self._new(len(positions)), positions, where)

    def read_all(self, where: Where, finals: Ints, chosen: Ints) -> Array:
        """As for every column."""
        n = len(finals)
        out = self._new(2 * n + len(chosen))
        before, after = self._fill(out[:n], where.positions, where), out[n : 2 * n]
        if finals is where.positions:  # then only the newest frames have not been read
            newest = frames.move(before, after, self.n_stack, self.axis)
            frames.put(super().read(finals + 1, where), newest)
            self._put_tails(after, finals, where)
        else:
            self._fill_next(after, finals, where)
        if len(chosen):
            some = where.part(slice(n - len(chosen), None))
            self._fill_next(out[2 * n :], chosen, some)
        return out

    def _new(self, n: int) -> Array:
        return np.empty((n, *self.shape), self.dtype)

    def _fill_next(self, out: Array, positions: Ints, where: Where) -> Array:
        self._fill(out, positions + 1, where)
        self._put_tails(out, positions, where)
        return out

    def _put_tails(self, out: Array, positions: Ints, where: Where) -> None:
        """Write the newest frames after these steps, where they are the last of their episodes."""
        ends = (positions == where.lasts).nonzero()[0]
        if len(ends):
            newest = frames.newest(out, self.n_stack, self.axis)
            newest[ends] = self._tails(where.rows[ends]).reshape(len(ends), *newest.shape[1:])

    def _fill(self, out: Array, positions: Ints, where: Where) -> Array:
        """Write the stacks before the steps at `positions`."""
        n_envs, n = self.table.n_envs, self.n_stack - 1
        into = frames.by_frame(out, self.n_stack, self.axis)
        at = positions if n_envs == 1 else positions * n_envs + where.envs
        at = (at - self._turn)[:, None] + np.arange(-n, 1) * n_envs
        if into.shape[1] == 1:  # whole frames, which go straight to where they belong
            self.ring.take(at, axis=0, mode="wrap", out=into[:, 0])
        else:
            for i, rows in enumerate(at.T):
                frames.put(self.ring.take(rows, axis=0, mode="wrap"), into[:, :, i])
        late = positions - self.table.starts(where.rows)
        early = (late < n).nonzero()[0]
        if len(early):  # some frames are older than the episode
            numbers = late[early, None] + np.arange(n)
            some, which = (numbers < n).nonzero()
            padding = self.table.fields[self.padding]
            older = padding[where.rows[early[some]] % len(padding), numbers[some, which]]
            into[early[some], :, which] = older.reshape(len(some), *into.shape[1::2])
        return out

    def pick(self, rows: Array, key: str) -> Array:
        """Stacks, as they are read."""
        return rows.astype(self._read_dtype, copy=False)


def turn_like(columns: Iterable[StepColumn], facts: Container[str]) -> None:
    """Give the stacks among the columns of an empty store the axes of another's.

    :param facts: names of what the other knows of its episodes
    """
    for column in columns:
        if not isinstance(column, StackColumn) or column.other is None:
            continue
        if column.padding_other in facts:
            column.turn(column.other)
