"""Info dicts, and what buffers know besides transitions, as JSON."""

import base64
import json
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import numpy as np

from pyrl_sb3.buffers.tap import RAW_TERMINAL

Infos = list[list[dict[str, Any]]]  # by slot and environment
# Of what JSON has no form for, in a dict of one key
_MARKS = _ARRAY, _NUMBER, _TUPLE, _DICT = "__array__", "__number__", "__tuple__", "__dict__"
_ATOMS = {bool, int, float, str, type(None)}
_MOST = 2**1000


def listed(infos: Any, n_envs: int) -> list[dict[str, Any]]:
    """The infos of a step, one for each environment; a dict by itself is that of the only one."""
    if infos is None:
        return [{}] * n_envs
    return [infos] if isinstance(infos, dict) else infos


def check_n_envs(n_infos: int, *values: Any) -> None:
    """Check that each array of a step is of as many environments as there are infos.

    :raises ValueError: it is not
    """
    for value in values:
        if (n_envs := len(np.atleast_1d(value))) != n_infos:
            raise ValueError(f"{n_infos} infos for {n_envs} environments: each needs one")


def kept(infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is kept of the infos of a step: all but observations, which are stored."""
    skip = ("terminal_observation", RAW_TERMINAL)
    return [{k: v for k, v in info.items() if k not in skip} for info in infos]


def copied(infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Copies of what is kept; most of it are numbers, for which `deepcopy` takes long."""
    memo: dict[int, Any] = {}
    return [
        {k: v if type(v) in _ATOMS else deepcopy(v, memo) for k, v in info.items()}
        for info in kept(infos)
    ]


def put(infos: Infos, slot: int, row: list[dict[str, Any]]) -> None:
    """Put the infos of a step into a slot; slots before it that have none get blank ones."""
    while len(infos) <= slot:
        infos.append([{} for _ in row])
    infos[slot] = row


def encode(infos: Infos) -> bytes:
    """Info dicts of some steps, by step and environment.

    :raises ValueError: a value that is neither plain nor an array; names its key
    """
    items = (item for step in infos for info in step for item in info.items())
    refusal = "the info {!r} cannot be saved ({}): leave it out, or set copy_info_dict=False"
    return _encoded(infos, items, refusal)


def encode_extra(state: Any) -> bytes:
    """What `get_extra_state()` of a buffer returns.

    :raises ValueError: it holds what is neither plain nor an array; names its key
    """
    items = state.items() if type(state) is dict else [("all of it", state)]
    return _encoded(state, items, "what get_extra_state() returns cannot be saved: {!r} ({})")


def _encoded(value: Any, items: Iterable[tuple[Any, Any]], refusal: str) -> bytes:
    """JSON of a value; `refusal` is about the first of its items that has no such form."""
    try:
        return json.dumps(_plain(value)).encode()
    except (TypeError, RecursionError):
        problems = ((key, _problem(key, value)) for key, value in items)
        found = next((key, problem) for key, problem in problems if problem)
        raise ValueError(refusal.format(*found)) from None


def _problem(key: Any, value: Any) -> str:
    try:
        json.dumps(_plain({key: value}))
    except RecursionError:
        return "it is nested too deeply"
    except TypeError as error:
        return str(error)
    return ""


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        array = np.asarray(value, value.dtype.newbyteorder("<"))
        data = base64.b64encode(array.tobytes()).decode()
        mark = _ARRAY if isinstance(value, np.ndarray) else _NUMBER
        return {mark: [array.dtype.str, list(array.shape), data]}
    kind = type(value)
    if kind is dict:
        return _plain_dict(value)
    if kind in (list, tuple):
        items = [_plain(item) for item in value]
        return items if kind is list else {_TUPLE: items}
    if isinstance(value, int) and abs(value) >= _MOST:
        raise TypeError("an int of more than 1,000 bits")
    if kind in _ATOMS:
        return value
    raise TypeError(f"{kind.__name__} is neither plain nor an array of numbers")


def _plain_dict(value: dict[Any, Any]) -> dict[str, Any]:
    items = {key: _plain(item) for key, item in value.items()}
    if all(type(key) is str and key not in _MARKS for key in items):
        return items
    return {_DICT: [[_plain(key), item] for key, item in items.items()]}


def decode(content: bytes, n_steps: int, n_envs: int) -> Infos:
    """What was encoded.

    :raises ValueError: these are not the infos of so many steps
    """
    infos = decode_extra(content)
    if not _is_list(infos, n_steps) or not all(_is_list(step, n_envs) for step in infos):
        raise ValueError("the number of infos is wrong")
    if not all(isinstance(info, dict) for step in infos for info in step):
        raise ValueError("infos must be dicts")
    return infos


def _is_list(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length


def decode_extra(content: bytes) -> Any:
    """What was encoded.

    :raises ValueError: it is something else
    """
    try:
        return json.loads(content, object_hook=_as_it_was)
    except Exception as error:  # whatever numpy makes of what somebody has put there
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _as_it_was(value: dict[str, Any]) -> Any:
    if len(value) != 1:
        return value
    ((mark, content),) = value.items()
    if mark == _TUPLE:
        return tuple(content)
    if mark == _DICT:
        return dict(content)
    if mark not in (_ARRAY, _NUMBER):
        return value
    dtype, shape, data = content
    flat = np.frombuffer(base64.b64decode(data), np.dtype(dtype))
    array = flat.reshape(shape).astype(flat.dtype.newbyteorder("="))
    return array if mark == _ARRAY else array[()]
