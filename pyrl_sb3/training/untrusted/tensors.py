"""
Tensor files of PyTorch, looked through before PyTorch reads them.

Its own restricted reader runs no code, but hashes any key, which for nested tuples takes for ever,
and makes buffers of any length.
"""

import io
import math
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch as th

from pyrl_sb3.plaindata import Reader, RefusedError, unpack
from pyrl_sb3.plaindata.arrays import Functions
from pyrl_sb3.plaindata.reader import python_s
from pyrl_sb3.training.errors import damage
from pyrl_sb3.training.untrusted.archives import check_stored

_PICKLE = "data.pkl"
_MOST_PICKLE = 64 * 2**20
# What is referred to often is short, such as `betas`; what unfolds to more than this is a bomb.
_UNFOLDS = 10
_SPARE_NUMBERS = 2**16  # of tensors that are expanded
_KINDS = {
    1: ("Char", "Byte", "Bool"),
    2: ("Half", "BFloat16", "Short"),
    4: ("Float", "Int"),
    8: ("Double", "Long", "ComplexFloat"),
    16: ("ComplexDouble",),
}
_STORAGES = {("torch", f"{kind}Storage"): size for size, kinds in _KINDS.items() for kind in kinds}
_DTYPES = {str(each).partition(".")[2] for each in vars(th).values() if isinstance(each, th.dtype)}


class _Made:
    """
    Stands for what PyTorch will make.

    Attributes:
        size: the bytes of a number of a kind of storages; the numbers in a storage.
    """

    def __init__(self, size: int = 0) -> None:
        self.size = size


class _Kind(_Made):
    pass


class _Storage(_Made):
    pass


class _Tensor(_Made):
    pass


class _Bytes(_Made):
    pass


def _natural(*numbers: object) -> bool:
    return all(type(number) is int and number >= 0 for number in numbers)


def _tensor(storage: _Storage, offset: int, size: Any, stride: Any, grad: bool, hooks: Any) -> Any:
    fits = isinstance(storage, _Storage) and type(size) is type(stride) is tuple
    if not (fits and len(size) == len(stride) and _natural(offset, *size, *stride)):
        raise RefusedError("a tensor in it has no shape")
    last = sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    numbers = math.prod(size)
    if (numbers and offset + last >= storage.size) or numbers > storage.size + _SPARE_NUMBERS:
        raise RefusedError("a tensor in it is larger than its numbers")
    if type(grad) is not bool or type(hooks) is not OrderedDict or hooks:
        raise RefusedError("a tensor in it has hooks")
    return _Tensor()


def _parameter(data: _Tensor, grad: bool, hooks: Any) -> Any:
    if type(data) is not _Tensor or type(grad) is not bool or hooks:
        raise RefusedError("a parameter in it is no tensor")
    return _Tensor()


def _bytes(text: str, encoding: str) -> Any:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise RefusedError("bytes in it are of no text")
    return _Bytes()


def _bytearray(content: object) -> Any:
    if type(content) is not _Bytes:  # a number would be a length
        raise RefusedError("a bytearray in it has no content")
    return _Made()


def _set(items: list[Any]) -> Any:
    if type(items) is not list or any(type(item) not in (str, int, float) for item in items):
        raise RefusedError("a set in it is not of text or numbers")
    return _Made()


def _shape(numbers: tuple[int, ...]) -> Any:
    if type(numbers) is not tuple or not _natural(*numbers):
        raise RefusedError("a shape in it is not of numbers")
    return numbers


def _device(kind: str, number: int = 0) -> Any:
    if type(kind) is not str or not _natural(number):
        raise RefusedError("a device in it has no name")
    return _Made()


class _Reader(Reader):
    """Reads what `torch.save` writes of `state_dict()`s, and makes no tensors."""

    # In pickles of PyTorch's protocol, Python's module is called as it was in Python 2.
    functions: ClassVar[Functions] = {
        ("collections", "OrderedDict"): Reader.functions["collections", "OrderedDict"],
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch", "Size"): _shape,
        ("torch", "device"): _device,
        ("_codecs", "encode"): _bytes,
        ("__builtin__", "bytearray"): _bytearray,
        ("__builtin__", "set"): _set,
    }

    def __init__(self, content: bytes, sizes: Mapping[str, int]) -> None:
        super().__init__(io.BytesIO(content), fix_imports=False)
        self.sizes = sizes
        self.states: list[Any] = []

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _STORAGES:
            return _Kind(_STORAGES[module, name])
        if module == "torch" and name in _DTYPES:
            return _Made()
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        what, kind, key, place, numbers = pid
        if (what, type(kind), type(key), type(place)) != ("storage", _Kind, str, str):
            raise RefusedError("it refers to something that is no storage")
        # Some versions of PyTorch read past the end.
        if not _natural(numbers) or numbers * kind.size > self.sizes.get(f"data/{key}", -1):
            raise RefusedError("a storage in it is larger than its bytes")
        return _Storage(numbers)

    def build(self, built: Any, state: Any) -> None:
        if type(built) is not OrderedDict or type(state) is not dict or {*state} != {"_metadata"}:
            super().build(built, state)
        self.states.append(state)


_Reader.dispatch = {**Reader.dispatch, **python_s("BINPERSID")}


def read_tensors(path: Path, name: str, content: bytes, device: th.device | str) -> Any:
    """
    Read a tensor file.

    Args:
        path: the archive that holds it, for messages.
        name: its name in there.
        content: its bytes.
        device: to put the tensors on.

    Raises:
        InputError: it is no tensor file of PyTorch.
        ValueError: it holds something else than tensors and plain data; the message says what.
    """
    check_stored(path, name, content)
    try:
        checked = _checked(content)
    except RefusedError as error:
        raise ValueError(f"{name!r} in it is refused: {error}") from error
    except Exception as error:  # whatever broken data comes to
        raise ValueError(f"{name!r} in it cannot be read: {damage(error)}") from error
    return th.load(checked, map_location=device, weights_only=True)


def _checked(content: bytes) -> io.BytesIO:
    """Return an archive of what has been looked at: PyTorch may find other members than Python."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        # The folder that all is in has the name that the file once had.
        names = {each.partition("/")[2]: each for each in archive.namelist()}
        sizes = {name: archive.getinfo(each).file_size for name, each in names.items()}
        if sizes.get(_PICKLE, 0) > _MOST_PICKLE:
            raise RefusedError(f"its {_PICKLE} is larger than {_MOST_PICKLE} bytes")
        _check_pickle(unpack(archive, names[_PICKLE]), sizes)
        checked = io.BytesIO()
        with zipfile.ZipFile(checked, "w") as new:
            for name, each in names.items():
                if name in (_PICKLE, "version", "byteorder") or name.startswith("data/"):
                    new.writestr(f"archive/{name}", unpack(archive, each))
    checked.seek(0)
    return checked


def _check_pickle(content: bytes, sizes: Mapping[str, int]) -> None:
    reader = _Reader(content, sizes)
    try:
        waiting = [reader.load()]
    except KeyError as error:
        raise RefusedError(
            f"it has an operation or a reference that is not read: {error}"
        ) from None
    waiting += reader.states
    left = _UNFOLDS * len(content)
    while waiting:
        value = waiting.pop()
        children = list(value.values()) if isinstance(value, dict) else value
        if isinstance(children, (list, tuple)):
            waiting += children
            left -= len(children)
        if left < 0:
            raise RefusedError("it refers to the same values too often")
