"""Demonstrations as OpenAI baselines records them: pickles, of which only data is read."""

import io
import zipfile
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from pyrl_sb3.buffers.demonstrations import DemonstrationError, Demonstrations, Episode, naming
from pyrl_sb3.buffers.fields import WHOLE
from pyrl_sb3.buffers.table import Array
from pyrl_sb3.plaindata import NUMBERS_AND_OBJECTS, Reader, RefusedError, read_npy, unpack
from pyrl_sb3.plaindata.npy import read_header
from pyrl_sb3.plaindata.reader import python_s

NAMES = {"observations": "obs", "actions": "acs", "infos": "info"}
_MOST_NUMBERS = 2**28  # in an episode: lists that hold one another may come to any number


def read_baselines(archive: zipfile.ZipFile, names: set[str], source: str) -> Demonstrations:
    """
    Episodes of ``acs``, ``obs`` and, where there is one, ``info``.

    :param names: the arrays in the archive
    :raises DemonstrationError: names the file, the episode and the field
    """
    fields = {}
    for name in ("acs", "obs", "info"):
        if name in names:
            with naming(f"{source}: {name}"):
                fields[name] = _read(unpack(archive, f"{name}.npy"))
                len(fields[name])  # of single values there is none
    count = len(fields["acs"])
    fields.setdefault("info", [()] * count)
    for name, values in fields.items():
        if len(values) != count:
            raise DemonstrationError(f"{source}: {len(values)} {name} for {count} acs")
    episodes = [
        _episode(*parts, f"{source}: episode {number}")
        for number, parts in enumerate(
            zip(fields["acs"], fields["obs"], fields["info"], strict=True)
        )
    ]
    return Demonstrations(episodes=episodes, source=source, names=NAMES)


def _episode(acts: Any, states: Any, info: Any, where: str) -> Episode:
    with naming(f"{where}: acs"):
        actions = _numbers(list(acts))
    with naming(f"{where}: obs"):
        keyed = len(states) > 0 and isinstance(states[0], Mapping)
        keys = states[0].keys() if keyed else [WHOLE]
        if not all(isinstance(key, str) for key in keys):
            raise TypeError("keys must be text")
        observations = {
            key: _numbers([state[key] if keyed else state for state in states]) for key in keys
        }
    with naming(f"{where}: info"):
        for each in info:
            if not isinstance(each, Mapping):
                raise TypeError(f"must be a dict for each step, not {type(each).__name__}")
        infos = [dict(each) for each in info]
        known = infos and "is_success" in infos[-1]
        success = bool(np.all(infos[-1]["is_success"])) if known else None
    return Episode(observations=observations, actions=actions, success=success, infos=infos)


def _numbers(values: list[Any]) -> Array:
    if _size(values, {}) > _MOST_NUMBERS:
        raise ValueError(f"more than {_MOST_NUMBERS} numbers in one episode, none are read")
    found = np.array(values)
    if found.dtype == object:
        found = np.array(found.tolist())  # numbers in arrays of objects
    if found.dtype.kind not in "biuf":
        raise TypeError("must be numbers")
    return found.astype(np.float64)


def _size(value: Any, known: dict[int, int]) -> int:
    """How many numbers nested lists come to; those that stand there twice are looked at once."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.size
    if not isinstance(value, (list, tuple, np.ndarray)):
        return 1
    if id(value) not in known:
        known[id(value)] = _MOST_NUMBERS + 1  # what holds itself has no end
        items = value.flat if isinstance(value, np.ndarray) else value
        known[id(value)] = sum(_size(each, known) for each in items)
    return known[id(value)]


class _Reader(Reader):
    functions: ClassVar = {**Reader.functions, **NUMBERS_AND_OBJECTS}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.functions:
            raise RefusedError(f"its pickle asks for {module}.{name}, refused")
        return super().find_class(module, name)


_Reader.dispatch = {**Reader.dispatch, **python_s("BINSTRING", "SHORT_BINSTRING")}  # of Python 2


def _read(content: bytes) -> Any:
    file = io.BytesIO(content)
    shape, _, dtype = read_header(file)
    if dtype != np.dtype(object):
        return read_npy(content)
    try:
        found = _Reader(file, fix_imports=False, encoding="latin1").load()
    except KeyError as error:
        raise RefusedError(
            f"its pickle is damaged, or has an operation, {error}, refused"
        ) from error
    if not isinstance(found, np.ndarray) or found.shape != shape:
        raise ValueError("is truncated")
    return found
