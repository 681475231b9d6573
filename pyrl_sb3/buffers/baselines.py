"""Demonstrations as OpenAI baselines records them: pickles, of which only data is read."""

import io
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from pyrl_sb3.buffers.demonstrations import DemonstrationError, Demonstrations, Episode, naming
from pyrl_sb3.buffers.fields import WHOLE
from pyrl_sb3.buffers.table import Array
from pyrl_sb3.plaindata import NUMBERS_AND_OBJECTS, Budget, Reader, RefusedError, read_npy, unpack
from pyrl_sb3.plaindata.npy import read_header
from pyrl_sb3.plaindata.reader import python_s

NAMES = {"observations": "obs", "actions": "acs", "infos": "info"}
# Bytes that they take. A step of a pickle, often a byte, may make an object and remember it.
_STEP, _ENTRY, _NUMBER = 256, 100, 8


def read_baselines(
    archive: zipfile.ZipFile, names: set[str], source: str, most: int
) -> Demonstrations:
    """
    Episodes of ``acs``, ``obs`` and, where there is one, ``info``.

    :param names: the arrays in the archive
    :param most: bytes that may be made of it
    :raises DemonstrationError: names the file, the episode and the field
    """
    fields, budget = {}, Budget(most, f"its pickles would take more than {most} bytes")
    for name in ("acs", "obs", "info"):
        if name in names:
            with naming(f"{source}: {name}"):
                fields[name] = _read(unpack(archive, f"{name}.npy"), budget)
                len(fields[name])  # of single values there is none
    count = len(fields["acs"])
    fields.setdefault("info", [()] * count)
    for name, values in fields.items():
        if len(values) != count:
            raise DemonstrationError(f"{source}: {len(values)} {name} for {count} acs")
    episodes = [
        _episode(*parts, f"{source}: episode {number}", budget)
        for number, parts in enumerate(
            zip(fields["acs"], fields["obs"], fields["info"], strict=True)
        )
    ]
    return Demonstrations(episodes=episodes, source=source, names=NAMES)


def _episode(acts: Any, states: Any, info: Any, where: str, budget: Budget) -> Episode:
    with naming(f"{where}: acs"):
        actions = _numbers(list(acts), budget)
    with naming(f"{where}: obs"):
        keyed = len(states) > 0 and isinstance(states[0], Mapping)
        keys = states[0].keys() if keyed else [WHOLE]
        if not all(isinstance(key, str) for key in keys):
            raise TypeError("keys must be text")
        observations = {
            key: _numbers([state[key] if keyed else state for state in states], budget)
            for key in keys
        }
    with naming(f"{where}: info"):
        for each in info:
            if not isinstance(each, Mapping):
                raise TypeError(f"must be a dict for each step, not {type(each).__name__}")
            budget.spend(_ENTRY * len(each))  # the same one may stand there for all steps
        infos = [dict(each) for each in info]
        known = infos and "is_success" in infos[-1]
        success = bool(np.all(infos[-1]["is_success"])) if known else None
    return Episode(observations=observations, actions=actions, success=success, infos=infos)


def _numbers(values: list[Any], budget: Budget) -> Array:
    most = budget.left // _NUMBER
    budget.spend(
        _NUMBER * _size(values, {}, most),
        f"more than {most} numbers in one episode, none are read",
    )
    found = np.array(values)
    if found.dtype == object:
        found = np.array(found.tolist())  # numbers in arrays of objects
    if found.dtype.kind not in "biuf":
        raise TypeError("must be numbers")
    return found.astype(np.float64)


def _size(value: Any, known: dict[int, int], most: int) -> int:
    """How many numbers and lists nested lists come to; each is looked at once."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.size
    if not isinstance(value, (list, tuple, np.ndarray)):
        return 1
    if id(value) not in known:
        known[id(value)] = most + 1  # what holds itself has no end
        items = value.flat if isinstance(value, np.ndarray) else value
        known[id(value)] = 1 + sum(_size(each, known, most) for each in items)
    return known[id(value)]


class _Reader(Reader):
    functions: ClassVar = {**Reader.functions, **NUMBERS_AND_OBJECTS}

    def __init__(self, file: io.BytesIO, budget: Budget) -> None:
        super().__init__(file, budget.left // _STEP, encoding="latin1")
        self.values = budget

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.functions:
            raise RefusedError(f"its pickle asks for {module}.{name}, refused")
        return super().find_class(module, name)


def _charged(operation: Callable[[Any], None]) -> Callable[[Any], None]:
    def run(reader: _Reader) -> None:
        reader.values.spend(_STEP)
        operation(reader)

    return run


_Reader.dispatch = {
    code: _charged(operation)
    for code, operation in {
        **Reader.dispatch,
        **python_s("BINSTRING", "SHORT_BINSTRING"),  # of Python 2
    }.items()
}


def _read(content: bytes, budget: Budget) -> Any:
    file = io.BytesIO(content)
    shape, _, dtype = read_header(file)
    if dtype != np.dtype(object):
        return read_npy(content)
    try:
        found = _Reader(file, budget).load()
    except KeyError as error:
        raise RefusedError(
            f"its pickle is damaged, or has an operation, {error}, refused"
        ) from error
    if not isinstance(found, np.ndarray) or found.shape != shape:
        raise ValueError("is truncated")
    return found
