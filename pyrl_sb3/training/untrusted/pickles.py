"""
Pickles of models, read with the allow-lists of `pyrl_sb3.plaindata.reader` and some more.

Gymnasium's spaces are made; the classes of `known` may be named only.
"""

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any, ClassVar

from gymnasium import spaces

from pyrl_sb3.plaindata import Reader, RefusedError
from pyrl_sb3.plaindata.arrays import Functions
from pyrl_sb3.plaindata.reader import name_of
from pyrl_sb3.training.errors import InputError, damage
from pyrl_sb3.training.untrusted.known import find_known_class

FindClass = Callable[[str, str], Any]

_OPERATIONS = {ord(operation.code): operation.name for operation in pickletools.opcodes}


class Captured:
    """An object that was not made: the name of its class, and the state that it would have."""

    name = ""
    state: dict[str, Any]


class _CapturedStatistics(Captured):
    name = "VecNormalize"


class _CapturedMoments(Captured):
    name = "RunningMeanStd"


class _Ignored:
    """Stands for a random generator, which nobody who only acts needs."""


def _ignored(*_: object) -> _Ignored:
    return _Ignored()


_SB3 = "stable_baselines3.common"
_CAPTURED: dict[tuple[str, str], type] = {
    (f"{_SB3}.vec_env.vec_normalize", "VecNormalize"): _CapturedStatistics,
    (f"{_SB3}.running_mean_std", "RunningMeanStd"): _CapturedMoments,
}
# Before SB3 2.0 they were Gym's, with the same states or such as Gymnasium understands.
_SPACES: dict[tuple[str, str], type] = {
    (space.__module__.replace("gymnasium", package), space.__name__): space
    for package in ("gymnasium", "gym")
    for space in (
        *(spaces.Box, spaces.Dict, spaces.Discrete),
        *(spaces.MultiBinary, spaces.MultiDiscrete),
    )
}
_GENERATORS: Functions = {
    ("numpy.random._pickle", "__generator_ctor"): _ignored,
    ("numpy.random._pickle", "__bit_generator_ctor"): _ignored,
    ("numpy.random._pickle", "__randomstate_ctor"): _ignored,
    ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"): _ignored,
    ("numpy.random.bit_generator", "SeedSequence"): _ignored,
    ("numpy.random._pcg64", "PCG64"): _ignored,
    ("numpy.random._mt19937", "MT19937"): _ignored,
}
_MADE = frozenset({*_CAPTURED.values(), *_SPACES.values()})


class _Reader(Reader):
    functions: ClassVar = {**Reader.functions, **_GENERATORS}

    def __init__(self, content: bytes, moved: FindClass) -> None:
        super().__init__(io.BytesIO(content), len(content))
        self.moved = moved

    def find_class(self, module: str, name: str) -> Any:
        for table in (self.functions, _CAPTURED, _SPACES):
            if (module, name) in table:
                return table[module, name]
        found = find_known_class(module, name) or self.moved(module, name)
        return super().find_class(module, name) if found is None else found

    def parts_of(self, value: Any) -> list[Any] | tuple[Any, ...]:
        return super().parts_of(vars(value) if type(value) in _MADE else value)

    def load_newobj(self) -> None:
        arguments, made = self.stack.pop(), self.stack.pop()
        if not (isinstance(made, type) and made in _MADE) or arguments:
            raise RefusedError(f"it makes {name_of(made)}, which may run code")
        self.stack.append(object.__new__(made))

    def build(self, built: Any, state: Any) -> None:
        if isinstance(built, Captured):
            if type(state) is not dict:  # of a list, keys would be hashed that may not be
                raise RefusedError(f"it gives a state to {name_of(built)} that is none")
            built.state = state
        elif type(built) in _MADE:
            kept = {key: value for key, value in state.items() if "np_random" not in key}
            built.__setstate__({**kept, "_np_random": None})
        elif not isinstance(built, _Ignored):
            super().build(built, state)


_newobj: Callable[[Any], None] = _Reader.load_newobj
_Reader.dispatch = {**Reader.dispatch, pickle.NEWOBJ[0]: _newobj}


def read_pickle(content: bytes, what: str, moved: FindClass = lambda module, name: None) -> Any:
    """
    Read a pickle without running any of it.

    Args:
        content: the pickle.
        what: it is, for messages: `model.zip: policy_kwargs`.
        moved: tells by module and name which class stands for one that is not there any more.

    Returns:
        Plain data, arrays, spaces, classes, and for `VecNormalize` and `RunningMeanStd` a
        `Captured`.

    Raises:
        InputError: it is damaged, or names or calls something that is not known to be harmless;
            the message names that.
    """
    try:
        reader = _Reader(content, moved)
        found = reader.load()
        for _ in reader.unfolded([found]):  # raises: who compares or copies it walks all of it
            pass
        return found
    except RefusedError as error:
        raise InputError(f"{what}: {error}; pass --trust if you trust the file") from error
    except KeyError as error:  # an operation that is not in the language
        operation = _OPERATIONS.get(error.args[0])
        if operation is None:
            raise InputError(f"{what} cannot be read: it is no pickle, or damaged") from error
        advice = "pass --trust if you trust the file"
        raise InputError(f"{what}: it has the operation {operation}; {advice}") from error
    except RecursionError as error:
        raise InputError(f"{what} is nested too deeply") from error
    except Exception as error:  # whatever else broken data comes to
        raise InputError(f"{what} cannot be read: {damage(error)}") from error
