"""What is no file: it may have no end, or keep whoever opens it waiting for ever."""

from pathlib import Path


def is_device(path: Path) -> bool:
    """
    Return whether a path leads to a device, a pipe or a socket.

    Of one that cannot be looked at, its name too long for example, whoever opens it says so.
    """
    try:
        return path.exists() and not path.is_file() and not path.is_dir()
    except OSError:
        return False
