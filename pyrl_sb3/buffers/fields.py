"""From observation spaces to what is stored for them."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_obs_shape

from pyrl_sb3.buffers.columns import Field
from pyrl_sb3.buffers.frames import stacking_axes
from pyrl_sb3.errors import as_whole

DType = str | type[Any] | np.dtype
DTypes = DType | Mapping[str, DType]
WHOLE = "observation"  # the one key of observations that are no dict


def by_key(space: spaces.Space[Any]) -> dict[str, spaces.Space[Any]]:
    """The spaces of all keys.

    :raises ValueError: a key is a space of several arrays
    """
    keyed = dict(space.spaces) if isinstance(space, spaces.Dict) else {WHOLE: space}
    for key, sub in keyed.items():
        if isinstance(sub, (spaces.Dict, spaces.Tuple)):
            raise ValueError(
                f"observation key {key!r} is a {type(sub).__name__} of its own, which cannot be "
                "stored: use gymnasium.wrappers.FlattenObservation or one key per array"
            )
    return keyed


def known_keys(option: str, given: Mapping[str, Any], keys: Mapping[str, Any]) -> None:
    """Check that an option only names keys that exist.

    :raises ValueError: it does not
    """
    for key in sorted(set(given) - set(keys)):
        raise ValueError(f"{option} names {key!r}, which is none of {sorted(keys)}")


def stored_fields(space: spaces.Space[Any], dtype: DTypes) -> dict[str, Field]:
    """Shape and stored dtype of every observation key; `dtype` is for floats only.

    :raises ValueError: an unknown key in `dtype`, a dtype that is no float
    """
    keyed = by_key(space)
    dtypes: dict[str, DType] = dict.fromkeys(keyed, np.float32)
    dtypes.update(dtype if isinstance(dtype, Mapping) else dict.fromkeys(keyed, dtype))
    known_keys("dtype", dtypes, keyed)
    fields = {}
    for key, sub in keyed.items():
        own, wanted = np.dtype(sub.dtype), np.dtype(dtypes[key])
        if own.kind == "f" and wanted.kind != "f":
            raise ValueError(f"dtype {wanted.name!r} cannot hold {key!r}, which is {own.name}")
        shape = get_obs_shape(sub)
        assert isinstance(shape, tuple)
        fields[key] = Field(shape, wanted if own.kind == "f" else own)
    return fields


def step_bytes(
    fields: Mapping[str, Field], action: Field, once: Collection[str], stacks: Mapping[str, int]
) -> int:
    """Bytes of one transition, apart from what is stored once per episode."""
    kept = {key: field for key, field in fields.items() if key not in once}
    observations = sum(field.n_bytes // stacks.get(key, 1) for key, field in kept.items())
    return observations + action.n_bytes + 4  # the reward


def bulk_dtype(fields: Mapping[str, Field]) -> np.dtype:
    """The dtype of the key that takes the most bytes."""
    largest = max(fields.values(), key=lambda field: field.n_bytes, default=None)
    return np.dtype(np.float32) if largest is None else largest.dtype


def stacks(space: spaces.Space[Any], frame_stack: int | Mapping[str, int]) -> dict[str, int]:
    """Number of stacked frames by key, for those that are stacked.

    :raises ValueError: an unknown key, a number without a key where there are several, or a number
        that is no whole one from 1 on or that no axis of such observations can be made of
    """
    keyed = by_key(space)
    if not isinstance(frame_stack, Mapping):
        if isinstance(space, spaces.Dict) and whole("frame_stack", frame_stack, "frames") > 1:
            raise ValueError(
                f"frame_stack={frame_stack} does not say of which key: give a dict, "
                f"{{{next(iter(keyed))!r}: {frame_stack}}} for example"
            )
        frame_stack = dict.fromkeys(keyed, frame_stack)
    known_keys("frame_stack", frame_stack, keyed)
    counts = {key: whole("frame_stack", n, "frames") for key, n in frame_stack.items()}
    stacked = {key: n for key, n in counts.items() if n > 1}
    for key, n in stacked.items():
        shape = get_obs_shape(keyed[key])
        assert isinstance(shape, tuple)
        stacking_axes(key, shape, n)
    return stacked


def whole(name: str, value: Any, of: str) -> int:
    """The value of an option that is a number of something, as `int`.

    :raises ValueError: it is no whole number from 1 on
    """
    number = as_whole(value)
    if number is None or number < 1:
        raise ValueError(f"{name}={value!r} is no number of {of}: choose a whole one from 1 on")
    return number


def check_same_spaces(stored: spaces.Space[Any], other: spaces.Space[Any]) -> None:
    """Check that what is stored fits an environment.

    :raises ValueError: it does not; names the key
    """
    mine, theirs = by_key(stored), by_key(other)
    for key in sorted(set(mine) ^ set(theirs)):
        where = "buffer" if key in mine else "environment"
        raise ValueError(f"observation key {key!r} is only in the {where}")
    for key, space in mine.items():
        if space.shape != theirs[key].shape:
            raise ValueError(
                f"observation key {key!r} has shape {space.shape} in the buffer "
                f"and {theirs[key].shape} in the environment"
            )
