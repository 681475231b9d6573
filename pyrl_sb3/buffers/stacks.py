"""Frame stacks, stored once per frame."""

import numpy as np

from pyrl_sb3.buffers.columns import Allocate, Field, Obs, StepColumn, Where, same_bits
from pyrl_sb3.buffers.table import Array, EpisodeTable, Ints


def stacking_axis(key: str, shape: tuple[int, ...], n_stack: int) -> int:
    """The axis of an observation along which `n_stack` frames lie: 0 or the last.

    SB3's VecFrameStack lengthens the first or the last axis; gymnasium's FrameStackObservation
    adds a first one. Where both could be it, it is the shorter one, as in an image its channels.

    :raises ValueError: neither axis has `n_stack` frames
    """
    axes = [axis for axis in (0, len(shape) - 1) if shape and shape[axis] % n_stack == 0]
    if not axes:
        raise ValueError(
            f"frame_stack={n_stack} does not divide the first or last axis of {key!r}, {shape}"
        )
    return min(axes, key=lambda axis: shape[axis])


class StackColumn(StepColumn):
    """One key whose observations are the last `n_stack` frames: a frame per step.

    The frames of an episode's first stack that are older than the episode are in the table, so
    that any padding comes back as it was. Rows are `(batch, n_stack, frame)`.
    """

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
        self.axis = stacking_axis(key, field.shape, n_stack)
        size = int(np.prod(field.shape)) // n_stack
        # The oldest step stored needs the frames of the steps before it.
        super().__init__({key: Field((size,), field.dtype)}, slots + n_stack - 1, table, allocate)
        self.pending = np.empty((table.n_envs, n_stack, size), field.dtype)
        self.current = np.empty_like(self.pending)
        self.padding = f"{key}/padding"
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
        start = self.turn_to(position)
        self.ring[start : start + self.table.n_envs] = self.current[:, -1]
        return self.current.tobytes() == self.pending.tobytes()

    def put_next(self, obs: Obs) -> bool:
        """As for every column.

        :raises ValueError: this is not the stack before, moved by one frame
        """
        frames = np.array(self._frames(obs), self.dtype)  # as stored, and a new one for `go_back`
        if frames[:, :-1].tobytes() != self.current[:, 1:].tobytes():
            raise ValueError(
                f"{self.key!r} is no stack of {self.n_stack} frames along axis {self.axis}: "
                "a step did not move it by one frame; leave out frame_stack"
            )
        self.pending = frames
        return True

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
        axis = self.axis
        frame = list(self.shape)
        frame[axis] //= self.n_stack
        parts = rows.reshape(len(rows), self.n_stack, *frame)
        whole = np.moveaxis(parts, 1, axis + 1).reshape(len(rows), *self.shape)
        return whole.astype(np.float32) if whole.dtype.kind == "f" else np.ascontiguousarray(whole)

    @property
    def nbytes(self) -> int:
        """Bytes held outside the table."""
        return super().nbytes + self.current.nbytes
