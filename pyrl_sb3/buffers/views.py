"""What is stored in SB3's layout, and which of SB3's methods have no part in it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyrl_sb3.buffers.ends import RUNNING, TRUNCATED
from pyrl_sb3.buffers.episodes import EpisodeStore
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
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, buffer: Any, owner: type | None = None) -> Any:
        if buffer is None:
            return self
        arrays = sb3_arrays(buffer.store, self.name)
        if self.name == "dones" and getattr(buffer, "_marks_resets", False):
            arrays.flags.writeable = True  # SB3's `learn` would fail; resets are seen without it
        return arrays if isinstance(arrays, np.ndarray) or buffer.keyed else arrays["observation"]

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
        """Nothing: SB3's constructors begin by setting them, and subclasses may as SB3's do.

        :raises AttributeError: it is none of these, and somebody means to change what is stored
        """
        if "_capacity" in vars(buffer) and type(buffer).__module__.startswith("pyrl_sb3."):
            raise AttributeError(
                f"{self.name!r} follows from what is stored: add() stores, reset() forgets"
            )


def sb3_arrays(store: EpisodeStore, name: str) -> Any:
    """The array SB3 calls `name`, or for observations such arrays by key."""
    positions = np.repeat(np.arange(store.first, store.now), store.n_envs)
    envs = np.tile(np.arange(store.n_envs), store.now - store.first)
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
        return laid_out(ended.astype(np.float32))
    obs, next_obs = store.read(where, positions)
    return {k: laid_out(v) for k, v in (obs if name == "observations" else next_obs).items()}
