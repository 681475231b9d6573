"""NumPy's arrays in pickles, rebuilt by functions that check the sizes they are given."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

# Numbers and truth values of this machine's byte order: no text, no records. Bytes of an array of
# objects would be pointers, so those are only made of lists.
_NUMBER = re.compile(r"[<|=]?[?biufc]\d{0,2}")
_OBJECT = re.compile(r"\|?O8?")
_MOST_DIMENSIONS, _LARGEST_LENGTH = 64, 2**63  # NumPy's and PyTorch's


def _short(value: Any) -> str:
    """Text for messages; of lists that hold one another it would have no end."""
    return repr(value[:40]) if isinstance(value, str) else f"a {type(value).__name__}"


def _number_dtype(code: Any, *_: object) -> np.dtype[Any]:
    if not (isinstance(code, str) and _NUMBER.fullmatch(code)):
        raise ValueError(f"arrays of {_short(code)} are not read")
    return np.dtype(code)


def _any_dtype(code: Any, *_: object) -> np.dtype[Any]:
    is_object = isinstance(code, str) and _OBJECT.fullmatch(code)
    return np.dtype(object) if is_object else _number_dtype(code)


def check_native(state: Any) -> None:
    """Raise ValueError unless a dtype's pickled state leaves it as it was made."""
    if not (isinstance(state, tuple) and len(state) > 4 and state[1] in ("<", "|", "=")):
        raise ValueError("arrays of another byte order are not read")
    if any(field is not None for field in state[2:5]):
        raise ValueError("arrays of records are not read")


def _array(
    content: Any, dtype: np.dtype[Any], shape: tuple[int, ...], order: str = "C", *axes: Any
) -> npt.NDArray[Any]:
    """What `numpy._core.numeric._frombuffer` makes, protocol 5."""
    _check(content, dtype, shape)
    if order not in ("C", "F"):
        raise ValueError(f"arrays in order {_short(order)} are not read")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if order == "F" else "C").copy()


def _check(content: Any, dtype: Any, shape: Any) -> None:
    sound = (
        isinstance(content, (bytes, bytearray))
        and isinstance(dtype, np.dtype)
        and not dtype.hasobject
        and is_shape(shape)
    )
    if not sound or dtype.itemsize * math.prod(shape) != len(content):
        raise ValueError("it has an array of other bytes than its shape needs")


def is_shape(shape: Any) -> bool:
    """Whether it may be one: products of many long numbers take for ever."""
    return (
        type(shape) is tuple
        and len(shape) <= _MOST_DIMENSIONS
        and all(type(length) is int and 0 <= length < _LARGEST_LENGTH for length in shape)
    )


def _empty_array(*_: object) -> npt.NDArray[Any]:
    """What `numpy._core.multiarray._reconstruct` makes, to be filled."""
    return np.empty(0)


def fill(array: npt.NDArray[Any], state: Any) -> None:
    """
    Do what `array.__setstate__` does.

    Args:
        array: fresh from `_empty_array`.
        state: version, shape, dtype, whether in Fortran's order, bytes or, of objects, a list.

    Raises:
        ValueError: what it is filled with is more or less than the shape needs, or the array is
            filled already.
    """
    _, shape, dtype, fortran, content = state
    if isinstance(content, str):  # bytes of Python 2
        content = content.encode("latin1")
    # To compare lists with it, NumPy would make a dtype of them, which for nested ones has no end.
    if type(content) is list and isinstance(dtype, np.dtype) and dtype == np.dtype(object):
        if not is_shape(shape) or math.prod(shape) != len(content):
            raise ValueError("it has an array of other objects than its shape needs")
    else:
        _check(content, dtype, shape)
        content = bytes(content)
    if array.shape != (0,) or not isinstance(fortran, bool):
        raise ValueError("it fills an array twice")
    array.__setstate__((1, shape, dtype, fortran, content))  # type: ignore[arg-type]


def _scalar(dtype: np.dtype[Any], content: Any) -> Any:
    if isinstance(content, str):  # bytes of Python 2
        content = content.encode("latin1")
    _check(content, dtype, ())
    return np.frombuffer(content, dtype)[0]


def _array_type(*_: object) -> None:
    raise ValueError("it calls numpy.ndarray")  # named by arrays, never called


def _encode(text: Any, encoding: Any) -> bytes:
    """What `bytes` are written as in protocol 2."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError(f"text in {_short(encoding)} is not read")
    return text.encode("latin1")


Functions = dict[tuple[str, str], Callable[..., Any]]

# Arrays of numbers. Before NumPy 2.0 the package was `numpy.core`.
NUMBERS: Functions = {
    ("numpy", "dtype"): _number_dtype,
    ("numpy", "ndarray"): _array_type,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", _empty_array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _array),
        )
    },
}
NUMBERS_AND_OBJECTS: Functions = {
    **NUMBERS,
    ("numpy", "dtype"): _any_dtype,
    ("_codecs", "encode"): _encode,
}
