"""How actions are stored, now and by older versions.

Those scaled actions of whole numbers to [-1, 1] and stored them as whole numbers again, mostly 0;
without a sign, -1 became the largest number. They are read as floats, with their sign.
"""

import warnings
from typing import Any

import numpy as np
from gymnasium import spaces

from pyrl_sb3.buffers.columns import Field
from pyrl_sb3.buffers.table import Array


def action_field(space: spaces.Space[Any], size: int) -> Field:
    """Shape and dtype of an action of so many numbers."""
    dtype = np.float32 if isinstance(space, spaces.Box) else space.dtype
    return Field((size,), np.dtype(dtype))


def were_whole(stored: Field | None, field: Field, space: spaces.Space[Any]) -> bool:
    """Whether an older version has stored actions of `field` as whole numbers."""
    return stored == field._replace(dtype=np.dtype(space.dtype)) and stored.dtype.kind in "iu"


def as_scaled(stored: Array, dtype: np.dtype) -> Array:
    """Actions in this dtype; those of an older version have got their sign back."""
    if stored.dtype.kind == "u" and dtype.kind == "f":
        stored = stored.view(stored.dtype.str.replace("u", "i"))
    return stored.astype(dtype, copy=False)


def warn_of_whole(where: str, stacklevel: int) -> None:
    """Warn that an older version has rounded actions."""
    warnings.warn(
        f"the actions in {where} were stored as whole numbers, from -1 to 1, by an older version: "
        "they stay rounded, and further ones are not",
        stacklevel=stacklevel + 1,
    )


def put_back(buffer: Any, state: dict[str, Any]) -> None:
    """`__setstate__` of buffers."""
    buffer.__dict__.update(state)
    store, field = buffer._store, buffer._action
    if store is not None and store.actions.dtype != field.dtype:
        store.convert_actions(field.dtype)
        warn_of_whole("a pickled replay buffer", stacklevel=2)
