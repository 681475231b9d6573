"""Info dicts as JSON."""

import base64
import json
from typing import Any

import numpy as np

_ARRAY = "__array__"


def encode(infos: list[list[dict[str, Any]]]) -> bytes:
    """Info dicts of some steps, by step and environment.

    :raises ValueError: a value that is neither plain nor an array; names its key
    """
    try:
        return json.dumps(infos, default=_plain).encode()
    except TypeError:
        items = ((key, value) for step in infos for info in step for key, value in info.items())
        key, problem = next((k, problem) for k, v in items if (problem := _problem(k, v)))
        raise ValueError(
            f"the info {key!r} cannot be saved ({problem}): leave it out, or set "
            "copy_info_dict=False"
        ) from None


def _problem(key: str, value: Any) -> str:
    try:
        json.dumps({key: value}, default=_plain)
    except TypeError as error:
        return str(error)
    return ""


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biuf":
        array = np.asarray(value, value.dtype.newbyteorder("<"))
        data = base64.b64encode(array.tobytes()).decode()
        return {_ARRAY: [array.dtype.str, list(array.shape), data]}
    raise TypeError(f"{type(value).__name__} is neither plain nor an array of numbers")


def decode(content: bytes, n_steps: int, n_envs: int) -> list[list[dict[str, Any]]]:
    """What was encoded; numpy's numbers come back as arrays without dimensions.

    :raises ValueError: these are not the infos of so many steps
    """
    infos = json.loads(content, object_hook=_array)
    if len(infos) != n_steps or any(len(step) != n_envs for step in infos):
        raise ValueError("the number of infos is wrong")
    return infos


def _array(value: dict[str, Any]) -> Any:
    if value.keys() != {_ARRAY}:
        return value
    dtype, shape, data = value[_ARRAY]
    flat = np.frombuffer(base64.b64decode(data), np.dtype(dtype))
    return flat.reshape(shape).astype(flat.dtype.newbyteorder("="))
