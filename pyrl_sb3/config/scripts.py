"""Config files in Python, which are run."""

import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

from pyrl_sb3.config.errors import ConfigError
from pyrl_sb3.plugins.errors import RAISED, named


def run_script(path: Path) -> dict[str, Any]:
    """
    Run a Python file and return its names; modules beside it are found, then and later.

    :raises ConfigError: whatever it raises, with the line of the file where that is known.
    """
    beside = str(path.absolute().parent)
    if beside not in sys.path:  # last: it is to hide nothing
        sys.path.append(beside)
    try:
        return runpy.run_path(str(path))
    except RAISED as error:
        raise ConfigError(f"{_said(error, path)}; --verbose shows the traceback") from error


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
