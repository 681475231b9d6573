"""How much memory there is, and where else to put a buffer."""

import errno
import math
import os
import re
import tempfile
import warnings
from pathlib import Path
from typing import Literal

import numpy as np

from pyrl_sb3.buffers.table import Array

CGROUPS = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
Storage = Literal["ram", "memmap"]


def memory_limit() -> tuple[float, str]:
    """Bytes this process may use, and what limits them; infinite where that cannot be known.

    The container's limit is set through control groups of version 2 or 1; the memory that the
    machine has available does not show it.
    """
    limits = [(float("inf"), "no limit")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        file = CGROUPS / name
        if file.is_file() and (text := file.read_text().strip()).isdigit():
            limits.append((int(text), "the container's limit"))
    if MEMINFO.is_file():
        available = re.search(r"MemAvailable:\s+(\d+) kB", MEMINFO.read_text())
        if available:
            limits.append((1024 * int(available[1]), "the machine's available memory"))
    return min(limits)


def _advice(dtype: np.dtype) -> str:
    """What to do where arrays of this dtype are too large."""
    half = ", dtype='float16'" if dtype.kind == "f" and dtype.itemsize > 2 else ""
    return f"choose a smaller buffer_size{half} or storage='memmap'"


def warn_if_too_large(n_bytes: int, dtype: np.dtype) -> None:
    """Warn if a buffer of this size will not fit, long before it is full.

    :param dtype: of most of it
    """
    limit, which = memory_limit()
    if n_bytes > limit:
        warnings.warn(
            f"the full replay buffer will take {n_bytes / 1e9:.2f} GB, more than {which} of "
            f"{limit / 1e9:.2f} GB: {_advice(dtype)}",
            stacklevel=4,
        )


class Allocator:
    """Makes arrays in memory, or in files, which take all of their room on the disk at once.

    The files have no names: whatever ends the process, killed or not, their room is free again.

    :param storage: "ram", or "memmap" for files
    :param path: a folder on the disk whose room the files take
    :raises ValueError: an unknown storage, or a path without files and the other way round
    """

    def __init__(self, storage: Storage = "ram", path: str | Path | None = None) -> None:
        if storage not in ("ram", "memmap"):
            raise ValueError(f"unknown storage {storage!r}: choose 'ram' or 'memmap'")
        if (storage == "memmap") != (path is not None):
            raise ValueError("storage='memmap' goes with a path=..., and a path with it")
        self.path = path
        # Until a larger block has been freed, glibc returns each batch's arrays to the system, and
        # the next batch's cost a page fault per 4 kB (mallopt(3), M_MMAP_THRESHOLD).
        np.empty(1 << 22, np.uint8)

    def __call__(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """An array of undefined contents.

        :raises MemoryError: there is not so much, by far
        :raises OSError: there is no room for the file
        """
        size = math.prod(shape) * dtype.itemsize
        if self.path is None:
            try:
                return np.empty(shape, dtype)
            except (MemoryError, ValueError, OverflowError) as error:  # beyond all addresses
                message = f"the replay buffer: no memory for {size / 1e9:.2f} GB"
                raise MemoryError(f"{message}: {_advice(dtype)}") from error
        Path(self.path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.path) as file:
            try:
                _take_space(file.fileno(), size)
            except (OSError, OverflowError) as error:
                message = f"the replay buffer: no room for {size / 1e9:.2f} GB on the disk"
                number = getattr(error, "errno", errno.EFBIG)
                raise OSError(number, message, str(self.path)) from error
            return np.asarray(np.memmap(file, dtype, "w+", shape=shape))


def _take_space(file: int, size: int) -> None:
    """Take the room on the disk now: a full one would kill whoever writes to the mapped file."""
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
