"""
Pickles read with an allow-list: of operations, of what may be called, and of what may be named.

Python's pickles are programs. This reader runs the part of the language in which arrays and plain
values are written, and nothing that a file names is called: each thing that must be built is built
by a function from here, which checks what it is given.
"""

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from pyrl_sb3.plaindata.arrays import NUMBERS, Functions, check_native, fill
from pyrl_sb3.plaindata.budget import Budget, RefusedError

_PLAIN = (
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "EMPTY_DICT"),
    *("GLOBAL", "STACK_GLOBAL", "BINGET", "LONG_BINGET", "BINPUT", "MEMOIZE"),
)
_KEYS = (str, float, bool, type(None))
_LARGEST_KEY = 2**60  # multiples of 2**61 - 1 all have one hash
# What stands in a file once may be copied, or looked through, so many times, and so much besides.
_COPIES, _SPARE = 10, 2**20
_ENTRY: dict[type, int] = {list: 8, tuple: 8, dict: 100, OrderedDict: 100}  # bytes
# Of all other keys the file's author can choose the hashes, so that they meet in a dictionary.
_HASHED_BY_CHANCE = (str, bool, type(None))
_COMPARISONS, _SPARE_COMPARISONS = 64, 2**27


def _ordered() -> "OrderedDict[Any, Any]":
    return OrderedDict()


def python_s(*names: str) -> dict[int, Callable[[Any], None]]:
    """Return what Python's unpickler does for these operations, by their codes."""
    codes = [getattr(pickle, name)[0] for name in names]
    return {code: pickle._Unpickler.dispatch[code] for code in codes}


class Reader(pickle._Unpickler):
    """
    Python's own unpickler, written in Python, with a smaller language.

    The one in C cannot be told which operations to leave out, and allocates what a file announces.

    Attributes:
        functions: what may be called, by module and name, and is called in its place.
        why: all else is refused, for messages.
        values: what copies of values may still take, bytes.
        comparisons: of keys, that may still be made.

    Args:
        file: the pickle, and nothing behind it.
        size: bytes by which it may cost time and memory.
        options: of Python's.
    """

    functions: ClassVar[Functions] = {**NUMBERS, ("collections", "OrderedDict"): _ordered}
    why = "which may run code"
    stack: list[Any]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]
    pop_mark: Callable[[], list[Any]]
    memo: dict[int, Any]

    def __init__(self, file: io.BytesIO, size: int, **options: Any) -> None:
        super().__init__(file, fix_imports=False, **options)
        self.values = Budget(_COPIES * size + _SPARE, "it refers to the same values too often")
        self.comparisons = Budget(
            _COMPARISONS * size + _SPARE_COMPARISONS, "it has too many keys that are numbers"
        )

    def charge(self, given: Any) -> None:
        """Note that what a call or an object is given is copied, or looked through."""
        self.values.spend(self.size_of(given))
        self.values.spend(sum(map(self.size_of, self.parts_of(given))))

    def size_of(self, value: Any) -> int:
        """Return the bytes that a copy of a value takes, but not of what it refers to."""
        if isinstance(value, np.ndarray):
            return value.nbytes
        if isinstance(value, (str, bytes, bytearray)):
            return len(value)
        return _ENTRY[type(value)] * len(value) if type(value) in _ENTRY else 0

    def unfolded(self, waiting: list[Any]) -> Iterator[Any]:
        """Yield values and all in them as often as they are referred to; raise RefusedError."""
        while waiting:
            value = waiting.pop()
            yield value
            parts = self.parts_of(value)
            self.values.spend(len(parts))
            waiting += parts

    def parts_of(self, value: Any) -> list[Any] | tuple[Any, ...]:
        """Return what a value holds."""
        if isinstance(value, dict):
            return list(value.values())
        return value if isinstance(value, (list, tuple)) else ()

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
        self.charge(arguments)
        self.stack.append(function(*arguments))

    def load_build(self) -> None:
        state = self.stack.pop()
        self.charge(state)
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
        filled = self.stack[-1]
        if type(filled) not in (dict, OrderedDict):
            raise RefusedError(f"it sets items of {name_of(filled)}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not self.is_key(key):
                kind = "large int" if type(key) is int else type(key).__name__
                raise RefusedError(f"it has a key that is a {kind}")
            before = len(filled)
            filled[key] = value
            self.hashed(key, before, len(filled))

    def hashed(self, key: object, before: int, after: int) -> None:
        """Note that a key was put where there were so many before, and may have met them all."""
        # Those that count up, as of an optimiser's states, find their own places.
        if type(key) not in _HASHED_BY_CHANCE and not (key == before < after):
            self.comparisons.spend(before)

    def is_key(self, value: object) -> bool:
        """Whether it may be one: hashing nested tuples can take for ever."""
        return is_plain_key(value)

    def load_long_binput(self) -> None:
        number = int.from_bytes(self.read(4), "little")
        if number > len(self.memo) + 1:  # these are keys too; Python 2 began with 1
            raise RefusedError("it does not number its values in order")
        self.memo[number] = self.stack[-1]

    def load_bytearray8(self) -> None:
        length = int.from_bytes(self.read(8), "little")
        self.stack.append(bytearray(self.read(length)))  # Python's allocates `length` first

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **python_s(*_PLAIN),
        pickle.INST[0]: load_inst,
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.APPEND[0]: load_append,
        pickle.APPENDS[0]: load_appends,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.LONG_BINPUT[0]: load_long_binput,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }


def is_plain_key(value: object) -> bool:
    """Whether a value is hashed in no time, and a file cannot hold many of the same hash."""
    return type(value) in _KEYS or (type(value) is int and abs(value) < _LARGEST_KEY)


def name_of(thing: object) -> str:
    """Return the module and the name of a function or class, or of an object's class."""
    named = thing if isinstance(thing, type) or callable(thing) else type(thing)
    return f"{named.__module__}.{getattr(named, '__qualname__', named)}"
