"""
Pickles read with an allow-list: of operations, of what may be called, and of what may be named.

Python's pickles are programs. This reader runs the part of the language in which arrays and plain
values are written, and nothing that a file names is called: each thing that must be built is built
by a function from here, which checks what it is given.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from pyrl_sb3.plaindata.arrays import NUMBERS, Functions, check_native, fill

_PLAIN = (
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "EMPTY_DICT"),
    *("GLOBAL", "STACK_GLOBAL", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
)
_KEYS = (str, float, bool, type(None))
_LARGEST_KEY = 2**60  # multiples of 2**61 - 1 all have one hash


class RefusedError(ValueError):
    """A pickle that would do more than hold data; the message says what."""


def _ordered() -> "OrderedDict[Any, Any]":
    return OrderedDict()


class Reader(pickle._Unpickler):
    """
    Python's own unpickler, written in Python, with a smaller language.

    The one in C cannot be told which operations to leave out, and allocates what a file announces.

    Attributes:
        functions: what may be called, by module and name, and is called in its place.
        why: all else is refused, for messages.
    """

    functions: ClassVar[Functions] = {**NUMBERS, ("collections", "OrderedDict"): _ordered}
    why = "which may run code"
    stack: list[Any]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]
    pop_mark: Callable[[], list[Any]]

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for that name; raise RefusedError where nothing does."""
        try:
            return self.functions[module, name]
        except KeyError:
            raise RefusedError(f"it names {module}.{name}, {self.why}") from None

    def build(self, built: Any, state: Any) -> None:
        """Give an object its state; raise RefusedError for one that may not be changed."""
        if isinstance(built, np.ndarray):
            fill(built, state)
        elif isinstance(built, np.dtype):
            check_native(state)
        else:
            raise RefusedError(f"it changes {name_of(built)}, {self.why}")

    def load_inst(self) -> None:
        module, name = (self.readline().decode("ascii").strip() for _ in range(2))
        raise RefusedError(f"it makes {module}.{name}, {self.why}")

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not (callable(function) and function in self.functions.values()):
            raise RefusedError(f"it calls {name_of(function)}, {self.why}")
        self.stack.append(function(*arguments))

    def load_build(self) -> None:
        state = self.stack.pop()
        self.build(self.stack[-1], state)

    def load_append(self) -> None:
        self._extend([self.stack.pop()])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise RefusedError(f"it appends to {name_of(self.stack[-1])}")
        self.stack[-1].extend(items)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    def _set(self, items: list[Any]) -> None:
        if type(self.stack[-1]) not in (dict, OrderedDict):
            raise RefusedError(f"it sets items of {name_of(self.stack[-1])}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not self.is_key(key):
                kind = "large int" if type(key) is int else type(key).__name__
                raise RefusedError(f"it has a key that is a {kind}")
            self.stack[-1][key] = value

    def is_key(self, value: object) -> bool:
        """Whether it may be one: hashing nested tuples can take for ever."""
        return is_plain_key(value)

    def load_bytearray8(self) -> None:
        length = int.from_bytes(self.read(8), "little")
        self.stack.append(bytearray(self.read(length)))  # Python's allocates `length` first


def is_plain_key(value: object) -> bool:
    """Whether a value is hashed in no time, and a file cannot hold many of the same hash."""
    return type(value) in _KEYS or (type(value) is int and abs(value) < _LARGEST_KEY)


def name_of(thing: object) -> str:
    """Return the module and the name of a function or class, or of an object's class."""
    named = thing if isinstance(thing, type) or callable(thing) else type(thing)
    return f"{named.__module__}.{getattr(named, '__qualname__', named)}"


def _operations() -> dict[int, Callable[[Any], None]]:
    own = {
        "INST": Reader.load_inst,
        "REDUCE": Reader.load_reduce,
        "BUILD": Reader.load_build,
        "APPEND": Reader.load_append,
        "APPENDS": Reader.load_appends,
        "SETITEM": Reader.load_setitem,
        "SETITEMS": Reader.load_setitems,
        "BYTEARRAY8": Reader.load_bytearray8,
    }
    return {**python_s(*_PLAIN), **{getattr(pickle, n)[0]: f for n, f in own.items()}}


def python_s(*names: str) -> dict[int, Callable[[Any], None]]:
    """Return what Python's unpickler does for these operations, by their codes."""
    codes = [getattr(pickle, name)[0] for name in names]
    return {code: pickle._Unpickler.dispatch[code] for code in codes}


Reader.dispatch = _operations()
