"""What a checkpoint does not keep of a component, for those who wonder why it goes on otherwise."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def loses(lost: Iterable[str], no: str) -> str:
    """
    Tell that a checkpoint does not keep all.

    :param lost: names of attributes, as of `left_out`
    :param no: what else it does not keep
    """
    names = ", ".join(lost)
    problem = f"it does not keep {names}; of attributes" if names else "of attributes"
    keeps = f"it keeps numbers, arrays, generators and containers of these, {no}"
    return f"a checkpoint loses some of its state: {problem} {keeps}"


def left_out(kept: Mapping[str, Any], owner: Any, twin: Any, prefix: str = "") -> Iterator[str]:
    """
    Names of attributes that are not kept, or not put back, unless the twin has the same.

    :param kept: what `pyrl_sb3.training.state` has captured of `owner`
    :param twin: one that is built anew
    """
    for name, value in getattr(owner, "__dict__", {}).items():
        there, within = getattr(twin, name, None), kept.get(name)
        same = value is there or (isinstance(value, str) and value == there)
        parts = within if isinstance(within, dict) else {}
        placeless = there is None and not parts.keys().isdisjoint(("$object", "$generator"))
        if not same and (name not in kept or placeless):
            yield prefix + name
        elif "$object" in parts:
            yield from left_out(parts["$object"], value, there, f"{prefix}{name}.")
