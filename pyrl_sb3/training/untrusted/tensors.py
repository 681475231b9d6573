"""
Tensor files of PyTorch, looked through before PyTorch reads them.

Its own restricted reader runs no code, but hashes any key, which for nested tuples takes for ever,
and makes buffers of any length.
"""

import io
import pickle
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch as th

from pyrl_sb3.plaindata import Budget, Reader, RefusedError, unpack
from pyrl_sb3.plaindata.arrays import Functions
from pyrl_sb3.plaindata.reader import python_s
from pyrl_sb3.training.errors import damage
from pyrl_sb3.training.untrusted.archives import check_stored
from pyrl_sb3.training.untrusted.stand_ins import (
    DTYPES,
    FUNCTIONS,
    STORAGES,
    Bytes,
    Dtype,
    Keyed,
    Keys,
    Kind,
    Object,
    Storage,
    Tensor,
    is_key,
    natural,
)

_PICKLE = "data.pkl"
_SMALL_PICKLE = 2**20
# Layers that share their weights refer to the same numbers again.
_COPIES, _SPARE_BYTES = 64, 2**27
# Cost of a call and of a key that it hashes, each of which is written with some bytes of its own.
_CALL, _KEY = 100, 10
_ORDERED = ("collections", "OrderedDict")
# What PyTorch tells itself when these are imported runs no code, but takes any time and memory.
_OF_PYTORCH = ("torch.distributed.", "torch.nested.", "torch._dynamo.")


def _object(*_: object) -> Any:
    return Object()


def _safe_names() -> set[str]:
    """Names of classes and functions that other code here has told PyTorch are safe."""
    names = {
        each[1] if isinstance(each, tuple) else f"{each.__module__}.{each.__qualname__}"
        for each in th.serialization.get_safe_globals()
    }
    return {name for name in names if not name.startswith(_OF_PYTORCH)}


class _Reader(Reader):
    """Reads what `torch.save` writes of `state_dict()`s, and makes no tensors."""

    functions: ClassVar[Functions] = {**FUNCTIONS, _ORDERED: Reader.functions[_ORDERED]}
    why = "which is not read"  # PyTorch reads more, none of which runs code

    def __init__(self, content: bytes, sizes: Mapping[str, int], packed: int) -> None:
        super().__init__(io.BytesIO(content), len(content))
        self.sizes = sizes
        self.states: list[Any] = []
        # Those who get the tensors copy or walk through each that is referred to.
        self.numbers = Budget(
            _COPIES * min(sum(sizes.values()), packed) + _SPARE_BYTES,
            "it refers to the same numbers too often",
        )
        self.keys = Keys()
        self.safe = _safe_names()

    def compare(self, key: object) -> None:
        """Note that a key is put in a dictionary or a set."""
        self.values.spend(self.keys.alike(key), "it has too many keys of the same hash")

    def rehash(self, keys: Collection[object]) -> None:
        """Note that keys are put in another dictionary or set."""
        self.values.spend(_KEY * len(keys))
        filled: set[object] = set()
        for key in keys:
            self.compare(key)
            before = len(filled)
            filled.add(key)
            self.hashed(key, before, len(filled))

    def size_of(self, value: Any) -> int:
        if isinstance(value, Bytes):
            return value.size
        return len(value) if isinstance(value, (str, list, tuple, dict)) else 0

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in STORAGES:
            return Kind(STORAGES[module, name])
        if (module, name) in DTYPES:
            return Dtype(DTYPES[module, name])
        now = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        if (module, name) not in self.functions and ".".join(now) in self.safe:
            return _object
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        what, kind, key, place, numbers = pid
        if (what, type(kind), type(key), type(place)) != ("storage", Kind, str, str):
            raise RefusedError("it refers to something that is no storage")
        # Some versions of PyTorch read past the end.
        if not natural(numbers) or numbers * kind.size > self.sizes.get(f"data/{key}", -1):
            raise RefusedError("a storage in it is larger than its bytes")
        return Storage(numbers * kind.size, kind.size)

    def load_reduce(self) -> None:
        self.values.spend(_CALL)
        self.states.append(self.stack[-1])
        if self.stack[-2] is _object:
            self.charge(self.stack[-1])
            self.load_newobj()
            return
        super().load_reduce()
        made = self.stack[-1]
        if type(made) is Keyed:
            self.rehash(made.keys)

    def load_newobj(self) -> None:
        if self.stack[-2:-1] != [_object]:
            raise RefusedError("it has an operation or a reference that is not read: it makes more")
        self.states.append(self.stack.pop())
        self.stack[-1] = Object()

    def build(self, built: Any, state: Any) -> None:
        ordered = type(built) is OrderedDict and type(state) is dict and {*state} == {"_metadata"}
        if not ordered and type(built) is not Object:
            super().build(built, state)
        if isinstance(state, dict):
            self.rehash(state.keys())
        self.states.append(state)

    def is_key(self, value: object) -> bool:
        if found := is_key(value):
            self.compare(value)
        return found


_newobj: Callable[[Any], None] = _Reader.load_newobj
_reduce: Callable[[Any], None] = _Reader.load_reduce
_Reader.dispatch = {
    **Reader.dispatch,
    **python_s("BINPERSID"),
    pickle.NEWOBJ[0]: _newobj,
    pickle.REDUCE[0]: _reduce,
}


def read_tensors(
    path: Path, name: str, content: bytes, device: th.device | str, *, trust: bool = False
) -> Any:
    """
    Read a tensor file.

    Args:
        path: the archive that holds it, for messages; the pickle may be as large as that.
        name: its name in there.
        content: its bytes.
        device: to put the tensors on.
        trust: leave all of it to PyTorch, which runs no code either, but may take for ever.

    Raises:
        InputError: it is no tensor file of PyTorch.
        RefusedError: it holds something else than tensors and plain data, or more of these than
            its bytes are for; the message says what.
        ValueError: it is damaged.
    """
    if not trust:
        check_stored(path, name, content)
    try:
        checked = io.BytesIO(content) if trust else _checked(content, path.stat().st_size)
    except RefusedError as error:
        advice = "pass --trust if you trust the file"
        raise RefusedError(f"{name!r} in it is refused: {error}; {advice}") from error
    except Exception as error:  # whatever broken data comes to
        raise ValueError(f"{name!r} in it cannot be read: {damage(error)}") from error
    del content  # large, and not needed beside its copy
    try:
        with th.sparse.check_sparse_tensor_invariants():  # type: ignore[no-untyped-call]
            return th.load(checked, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        # The last line is about the file; before and after it stands advice on all files.
        said = str(error).partition("Check the documentation")[0].strip().splitlines()[-1]
        said = said.strip().removeprefix("WeightsUnpickler error: ")
        raise RefusedError(f"{name!r} in it is refused: {said}") from error
    finally:
        # Else the next read fails by these. It is PyTorch's own, and may have gone one day.
        getattr(th._utils, "_sparse_tensors_to_validate", []).clear()


def _checked(content: bytes, packed: int) -> io.BytesIO:
    """
    Return an archive of what has been looked at: PyTorch may find other members than Python.

    Pickles take time for each byte: this one may have as many as the archive around it, `packed`.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        # The folder that all is in has the name that the file once had.
        names = {each.partition("/")[2]: each for each in archive.namelist()}
        sizes = {name: archive.getinfo(each).file_size for name, each in names.items()}
        if sizes.get(_PICKLE, 0) > max(packed, _SMALL_PICKLE):
            raise RefusedError(f"its {_PICKLE} is larger than the file that it is in")
        _check_pickle(unpack(archive, names[_PICKLE]), sizes, packed)
        checked = io.BytesIO()
        with zipfile.ZipFile(checked, "w") as new:
            for name, each in names.items():
                if name in (_PICKLE, "version", "byteorder") or name.startswith("data/"):
                    new.writestr(f"archive/{name}", unpack(archive, each))
    checked.seek(0)
    return checked


def _check_pickle(content: bytes, sizes: Mapping[str, int], packed: int) -> None:
    reader = _Reader(content, sizes, packed)
    try:
        waiting = [reader.load()]
    except KeyError as error:
        raise RefusedError(
            f"it has an operation or a reference that is not read: {error}"
        ) from None
    for value in reader.unfolded(waiting + reader.states):
        if type(value) is Tensor:
            reader.numbers.spend(value.size)
