"""Frame stacks, stored once per frame."""

from collections.abc import Container, Iterable

import numpy as np

from pyrl_sb3.buffers.columns import Allocate, Field, Obs, StepColumn, Where, same_bits
from pyrl_sb3.buffers.table import Array, EpisodeTable, Ints


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
    frames lie is told by the first stack that differs from the one before.
    """

    other: int | None = None  # axis that it may be instead
    _all: bytes | None = None  # the one stack that has been seen so far, if it is one

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

    def _frames(self, obs: Obs) -> Array:
        n_envs, axis = self.table.n_envs, self.axis
        value = np.asarray(obs[self.key])
        if value.shape != (n_envs, *self.shape):
            raise ValueError(
                f"observation {self.key!r} has shape {value.shape} "
                f"instead of {(n_envs, *self.shape)}"
            )
        split = value.reshape(n_envs, *self.shape[:axis], self.n_stack, -1, *self.shape[axis + 1 :])
        return np.moveaxis(split, axis + 1, 1).reshape(self.pending.shape)

    def put(self, position: int, obs: Obs) -> bool:
        """As for every column; the newest frame is stored."""
        self.current[:] = self._frames(obs)
        seen = self.current.tobytes()
        if self.other is not None and (position == 0 or seen != self._all):
            self._all = None if position else seen
        self._start = start = self.turn_to(position)
        self.ring[start : start + self.table.n_envs] = self.current[:, -1]
        return seen == self.pending.tobytes()

    def put_next(self, obs: Obs) -> bool:
        """As for every column.

        :raises ValueError: this is not the stack before, moved by one frame
        """
        frames = np.array(self._frames(obs), self.dtype)  # as stored, and a new one for `go_back`
        if not _moved(self.current, frames):
            if not self._turned_for(obs):
                raise ValueError(
                    f"{self.key!r} is no stack of {self.n_stack} frames along axis {self.axis}: "
                    "a step did not move it by one frame; leave out frame_stack"
                )
            frames = np.array(self._frames(obs), self.dtype)
        elif self._all is not None and frames.tobytes() != self._all:
            self._all = None  # it has moved along this one
        self.pending = frames
        return True

    def _turned_for(self, obs: Obs) -> bool:
        """Whether this is the stack before, moved along the other axis, and what is stored could be
        turned to that: it can where it is one stack only.
        """
        if self._all is None or self._turn:
            return False
        self.turn()
        stays = _moved(self.current, self.current) or self._start == 0
        if not (stays and _moved(self.current, np.array(self._frames(obs), self.dtype))):
            self.turn()
            return False
        n_envs, fields = self.table.n_envs, self.table.fields
        self.pending[:] = self.current  # in place: `go_back` is given it
        rows = self.ring[: self._start + n_envs].reshape(-1, n_envs, self.ring.shape[1])
        rows[:] = self.current[:, -1]
        for name, frames in (
            (self.padding, self.current[:, :-1]),
            (self.name, self.current[:, -1]),
        ):
            fields[name].reshape(-1, *frames.shape)[:] = frames
        self._all = self.current.tobytes()
        return True

    def turn(self) -> None:
        """Take the other axis from now on, before anything is stored."""
        assert self.other is not None
        whole = self._whole(self.current)
        self.axis, self.other = self.other, self.axis
        self.current[:] = self._frames({self.key: whole})
        fields = self.table.fields
        fields[self.padding_other] = fields.pop(self.padding)
        self.padding, self.padding_other = self.padding_other, self.padding

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

    @property
    def nbytes(self) -> int:
        """Bytes held outside the table."""
        return super().nbytes + self.current.nbytes


def _moved(before: Array, after: Array) -> bool:
    """Whether these stacks are those before, moved by one frame."""
    return after[:, :-1].tobytes() == before[:, 1:].tobytes()


def turn_like(columns: Iterable[StepColumn], facts: Container[str]) -> None:
    """Give the stacks among the columns of an empty store the axes of another's.

    :param facts: names of what the other knows of its episodes
    """
    for column in columns:
        if isinstance(column, StackColumn) and column.padding_other in facts:
            column.turn()
