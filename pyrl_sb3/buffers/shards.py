"""Folders of immutable files ("shards") and one header, which is what commits a save.

A save writes new files under new names, then a header under a temporary name, which it renames.
Whatever happens before the rename, the folder holds what it held; afterwards, what is new. Files
that the header does not name are left over from a save that was interrupted, or out of date, and
deleted by the next save.
"""

import errno
import hashlib
import os
import secrets
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pyrl_sb3.buffers.header import HEADER, File, Header, dump, ours, read_header

# What file systems say that cannot write folders through
_REFUSED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)


def write_file(path: Path, chunks: Iterable[Any]) -> tuple[int, str]:
    """Write a new file through to the disk: its size in bytes and its checksum."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
            digest.update(chunk)
        file.flush()
        os.fsync(file.fileno())
        return file.tell(), digest.hexdigest()


def commit(folder: Path, header: Header) -> None:
    """Make `header`, whose files are written, what the folder holds."""
    temporary = folder / f"header-{secrets.token_hex(8)}.tmp"
    write_file(temporary, [dump(header)])
    sync_folder(folder)
    temporary.replace(folder / HEADER)


def sync_folder(folder: Path) -> None:
    """Write the names of a folder's files through to the disk, where the system lets one."""
    if sys.platform == "win32":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path, header: Header | None) -> None:
    """Delete files of ours that the header does not name."""
    keep = {HEADER} if header is None else {HEADER, *(file.name for file in header.files)}
    for file in folder.iterdir():
        if ours(file.name) and file.name not in keep and not file.is_dir():
            file.unlink(missing_ok=True)


def open_to_write(folder: Path) -> Header | None:
    """Make the folder if there is none; what it holds.

    :raises ValueError: it holds something else, which is left alone
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: a replay buffer is saved as a folder")
    if not folder.exists():
        folder.mkdir(parents=True)
        sync_folder(folder.parent)
    if (folder / HEADER).exists():
        return read_header(folder)
    foreign = sorted(file.name for file in folder.iterdir() if not ours(file.name))
    if foreign:
        raise ValueError(
            f"{folder} holds {foreign[0]!r} and no replay buffer: choose a new or an empty folder"
        )
    return None


def check_files(folder: Path, header: Header) -> None:
    """Check that all files are there and have their sizes.

    :raises ValueError: names the file that is not or has not
    """
    for part in header.files:
        file = folder / part.name
        try:  # asked once: somebody who saves there may take it away
            found = file.stat()
        except FileNotFoundError:
            found = None
        if found is None or not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{file} is missing")
        if (size := found.st_size) != part.size:
            raise ValueError(f"{file} is damaged: it has {size} bytes instead of {part.size}")


def read_file(folder: Path, part: File) -> bytes:
    """The contents of a file.

    :raises ValueError: it is not there, or its checksum is wrong
    """
    try:
        content = (folder / part.name).read_bytes()
    except FileNotFoundError as error:
        raise ValueError(f"{folder / part.name} is missing") from error
    if hashlib.blake2b(content, digest_size=16).hexdigest() != part.checksum:
        raise ValueError(f"{folder / part.name} is damaged: its checksum is wrong")
    return content
