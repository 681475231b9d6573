"""Zip archives and `.npz` files: what they claim is checked before anything is allocated."""

import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from pyrl_sb3.devices import is_device
from pyrl_sb3.plaindata import read_npy, unpack
from pyrl_sb3.training.errors import InputError, damage, first_line

# A model of SB3 has ten members, plainly named, its weights stored as they are.
_MOST_MEMBERS, _MOST_ARRAYS, _MOST_TENSORS = 100, 10_000, 2**16
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_LARGEST = 8 * 2**30
# Text shrinks tenfold, weights hardly at all; what shrinks more than this is a bomb.
_SHRINKS = 200
_SMALL = 2**20
_ENCRYPTED = 0x1
_ENTRY = b"PK\x01\x02"  # begins each in a table of contents
_END = 22  # bytes of an archive's last record, comments apart


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn what damaged archives raise into an InputError."""
    try:
        yield
    except InputError:
        raise
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is no {what}, or a truncated one: {first_line(error)}") from error
    except (OSError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {damage(error)}") from error
    except (ValueError, OverflowError) as error:  # names that are no UTF-8, places out of reach
        raise InputError(f"{path} is damaged: names or places in it cannot be read") from error


def check_archive(path: Path, what: str = "model", members: int = _MOST_MEMBERS) -> None:
    """
    Check an archive: its table of contents before anything is unpacked, then its checksums.

    It should be a `what`, for messages, and have at most so many members.

    Raises:
        InputError: no archive, truncated, damaged, encrypted, with names that are paths or stand
            twice, or larger when unpacked than can be meant.
    """
    check_contents(path, what, members)
    with reading(path, what), zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise InputError(f"{path} is damaged: {damaged} in it cannot be read")


def check_contents(path: Path, what: str = "model", members: int = _MOST_MEMBERS) -> None:
    """Check an archive's table of contents alone, as `check_archive` does; nothing is unpacked."""
    if is_device(path):
        raise InputError(f"{path} is no {what}, but a device or a pipe")
    with reading(path, what), path.open("rb") as file:
        # Python also finds the table of an archive within a truncated one.
        file.seek(-min(_END, path.stat().st_size), io.SEEK_END)
        if not file.read(_END).startswith(b"PK\x05\x06"):
            raise zipfile.BadZipFile("it does not end as one")
    with reading(path, what), zipfile.ZipFile(path) as archive:
        problem = _problem(archive.infolist(), path.stat().st_size, members)
    if problem:
        raise InputError(f"{path} is no {what} that can be read safely: {problem}")


def _problem(members: list[zipfile.ZipInfo], size: int, most: int) -> str | None:
    names = Counter(member.filename for member in members)
    if len(members) > most:
        return f"it has {len(members)} members"
    for name, count in names.items():
        if not _NAME.fullmatch(name):
            return f"{name[:80]!r} in it is no plain file name"
        if count > 1:
            return f"{name!r} is in it more than once"
    for member in members:
        if member.flag_bits & _ENCRYPTED:
            return f"{member.filename!r} in it is encrypted"
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return f"{member.filename!r} in it has a compression that is not read"
        if member.file_size > max(_SMALL, _SHRINKS * member.compress_size):
            return f"{member.filename!r} in it would unpack to {member.file_size} bytes"
    # Members that share their bytes are how bombs get around the ratio.
    if sum(member.compress_size for member in members) > size:
        return "its members overlap"
    if sum(member.file_size for member in members) > _LARGEST:
        return "it would unpack to more than 8 GiB"
    return None


def read_member(path: Path, name: str, most: int = _LARGEST) -> bytes:
    """
    Read a member, of so many bytes at most, of an archive that `check_contents` has passed.

    Raises:
        InputError: it is not there, too large, or damaged.
    """
    with reading(path, "model"), zipfile.ZipFile(path) as archive:
        if name not in archive.namelist():
            raise InputError(f"{path} is no model of Stable-Baselines3: it has no `{name}`")
        if archive.getinfo(name).file_size > most:
            raise InputError(f"{path}: {name!r} in it is larger than {most} bytes")
        try:
            return unpack(archive, name)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise InputError(f"{path} is damaged: {name} in it cannot be read") from error


def check_stored(path: Path, name: str, content: bytes) -> int:
    """
    Check a tensor file of PyTorch, an archive in the one at `path`; return its number of members.

    They must be stored as they are. There are some more than tensors.

    Raises:
        InputError: it is none, lists more members than a model has or one twice, or would unpack to
            more than its own size.
    """
    # Counted before Python makes an object of each.
    if content.count(_ENTRY) > _MOST_TENSORS:
        raise InputError(f"{path}: {name!r} in it has more than {_MOST_TENSORS} members")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: {name!r} in it is no tensor file of PyTorch") from error
    if len({member.filename for member in members}) < len(members):
        raise InputError(f"{path}: {name!r} in it lists the same member twice")
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if packed or sum(member.file_size for member in members) > len(content):
        raise InputError(f"{path}: {name!r} in it would unpack to more than its size")
    return len(members)


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """
    Read an `.npz` file: no pickles, and no array whose header claims more bytes than are there.

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    check_archive(path, "file of arrays", _MOST_ARRAYS)
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                name.removesuffix(".npy"): read_npy(unpack(archive, name))
                for name in archive.namelist()
            }
    except ValueError as error:
        raise InputError(f"{path} cannot be read: {damage(error)}") from error
