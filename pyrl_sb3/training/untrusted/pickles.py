"""
Pickles read with an allow-list: of operations, of what may be called, and of what may be named.

Python's pickles are programs. This reader runs the part of the language in which arrays, spaces and
names of classes are written, and nothing that a file names is called: each thing that must be built
is built by a function from here, which checks what it is given. A class may be named, not made,
unless it is one of Gymnasium's spaces; see `known` for which.
"""

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from pyrl_sb3.training.errors import InputError, first_line
from pyrl_sb3.training.untrusted.arrays import ARRAYS, check_native, fill
from pyrl_sb3.training.untrusted.known import find_known_class

_PLAIN = (
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "EMPTY_DICT"),
    *("GLOBAL", "STACK_GLOBAL", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
)
_OPERATIONS = {ord(operation.code): operation.name for operation in pickletools.opcodes}
_KEYS = (str, int, float, bool, type(None))


class RefusedError(ValueError):
    """A pickle that would do more than hold data; the message says what."""


class Captured:
    """
    The state of an object that was not made.

    Attributes:
        name: of its class.
        state: what its class would have been given.
    """

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


def _ordered() -> "OrderedDict[Any, Any]":
    return OrderedDict()


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
_GENERATORS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.random._pickle", "__generator_ctor"): _ignored,
    ("numpy.random._pickle", "__bit_generator_ctor"): _ignored,
    ("numpy.random._pickle", "__randomstate_ctor"): _ignored,
    ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"): _ignored,
    ("numpy.random.bit_generator", "SeedSequence"): _ignored,
    ("numpy.random._pcg64", "PCG64"): _ignored,
    ("numpy.random._mt19937", "MT19937"): _ignored,
}
_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    **ARRAYS,
    **_GENERATORS,
    ("collections", "OrderedDict"): _ordered,
}
_CALLED = frozenset(_FUNCTIONS.values())
_MADE = frozenset({*_CAPTURED.values(), *_SPACES.values()})


class _Reader(pickle._Unpickler):
    """
    Python's own unpickler, written in Python, with a smaller language.

    The one in C cannot be told which operations to leave out, and allocates what a file announces.
    """

    stack: list[Any]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]
    pop_mark: Callable[[], list[Any]]

    def find_class(self, module: str, name: str) -> Any:
        for table in (_FUNCTIONS, _CAPTURED, _SPACES):
            if (module, name) in table:
                return table[module, name]
        found = find_known_class(module, name)
        if found is None:
            raise RefusedError(f"it names {module}.{name}, which may run code")
        return found

    def load_inst(self) -> None:
        module, name = (self.readline().decode("ascii").strip() for _ in range(2))
        raise RefusedError(f"it makes {module}.{name}, which may run code")

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not (callable(function) and function in _CALLED):
            raise RefusedError(f"it calls {_name(function)}, which may run code")
        self.stack.append(function(*arguments))

    def load_newobj(self) -> None:
        arguments, made = self.stack.pop(), self.stack.pop()
        if not (isinstance(made, type) and made in _MADE) or arguments:
            raise RefusedError(f"it makes {_name(made)}, which may run code")
        self.stack.append(object.__new__(made))

    def load_build(self) -> None:
        state = self.stack.pop()
        built = self.stack[-1]
        if isinstance(built, np.ndarray):
            fill(built, state)
        elif isinstance(built, np.dtype):
            check_native(state)
        elif isinstance(built, Captured):
            built.state = dict(state)
        elif type(built) in _MADE:
            kept = {key: value for key, value in state.items() if "np_random" not in key}
            built.__setstate__({**kept, "_np_random": None})
        elif not isinstance(built, _Ignored):
            raise RefusedError(f"it changes {_name(built)}, which may run code")

    def load_append(self) -> None:
        self._extend([self.stack.pop()])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise RefusedError(f"it appends to {_name(self.stack[-1])}")
        self.stack[-1].extend(items)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    def _set(self, items: list[Any]) -> None:
        if type(self.stack[-1]) not in (dict, OrderedDict):
            raise RefusedError(f"it sets items of {_name(self.stack[-1])}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in _KEYS:  # hashing nested tuples can take for ever
                raise RefusedError(f"it has a key that is a {type(key).__name__}")
            self.stack[-1][key] = value

    def load_bytearray8(self) -> None:
        length = int.from_bytes(self.read(8), "little")
        self.stack.append(bytearray(self.read(length)))  # Python's allocates `length` first


def _name(thing: object) -> str:
    named = thing if isinstance(thing, type) or callable(thing) else type(thing)
    return f"{named.__module__}.{getattr(named, '__qualname__', named)}"


def _operations() -> dict[int, Callable[[Any], None]]:
    own = {
        "INST": _Reader.load_inst,
        "REDUCE": _Reader.load_reduce,
        "NEWOBJ": _Reader.load_newobj,
        "BUILD": _Reader.load_build,
        "APPEND": _Reader.load_append,
        "APPENDS": _Reader.load_appends,
        "SETITEM": _Reader.load_setitem,
        "SETITEMS": _Reader.load_setitems,
        "BYTEARRAY8": _Reader.load_bytearray8,
    }
    codes = {name: getattr(pickle, name)[0] for name in (*_PLAIN, *own)}
    theirs = {codes[name]: pickle._Unpickler.dispatch[codes[name]] for name in _PLAIN}
    return {**theirs, **{codes[name]: function for name, function in own.items()}}


_Reader.dispatch = _operations()


def read_pickle(content: bytes, what: str) -> Any:
    """
    Read a pickle without running any of it.

    Args:
        content: the pickle.
        what: it is, for messages: `model.zip: policy_kwargs`.

    Returns:
        Plain data, arrays, spaces, classes, and for `VecNormalize` and `RunningMeanStd` a
        `Captured`.

    Raises:
        InputError: it is damaged, or names or calls something that is not known to be harmless;
            the message names that.
    """
    try:
        return _Reader(io.BytesIO(content), fix_imports=False).load()
    except RefusedError as error:
        raise InputError(f"{what}: {error}; pass --trust if you trust the file") from error
    except KeyError as error:  # an operation that is not in the language
        operation = _OPERATIONS.get(error.args[0], "unknown")
        advice = "pass --trust if you trust the file"
        raise InputError(f"{what}: it has the operation {operation}; {advice}") from error
    except RecursionError as error:
        raise InputError(f"{what} is nested too deeply") from error
    except Exception as error:  # whatever else broken data comes to
        raise InputError(f"{what} cannot be read: {first_line(error)}") from error
