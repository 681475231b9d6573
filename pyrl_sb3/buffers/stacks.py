"""Frame stacks, stored once per frame."""

from collections.abc import Container, Iterable
from typing import Any

import numpy as np

from pyrl_sb3.buffers.columns import Allocate, Field, Obs, StepColumn, Where, same_bits
from pyrl_sb3.buffers.table import Array, EpisodeTable, Ints

Write = tuple[Array, Any, Array]  # into what, in which rows, what

_CHUNK_BYTES = 2**22  # of stacks that are whole in memory at a time


def stacking_axes(key: str, shape: tuple[int, ...], n_stack: int) -> list[int]:
    """The axes of an observation along which `n_stack` frames may lie, the likelier first.

    SB3's VecFrameStack lengthens the first or the last axis; gymnasium's FrameStackObservation
    adds a first one. Where both could be it, the shorter one is likelier, as in an image its
    channels; of what it takes for no image, SB3 lengthens the last all the same.

    :raises ValueError: neither axis has `n_stack` frames
    """
    axes = [axis for axis in {0, len(shape) - 1} if shape and shape[axis] % n_stack == 0]
    if not axes:
        raise ValueError(
            f"frame_stack={n_stack} does not divide the first or last axis of {key!r}, {shape}"
        )
    return sorted(axes, key=lambda axis: (shape[axis], axis))


class StackColumn(StepColumn):
    """One key whose observations are the last `n_stack` frames: a frame per step.

    The frames of an episode's first stack that are older than the episode are in the table, so
    that any padding comes back as it was. Rows are `(batch, n_stack, frame)`. Along which axis the
    frames lie is told by the first step that does not move the stack along the likelier one.
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
        self.axis, *others = stacking_axes(key, field.shape, n_stack)
        self.other = others[0] if others else None
        size = int(np.prod(field.shape)) // n_stack
        # The oldest step stored needs the frames of the steps before it.
        super().__init__({key: Field((size,), field.dtype)}, slots + n_stack - 1, table, allocate)
        self.pending = np.empty((table.n_envs, n_stack, size), field.dtype)
        self.current = np.empty_like(self.pending)
        self.padding, self.padding_other = f"{key}/padding", f"{key}/padding along the other axis"
        table.add_field(self.padding, (n_stack - 1, size), field.dtype)

    def _frames(self, obs: Obs, axis: int) -> Array:
        value = np.asarray(obs[self.key])
        if value.shape != (self.table.n_envs, *self.shape):
            raise ValueError(
                f"observation {self.key!r} has shape {value.shape} "
                f"instead of {(self.table.n_envs, *self.shape)}"
            )
        return self._split(value, axis)

    def _split(self, whole: Array, axis: int) -> Array:
        """Frames `(batch, n_stack, frame)` along an axis of stacks `(batch, *shape)`."""
        n, shape = len(whole), self.shape
        split = whole.reshape(n, *shape[:axis], self.n_stack, -1, *shape[axis + 1 :])
        return np.moveaxis(split, axis + 1, 1).reshape(n, *self.current.shape[1:])

    def put(self, position: int, obs: Obs) -> bool:
        """As for every column; the newest frame is stored."""
        self.current[:] = self._frames(obs, self.axis)
        start = self.turn_to(position)
        self.ring[start : start + self.table.n_envs] = self.current[:, -1]
        return self.current.tobytes() == self.pending.tobytes()

    def put_next(self, obs: Obs) -> bool:
        """False if this is not the stack before, moved by one frame."""
        # As stored, and a new one for `go_back`.
        frames = np.array(self._frames(obs, self.axis), self.dtype)
        if not _moved(self.current, frames):
            return False
        self.pending = frames
        return True

    def turn_for(self, obs: Obs, where: Where) -> None:
        """Take the other axis for all that is stored, where this step tells that it is that one.

        :param obs: after the step that has been put
        :param where: all steps, in order, that one last
        :raises ValueError: this step, or one before, has not moved the stack along that axis
        """
        if self.other is None or not _moved(
            self._turned(self.current), np.array(self._frames(obs, self.other), self.dtype)
        ):
            raise self._no_stack()
        size = max(_CHUNK_BYTES // self.pending.nbytes, 1) * self.table.n_envs
        chunks = [where.part(slice(at, at + size)) for at in range(0, len(where.rows), size)]
        for some in chunks:
            before, after = self._both_turned(some)
            stored = some.positions < where.positions[-1]
            if not _moved(before[stored], after[stored]):
                raise self._no_stack()
        # In place: `go_back` is given what was pending.
        writes = [(rows, slice(None), self._turned(rows)) for rows in (self.current, self.pending)]
        left, axis = [(writes, chunks)], self.other
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
        before, after = self._both_turned(some)
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

    def _both_turned(self, some: Where) -> tuple[Array, Array]:
        """Stacks before and after these steps, as they are along the other axis."""
        read = self.read(some.positions, some), self.read_next(some.positions, some)
        return self._turned(read[0]), self._turned(read[1])

    def _no_stack(self) -> ValueError:
        return ValueError(
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

    def _turned(self, rows: Array) -> Array:
        """Copies of rows as they are along the other axis."""
        assert self.other is not None
        return np.array(self._split(self._whole(rows), self.other))

    def continues(self, position: int) -> Array:
        """By environment, whether what was just put is what was pending."""
        return same_bits(self.current, self.pending)

    def sync(self, newest: Ints) -> None:
        """Write the newest frame to these rows of the episode table."""
        self.table.fields[self.name][newest] = self.pending[:, -1]

    def begin(self, rows: Ints, envs: Ints, position: int) -> None:
        """Keep the frames that are older than the episodes beginning."""
        self.table.fields[self.padding][rows] = self.current[envs, :-1]

    def read(self, positions: Ints, where: Where) -> Array:
        """Stacks before the steps at `positions`."""
        return self._stack(positions, where, super().read(positions, where))

    def read_next(self, positions: Ints, where: Where) -> Array:
        """Stacks after the steps at `positions`."""
        newest = super().read(positions + 1, where)
        ends = np.flatnonzero(positions == where.lasts)
        newest[ends] = self._tails(where.rows[ends])
        return self._stack(positions + 1, where, newest)

    def read_all(self, where: Where, finals: Ints, chosen: Ints) -> Array:
        """As for every column."""
        some = where.part(slice(len(finals) - len(chosen), None))
        every = (
            self.read(where.positions, where),
            self.read_next(finals, where),
            self.read_next(chosen, some),
        )
        return np.concatenate(every)

    def _stack(self, positions: Ints, where: Where, newest: Array) -> Array:
        out = np.empty((len(positions), self.n_stack, newest.shape[1]), self.dtype)
        out[:, -1] = newest
        starts = self.table.starts(where.rows)
        for back in range(1, self.n_stack):
            frames = super().read(np.maximum(positions - back, 0), where)
            early = np.flatnonzero(positions - back < starts)
            into = self.n_stack - 1 + positions[early] - back - starts[early]
            padding = self.table.fields[self.padding]
            frames[early] = padding[where.rows[early] % len(padding), into]
            out[:, -1 - back] = frames
        return out

    def pick(self, rows: Array, key: str) -> Array:
        """Stacks `(batch, *shape)` from their frames."""
        whole = self._whole(rows)
        return whole.astype(np.float32) if whole.dtype.kind == "f" else np.ascontiguousarray(whole)

    def _whole(self, rows: Array) -> Array:
        axis = self.axis
        frame = list(self.shape)
        frame[axis] //= self.n_stack
        parts = rows.reshape(len(rows), self.n_stack, *frame)
        return np.moveaxis(parts, 1, axis + 1).reshape(len(rows), *self.shape)


def _moved(before: Array, after: Array) -> bool:
    """Whether these stacks are those before, moved by one frame."""
    return after[:, :-1].tobytes() == before[:, 1:].tobytes()


def turn_like(columns: Iterable[StepColumn], facts: Container[str]) -> None:
    """Give the stacks among the columns of an empty store the axes of another's.

    :param facts: names of what the other knows of its episodes
    """
    for column in columns:
        if not isinstance(column, StackColumn) or column.other is None:
            continue
        if column.padding_other in facts:
            column.turn(column.other)
