"""What is no file: it may have no end, or keep whoever opens it waiting for ever."""

from pathlib import Path


def is_device(path: Path) -> bool:
    """Return whether a path leads to a device, a pipe or a socket."""
    return path.exists() and not path.is_file() and not path.is_dir()
