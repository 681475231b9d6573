"""Single arrays of `.npy` and `.npz` files."""

import io
import math
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Header = tuple[tuple[int, ...], bool, np.dtype[Any]]
_LONGEST_HEADER = 2**17
_LARGEST_VALUE = 2**16  # bytes, of text


def read_header(file: io.BytesIO) -> Header:
    """
    Return shape, whether in Fortran's order, and dtype, and leave the file behind these.

    Raises:
        ValueError: it is no array, is damaged, or of a version that is not read.
    """
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"arrays of version {version} are not read")
    try:
        return read(file)
    except ValueError:
        raise
    except Exception as error:  # TokenError, TypeError, MemoryError: whatever the text comes to
        raise ValueError("its header is damaged") from error


def announced(file: IO[bytes], size: int) -> npt.NDArray[Any]:
    """
    Return an array of the shape and type that a file announces, with no values: it takes no memory.

    Raises:
        ValueError: it is no array of the file's size, or one of Python objects or of long texts.
    """
    shape, _, dtype = read_header(io.BytesIO(file.read(_LONGEST_HEADER)))
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if dtype.itemsize > _LARGEST_VALUE:
        raise ValueError(f"its values have {dtype.itemsize} bytes each")
    found = np.broadcast_to(np.zeros((), dtype), shape)
    if not 0 < size - found.nbytes <= _LONGEST_HEADER:
        raise ValueError(f"an array of shape {shape} is announced, of a file of {size} bytes")
    return found


def read_npy(content: bytes) -> npt.NDArray[Any]:
    """
    Read an array, which must fill `content` exactly.

    Raises:
        ValueError: it does not, or holds Python objects; nothing has been allocated for it.
    """
    file = io.BytesIO(content)
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    body = memoryview(content)[file.tell() :]
    if min(shape, default=0) < 0 or dtype.itemsize * math.prod(shape) != len(body):
        raise ValueError(f"an array of shape {shape} is announced, and {len(body)} bytes are there")
    return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C").copy()
