"""What is stored in SB3's layout, and which of SB3's methods have no part in it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyrl_sb3.buffers.ends import RUNNING, TRUNCATED
from pyrl_sb3.buffers.episodes import EpisodeStore
from pyrl_sb3.buffers.fields import WHOLE
from pyrl_sb3.buffers.table import Array

_ASK_ARRAYS = ("_get_samples", "_get_real_samples", "_get_virtual_samples", "_sample_goals")


def refuse_lost_overrides(cls: type) -> None:
    """Check that a subclass overrides nothing that SB3's `sample` calls and ours does not.

    :raises TypeError: it does, with no `sample` or `sample_at` of its own beside it, nor another
        method that names it
    """
    ours = ("pyrl_sb3.", "stable_baselines3.", "builtins")
    theirs = [base for base in cls.__mro__ if not base.__module__.startswith(ours)]
    for name in _ASK_ARRAYS:
        owner = next((base for base in cls.__mro__ if name in vars(base)), object)
        if owner in theirs and not _may_be_called(name, theirs, theirs.index(owner)):
            raise TypeError(
                f"{cls.__name__}.{name} would never be called: override "
                "sample_at(positions, envs, env), which returns a batch, or _draw(batch_size)"
            )


def _may_be_called(name: str, classes: Sequence[type], owner: int) -> bool:
    if any({"sample", "sample_at"} & vars(each).keys() for each in classes[: owner + 1]):
        return True
    others = (method for each in classes for key, method in vars(each).items() if key != name)
    return any(name in method.__code__.co_names for method in others if hasattr(method, "__code__"))


class View:
    """One of SB3's arrays `(slots, n_envs, ...)`, made anew on every access.

    Slots that hold nothing yet are zero. It is read-only: a copy, of which nothing would be stored.
    Subclasses from elsewhere may have something of their own by its name.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, buffer: Any, owner: type | None = None) -> Any:
        if buffer is None:
            return self
        if self.name in vars(buffer):
            return vars(buffer)[self.name]
        arrays = sb3_arrays(buffer.store, self.name)
        return arrays if isinstance(arrays, np.ndarray) or buffer.keyed else arrays[WHOLE]

    def __set__(self, buffer: Any, value: Any) -> None:
        """Beside what is stored. See `_let_set`."""
        _let_set(self.name, buffer)
        vars(buffer)[self.name] = value

    @classmethod
    def forget_allocated(cls, buffer: Any) -> None:
        """Give up what SB3's constructors have allocated."""
        for name in list(vars(buffer)):
            if isinstance(getattr(type(buffer), name, None), cls):
                del vars(buffer)[name]


class Count(View):
    """SB3's `pos` or `full`, from what is stored, behind which it cannot fall."""

    def __get__(self, buffer: Any, owner: type | None = None) -> Any:
        if buffer is None:
            return self
        now = 0 if buffer._store is None else buffer._store.now
        return now >= buffer.buffer_size if self.name == "full" else now % buffer.buffer_size

    def __set__(self, buffer: Any, value: Any) -> None:
        """Nothing. See `_let_set`."""
        _let_set(self.name, buffer)


def _let_set(name: str, buffer: Any) -> None:
    """Check who sets this: SB3's constructors begin so, and subclasses may do as SB3's buffers.

    :raises AttributeError: it is none of these, and somebody means to change what is stored
    """
    if "_capacity" in vars(buffer) and type(buffer).__module__.startswith("pyrl_sb3."):
        raise AttributeError(f"{name!r} follows from what is stored: add() stores, reset() forgets")


class Dones(np.ndarray):
    """Read-only but for one thing, which changes nothing: SB3's `learn` marks a reset after the
    newest step, where the model saves memory. The buffer sees resets without it.
    """

    newest: int | None = None  # also of what is made of such an array

    @classmethod
    def of(cls, ends: Array, newest: int) -> "Dones":
        """These, of which one row is the newest step's."""
        dones = ends.view(cls)
        dones.newest = newest
        return dones

    def __setitem__(self, index: Any, value: Any) -> None:
        if not (type(index) is int and index == self.newest and value is True):
            super().__setitem__(index, value)

    def __array_wrap__(self, array: Array, *_: Any) -> Any:
        return array[()]  # what is computed of it is an ordinary array or number


def sb3_arrays(store: EpisodeStore, name: str) -> Any:
    """The array SB3 calls `name`, or for observations such arrays by key."""
    positions, envs = store.transitions(store.first, store.now)
    slots = store.slot(positions, envs)

    def laid_out(values: Array) -> Array:
        out = np.zeros((store.slots * store.n_envs, *values.shape[1:]), values.dtype)
        out[slots] = values
        arrays = out.reshape(store.slots, store.n_envs, *values.shape[1:])
        arrays.flags.writeable = False
        return arrays

    if name in ("actions", "rewards"):
        return laid_out(getattr(store, name)[slots])
    where = store.locate(positions, envs)
    if name in ("dones", "timeouts"):
        least = RUNNING if name == "dones" else TRUNCATED - 1
        ended = (where.positions == where.lasts) & (store.ends(where) > least)
        ends = laid_out(ended.astype(np.float32))
        if name == "dones":
            return Dones.of(ends, (store.now - 1) % store.slots)
        return ends
    obs, next_obs = store.read(where, positions)
    return {k: laid_out(v) for k, v in (obs if name == "observations" else next_obs).items()}
