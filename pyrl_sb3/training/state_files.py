"""The files that captured state is written to: JSON, and an `.npz` for its arrays."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyrl_sb3.devices import is_device
from pyrl_sb3.training.state import Tree
from pyrl_sb3.training.untrusted import read_arrays

_CHECKSUM = "checksum_of_json"  # among the arrays, whose archive has checksums of its own
_LARGEST_NUMBER = 32  # bytes, of a complex number of two long doubles


def write_tree(tree: Tree, folder: Path, name: str) -> list[Path]:
    """Write a tree to `<name>.json` and, for its arrays, `<name>.npz`; return these."""
    arrays: dict[str, Any] = {}

    def leaf(value: Any) -> Any:
        if isinstance(value, np.generic):
            # Long doubles and dates are no numbers of Python's
            number = np.array(value) if value.dtype.char in "gGmM" else value.item()
            return {"$scalar": [value.dtype.str, number]}
        key = f"a{len(arrays)}"
        arrays[key] = value
        return {"$array": key}

    text = json.dumps(tree, default=leaf).encode()
    arrays[_CHECKSUM] = np.uint32(zlib.crc32(text))
    files = [folder / f"{name}.json", folder / f"{name}.npz"]
    files[0].write_bytes(text)
    np.savez(files[1], **arrays)
    return files


def read_tree(folder: Path, name: str) -> Tree:
    """
    Read what `write_tree` wrote.

    Raises:
        OSError, ValueError, KeyError, InputError: a file is missing or damaged, or claims more
            memory than it has bytes for.
    """
    arrays = read_arrays(folder / f"{name}.npz")

    def leaf(value: dict[str, Any]) -> Any:
        match value:
            case {"$scalar": [dtype, number]}:
                return _scalar(np.dtype(dtype), np.asarray(number))
            case {"$array": key}:
                return arrays[key]
        return value

    path = folder / f"{name}.json"
    if is_device(path):
        raise ValueError(f"{name}.json is a device or a pipe")
    text = path.read_bytes()
    if _CHECKSUM in arrays and int(arrays[_CHECKSUM]) != zlib.crc32(text):  # not in older ones
        raise ValueError(f"{name}.json is not as it was written")
    return json.loads(text, object_hook=leaf)


def _scalar(dtype: np.dtype[Any], number: npt.NDArray[Any]) -> Any:
    """One number of numpy's; its type may ask for no more memory than numbers take."""
    if number.ndim or dtype.itemsize > max(_LARGEST_NUMBER, number.itemsize):
        raise ValueError(f"{str(dtype)[:40]} is no type of a number")
    return number.astype(dtype)[()]
