"""What the user got wrong, in one line."""

from importlib.util import find_spec

from pyrl_sb3.plugins.errors import text_of


class InputError(ValueError):
    """A request that cannot be fulfilled as it stands.

    The message is one line: the input, what is wrong with it, the nearest valid choice.
    """


class RunStoppedError(RuntimeError):
    """A run that could not go on, through no fault of what was asked; the message is one line."""


def require_package(name: str, extra: str) -> None:
    """Raise InputError, naming the extra that brings it, when a package is not installed."""
    if find_spec(name) is None:
        raise InputError(f"{name} is not installed: pip install 'pyrl-sb3[{extra}]' brings it")


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    return next(iter(text_of(error).strip().splitlines()), type(error).__name__).rstrip(".:")
