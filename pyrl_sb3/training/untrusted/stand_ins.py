"""
What PyTorch's restricted reader would call, and stand-ins for what it would make.

Each function checks that this takes no more memory, and no more time, than the file has bytes for.
Whether arguments make sense otherwise, PyTorch says.
"""

import math
from collections import OrderedDict
from collections.abc import Collection
from typing import Any

import torch as th

from pyrl_sb3.plaindata import RefusedError
from pyrl_sb3.plaindata.arrays import Functions, is_shape
from pyrl_sb3.plaindata.reader import is_plain_key

_KINDS = {
    1: ("Char", "Byte", "Bool"),
    2: ("Half", "BFloat16", "Short"),
    4: ("Float", "Int"),
    8: ("Double", "Long", "ComplexFloat"),
    16: ("ComplexDouble",),
}
STORAGES = {("torch", f"{kind}Storage"): size for size, kinds in _KINDS.items() for kind in kinds}
STORAGES["torch.storage", "UntypedStorage"] = 1
DTYPES = {
    ("torch", str(each).partition(".")[2]): each.itemsize
    for each in vars(th).values()
    if isinstance(each, th.dtype)
}
_LONGEST_KEY = 20  # a tuple is hashed anew each time
_COPIED = 4  # optimisers copy numbers of half precision as `float32`


class Made:
    """
    Stands for what PyTorch will make.

    Attributes:
        size: in bytes: of one number for a dtype or a kind of storage, of all for a storage or
            `bytes`, of a copy for a tensor.
    """

    def __init__(self, size: int = 0) -> None:
        self.size = size


class Dtype(Made):
    pass


class Kind(Made):
    pass


class Storage(Made):
    def __init__(self, size: int, kind: int) -> None:
        super().__init__(size)
        self.kind = kind


class Tensor(Made):
    pass


class Bytes(Made):
    pass


class Keyed(Made):
    """A set or a Counter, whose keys are hashed once more."""

    def __init__(self, keys: Collection[object]) -> None:
        super().__init__()
        self.keys = keys


class Object(Made):
    """Of a class that other code has told PyTorch is safe."""


def natural(*numbers: object) -> bool:
    return all(type(number) is int and number >= 0 for number in numbers)


def _tensor(
    storage: Storage, offset: int, size: Any, stride: Any, grad: bool, hooks: Any, *metadata: Any
) -> Any:
    return _typed(storage, offset, size, stride, grad, hooks, Dtype(storage.kind), *metadata)


def _typed(
    storage: Storage,
    offset: int,
    size: Any,
    stride: Any,
    grad: bool,
    hooks: Any,
    dtype: Dtype,
    metadata: Any = None,
) -> Any:
    fits = type(storage) is Storage and type(dtype) is Dtype and natural(offset)
    if not (fits and is_shape(size) and is_shape(stride) and len(size) == len(stride)):
        raise RefusedError("a tensor in it has no shape")
    last = sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    numbers = math.prod(size)
    if numbers and offset + last >= storage.size // dtype.size:
        raise RefusedError("a tensor in it is larger than its numbers")
    if type(grad) is not bool or type(hooks) is not OrderedDict or hooks:
        raise RefusedError("a tensor in it has hooks")
    if metadata is not None and type(metadata) is not dict:
        raise RefusedError("a tensor in it has metadata of another kind")
    return Tensor(numbers * max(dtype.size, _COPIED))


def _sparse(_layout: Any, parts: Any) -> Any:
    """PyTorch would make tensors of lists; that places lie within the size is checked by it."""
    kinds = (Tensor, bool, type(None))
    if type(parts) is not tuple or not all(type(p) in kinds or is_shape(p) for p in parts):
        raise RefusedError("a sparse tensor in it is not of tensors")
    return Tensor(sum(part.size for part in parts if type(part) is Tensor))


def _parameter(data: Tensor, grad: bool, hooks: Any) -> Any:
    if type(data) is not Tensor or type(grad) is not bool or hooks:
        raise RefusedError("a parameter in it is no tensor")
    return Tensor(data.size)


def _bytes(text: str, encoding: str) -> Any:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise RefusedError("bytes in it are of no text")
    return Bytes(len(text))


def _bytearray(*content: object) -> Any:
    if any(type(each) is not Bytes for each in content):  # a number would be a length
        raise RefusedError("a bytearray in it has no content")
    return Made()


def is_key(value: object) -> bool:
    """Whether it is hashed in no time: PyTorch's things are, and short tuples of plain values."""
    if isinstance(value, tuple):
        short = len(value) <= _LONGEST_KEY
        return short and all(type(each) is not tuple and is_key(each) for each in value)
    return is_plain_key(value) or type(value) in (int, complex) or isinstance(value, Made)


class Keys:
    """
    The different keys of a file whose hashes its author can choose.

    Those of one hash are compared one by one, wherever they are put in a dictionary.
    """

    def __init__(self) -> None:
        self.known: dict[int, list[object]] = {}

    def alike(self, key: object) -> int:
        """Return how many of that key's hash there are, itself included."""
        if is_plain_key(key):
            return 0
        found = self.known.setdefault(hash(key), [])
        if key not in found:
            found.append(key)
        return len(found)


def _set(items: list[Any]) -> Any:
    if type(items) is not list or not all(map(is_key, items)):
        raise RefusedError("a set in it is not of text or numbers, nor of short tuples of these")
    return Keyed(items)


def _counter(counts: dict[Any, Any]) -> Any:
    if type(counts) is not dict:
        raise RefusedError("a Counter in it is of no dictionary")
    return Keyed(counts)


def _complex(*parts: float) -> Any:
    if any(type(part) is not float for part in parts):
        raise RefusedError("a complex number in it is not of numbers")
    return complex(*parts)


def _layout(name: str) -> Any:
    if type(name) is not str:
        raise RefusedError("a layout in it has no name")
    return Made()


def _shape(numbers: tuple[int, ...]) -> Any:
    if not is_shape(numbers):
        raise RefusedError("a shape in it is not of numbers")
    return numbers


def _device(kind: str, number: int = 0) -> Any:
    if type(kind) is not str or not natural(number):
        raise RefusedError("a device in it has no name")
    return Made()


# In pickles of PyTorch's protocol, Python's module is called as it was in Python 2.
FUNCTIONS: Functions = {
    ("collections", "Counter"): _counter,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _typed,
    ("torch._utils", "_rebuild_sparse_tensor"): _sparse,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): _shape,
    ("torch", "device"): _device,
    ("torch.serialization", "_get_layout"): _layout,
    ("_codecs", "encode"): _bytes,
    ("__builtin__", "bytearray"): _bytearray,
    ("__builtin__", "complex"): _complex,
    ("__builtin__", "set"): _set,
}
