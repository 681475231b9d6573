"""What the fields of components may hold. Each check raises ValueError, in one line."""

import re
from collections.abc import Mapping, Set
from typing import Any

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def is_name(name: object) -> bool:
    """Whether it is lower-case words joined by hyphens."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def is_path(target: str) -> bool:
    """Whether it reads ``package.module:Attribute``."""
    return _PATH.fullmatch(target) is not None


def check_names(name: object, aliases: object) -> None:
    """Names of a component."""
    if not isinstance(aliases, (tuple, list)):
        raise ValueError(f"aliases must be a tuple of names, not {aliases!r}")
    for each in (name, *aliases):
        if not is_name(each):
            raise ValueError(f"name {each!r} is not lower-case words joined by hyphens")


def check_target(target: object) -> None:
    """A path or something to call."""
    if isinstance(target, str):
        if not is_path(target):
            raise ValueError(f"target {target!r} does not read 'package.module:Attribute'")
    elif not callable(target):
        raise ValueError(f"target {target!r} is neither a string nor callable")


def check_line(field: str, text: object) -> None:
    """Text that a table can hold."""
    if not isinstance(text, str) or _CONTROL.search(text):
        raise ValueError(f"{field} must be one line of text, not {text!r}")


def check_bool(field: str, value: object) -> None:
    """True or False, since any text would be true."""
    if not isinstance(value, bool):
        raise ValueError(f"{field} must be True or False, not {value!r}")


def check_keywords(field: str, value: Any) -> None:
    """Arguments by name."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{field} must be a dictionary by parameter, not {value!r}")


def check_words(field: str, words: Any, known: Set[str] | None = None) -> None:
    """A set of words, of those that are `known` unless any will do."""
    fits = isinstance(words, Set) and all(isinstance(word, str) for word in words)
    if not (fits and (known is None or words <= known)):
        wanted = "words" if known is None else ", ".join(sorted(known))
        raise ValueError(f"{field} {words!r} is not a set of {wanted}")
