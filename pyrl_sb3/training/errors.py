"""What the user got wrong, in one line."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from pyrl_sb3.plugins.errors import RAISED, PluginError, text_of

_Made = TypeVar("_Made")


class InputError(ValueError):
    """A request that cannot be fulfilled as it stands.

    The message is one line: the input, what is wrong with it, the nearest valid choice.
    """


class RunStoppedError(RuntimeError):
    """A run that could not go on, through no fault of what was asked; the message is one line."""

    exit_code = 1


class HopelessError(RunStoppedError):
    """One that would come again however often the run is started."""

    exit_code = 3


def begun_otherwise(said: str, folder: Path, there: object) -> InputError:
    """Return what `--resume` of a folder raises for what it was begun without, or otherwise."""
    begun = "without it" if there is None else f"with {there}"
    return InputError(
        f"{said}: {folder} was begun {begun}, and --resume takes that from there; leave it out"
    )


def require_package(name: str) -> None:
    """Raise InputError, naming the extra `report`, where one of its packages is not installed."""
    if find_spec(name) is None:
        raise InputError(f"{name} is not installed: pip install 'pyrl-sb3[report]' brings it")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    return next(iter(text_of(error).strip().splitlines()), type(error).__name__).rstrip(".:")


def damage(error: Exception) -> str:
    """Return what is wrong with a file, of what reading it came to; Python's words are of code."""
    match error:
        case KeyError():
            return f"it has no {error}"
        case EOFError():
            return "it is cut off"
        case TypeError() | AttributeError() | IndexError():
            return "it has another form than it should"
    return first_line(error)


def file_of(error: OSError) -> str:
    """Return the file that an error of the system names, or nothing; TensorBoard's are bytes."""
    name = error.filename
    return os.fsdecode(name) if isinstance(name, bytes) else str(name or "")


def one_line(error: BaseException) -> str:
    """Return all of an error's message on one line; each of its own may name another mistake."""
    return "; ".join(str(error).splitlines())


def complaint(error: BaseException) -> str:
    """Return what a stranger's code complains of, with the error's type where its words need it."""
    line, name = first_line(error), type(error).__name__
    chosen = isinstance(error, (TypeError, ValueError, AssertionError))
    return line if chosen or line == name else f"{name}: {line}"


def made_by(factory: Callable[[], _Made], what: str) -> _Made:
    """Return what a stranger's factory makes; whatever it raises is an InputError about `what`."""
    try:
        return factory()
    except PluginError:
        raise
    except RAISED as error:
        raise InputError(f"{what}: {complaint(error)}") from error
