"""What the user got wrong, in one line."""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec


class InputError(ValueError):
    """A request that cannot be fulfilled as it stands.

    The message is one line: the input, what is wrong with it, the nearest valid choice.
    """


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice spelt most like `name`, whatever the case; None when none is close."""
    spelt = {choice.lower(): choice for choice in choices}
    close = get_close_matches(name.lower(), spelt, n=1)
    return spelt[close[0]] if close else None


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return `"; did you mean X?"`, or nothing when no choice is close to `name`."""
    choice = nearest(name, choices)
    return f"; did you mean {choice}?" if choice else ""


def require_package(name: str, extra: str) -> None:
    """Raise InputError, naming the extra that brings it, when a package is not installed."""
    if find_spec(name) is None:
        raise InputError(f"{name} is not installed: pip install 'pyrl-sb3[{extra}]' brings it")


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".:")
