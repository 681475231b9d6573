"""What every layer may raise, how mistakes and numbers are worded, and which of these are whole."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path
from typing import Any

_LONGEST = 60


class NotANumberError(ValueError):
    """A loss or an action is NaN: there is nothing to learn from, or to do. One line says which."""


class NoStackError(ValueError):
    """Observations are no stacks of frames, as `frame_stack` of a replay buffer says of them."""


def did_you_mean(name: object, choices: Iterable[str]) -> str:
    """`"; did you mean X?"`, or nothing when no choice is close to `name` in either case."""
    spelt = {choice.lower(): choice for choice in choices}
    close = get_close_matches(str(name).lower(), spelt, n=1)
    return f"; did you mean {spelt[close[0]]}?" if close else ""


def did_you_mean_beside(path: Path) -> str:
    """`did_you_mean` for a path that is not there, of what else is in its folder."""
    there = path.parent.iterdir() if path.parent.is_dir() else ()
    return did_you_mean(path.name, (entry.name for entry in there))


def counted(number: int, what: str) -> str:
    """`"1 episode"`, `"2 episodes"`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def as_whole(value: Any) -> int | None:
    """A whole number as `int`, NumPy's and 1e5 too; None for all else, flags included."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    if isinstance(value, Integral):
        return int(value)
    return int(float(value)) if float(value).is_integer() else None


def without_addresses(text: str) -> str:
    """Drop from what objects call themselves where in memory they are, which means nothing."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def short(value: object) -> str:
    """The `repr` of a value on one line, cut where it is long."""
    # A string is cut first: its repr may be many times as long.
    text = repr(value[: _LONGEST + 1] if isinstance(value, str) else value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
