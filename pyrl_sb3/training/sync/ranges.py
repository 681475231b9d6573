"""What the parameters of the built-in strategies may be."""

import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any, NamedTuple

from pyrl_sb3.errors import did_you_mean
from pyrl_sb3.training.errors import InputError


class _Range(NamedTuple):
    text: str
    holds: Callable[[Any], bool]


_POSITIVE = _Range("a number greater than 0", lambda value: 0 < value < math.inf)
_PART = _Range("a number from 0 to 1", lambda value: 0 <= value <= 1)
_COUNT = _Range("a whole number, at least 1", lambda value: value >= 1 and value == int(value))
_RANGES = {
    "temperature": _POSITIVE,
    "patience": _COUNT,
    "episodes": _COUNT,
    "pull": _PART,
    "beta": _PART,
    "learning_rate": _POSITIVE,
    "momentum": _Range("a number from 0 to less than 1", lambda value: 0 <= value < 1),
}


def require_in_range(params: Mapping[str, Any], known: Iterable[str]) -> None:
    """
    Check parameters before anything begins: a weight that is no number ends copies one round later.

    Raises:
        InputError: naming one that is not `known`, or out of its range.
    """
    names = sorted(known)
    for name, value in params.items():
        if name not in names:
            there = f"there are {', '.join(names)}" if names else "there are none"
            raise InputError(f"no parameter {name!r}{did_you_mean(name, names) or f'; {there}'}")
        allowed = _RANGES[name]
        number = isinstance(value, Real) and not isinstance(value, bool)
        # NaN is in no range; infinity is no whole number.
        if not number or math.isinf(value) or not allowed.holds(value):
            raise InputError(f"{name}={value}: must be {allowed.text}")
