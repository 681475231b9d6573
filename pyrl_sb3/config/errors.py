"""What is wrong with a config: all of it at once, one line for each mistake."""

from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST = 60


class ConfigError(ValueError):
    """
    A config that cannot be used as it stands; `problems` has one line for each mistake.

    A line names the file, the line in it where there is one, the key, and the nearest valid choice.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def did_you_mean(name: object, choices: Iterable[str]) -> str:
    """`"; did you mean X?"`, or nothing when no choice is close to `name`."""
    spelt = {choice.lower(): choice for choice in choices}
    close = get_close_matches(str(name).lower(), spelt, n=1)
    return f"; did you mean {spelt[close[0]]}?" if close else ""


def short(value: object) -> str:
    """The `repr` of a value on one line, cut where it is long."""
    # A string is cut first: its repr may be many times as long.
    text = repr(value[: _LONGEST + 1] if isinstance(value, str) else value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
