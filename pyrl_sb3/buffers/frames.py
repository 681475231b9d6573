"""How frames lie in stacks: contiguous `(batch, *shape)`, of `n_stack` frames along an axis."""

from math import prod

import numpy as np

from pyrl_sb3.buffers.table import Array


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


def by_frame(stacks: Array, n_stack: int, axis: int) -> Array:
    """A view `(batch, pieces, n_stack, piece)`: a piece is what of a frame lies side by side."""
    n, *shape = stacks.shape
    return stacks.reshape(n, prod(shape[:axis]), n_stack, prod(shape[axis:]) // n_stack)


def newest(stacks: Array, n_stack: int, axis: int) -> Array:
    """A view of the newest frames, `(batch, pieces, piece)`."""
    return by_frame(stacks, n_stack, axis)[:, :, -1]


def split(stacks: Array, n_stack: int, axis: int) -> Array:
    """The frames one after the other, `(batch, n_stack, size)`."""
    n, pieces, _, piece = (frames := by_frame(stacks, n_stack, axis)).shape
    return frames.swapaxes(1, 2).reshape(n, n_stack, pieces * piece)


def stacked(frames: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Stacks of frames `(batch, n_stack, size)`."""
    out = np.empty((len(frames), *shape), frames.dtype)
    into = by_frame(out, frames.shape[1], axis).swapaxes(1, 2)
    into[:] = frames.reshape(into.shape)
    return out


def put(frames: Array, into: Array) -> None:
    """Write frames, of any shape, into a view `(batch, pieces, piece)`."""
    frames, piece = frames.reshape(into.shape), into.shape[2]
    # Few channels one by one: numpy's inner loop is along the last axis, and slow to begin.
    for part in range(piece) if piece < into.shape[1] else [slice(None)]:
        into[:, :, part] = frames[:, :, part]


def move(stacks: Array, into: Array, n_stack: int, axis: int) -> Array:
    """Write stacks moved by one frame, except for the newest frames, of which it returns a view."""
    last = newest(into, n_stack, axis)
    # Along any axis, the next older frame is one piece before.
    n, size, by = len(stacks), prod(stacks.shape[1:]), last.shape[2]
    into.reshape(n, size)[:, : size - by] = stacks.reshape(n, size)[:, by:]
    return last


def moved(before: Array, after: Array, n_stack: int, axis: int) -> Array:
    """What `after` is if these stacks are those before, moved by one frame."""
    out = np.empty_like(before)
    put(newest(after, n_stack, axis), move(before, out, n_stack, axis))
    return out


def is_moved(before: Array, after: Array, n_stack: int, axis: int) -> bool:
    """Whether these stacks are those before, moved by one frame; what is compared are the bits."""
    return moved(before, after, n_stack, axis).tobytes() == after.tobytes()
