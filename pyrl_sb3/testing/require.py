"""What checks insist on, and how it is told what a component raises meanwhile."""

import sys
from collections.abc import Callable
from pathlib import Path
from traceback import walk_tb
from typing import TypeVar

from pyrl_sb3.plugins.errors import RAISED, PluginError, named

Case = TypeVar("Case")

# Where an error that a component has led to may be raised, and is not to be looked for.
_NOT_THEIRS = {
    "gymnasium",
    "numpy",
    "pyrl_sb3",
    "sb3_contrib",
    "stable_baselines3",
    "torch",
    *sys.stdlib_module_names,
}


class CheckError(AssertionError):
    """What the kit says, and no `assert` of a component's own, which may say nothing."""


def require(condition: bool, problem: str) -> None:
    """
    Insist on `condition`, under ``python -O`` as well.

    :raises CheckError: with `problem`, when it does not hold.
    """
    if not condition:
        raise CheckError(problem)


def run(check: Callable[[Case], None], case: Case, setting: str = "") -> None:
    """
    Run one check.

    :param setting: what the case is one of several of
    :raises CheckError: what the check says, or what was raised in it; after `setting`
    """
    where = f"{setting}: " if setting else ""
    try:
        check(case)
    except (CheckError, PluginError) as error:
        raise CheckError(f"{where}{error}") from error
    except RAISED as error:
        raise CheckError(f"{where}{check.__name__}: {raised(error)}") from error


def raised(error: BaseException) -> str:
    """An exception and the line of the component that it came from, such as `noise.py:7`."""
    lines = [
        f"{Path(frame.f_code.co_filename).name}:{line}"
        for frame, line in walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in _NOT_THEIRS
    ]
    return f"{named(error)} ({lines[-1]})" if lines else named(error)
