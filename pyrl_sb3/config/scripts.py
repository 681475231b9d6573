"""Config files in Python, which are run."""

import importlib
import os
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

from pyrl_sb3.config.errors import ConfigError
from pyrl_sb3.plugins.errors import RAISED, named

_folders: list[str] = []  # of the last script, where it was put on `sys.path` for it


def is_script(config: Path) -> bool:
    """Whether a config is a file that is run."""
    return config.suffix == ".py"


def run_script(path: Path) -> dict[str, Any]:
    """
    Run a Python file and return its names; modules beside it are found, then and later.

    :raises ConfigError: whatever it raises, with the line of the file where that is known.
    """
    find_modules_in(path.parent)
    try:
        return runpy.run_path(str(path))
    except RAISED as error:
        raise ConfigError(f"{_said(error, path)}; --verbose shows the traceback") from error


def find_modules_in(folder: Path) -> None:
    """
    Have modules in a script's folder found from now on, and those of the script before forgotten:
    what it imported has other classes by the same names.

    The folder stands last, to hide nothing else, or before the working directory where that is
    among the places of modules, as with `python -m`.
    """
    where, here = str(folder.absolute()), os.getcwd()
    for name, module in list(sys.modules.items()):
        place = None if "." in name else _folder_of(module)
        if place is None or place == where:
            continue
        if place in _folders or (place == here and _has(folder, name)):
            _forget(name)
    sys.path[:] = [place for place in sys.path if place not in _folders]
    _folders.clear()
    if where not in sys.path:
        _folders.append(where)
        first = (i for i, place in enumerate(sys.path) if place in ("", here))
        sys.path.insert(next(first, len(sys.path)), where)
    importlib.invalidate_caches()


def _folder_of(module: Any) -> str | None:
    """Where a module lies, or its package."""
    names = getattr(module, "__dict__", {})  # anything may stand for a module
    if names.get("__path__"):
        return os.path.dirname(next(iter(names["__path__"])))
    return os.path.dirname(names["__file__"]) if names.get("__file__") else None


def _has(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name).is_dir()


def _forget(name: str) -> None:
    for each in [each for each in sys.modules if each.partition(".")[0] == name]:
        del sys.modules[each]


def _said(error: BaseException, path: Path) -> str:
    """`file:line: type: text` of what a file raised, the line without what it called elsewhere."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        # Its text would say file and line once more.
        line, what = error.lineno, f"{type(error).__name__}: {error.msg}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        line, what = lines[-1] if lines else None, named(error)
    return f"{path}:{line}: {what}" if line else f"{path}: {what}"
