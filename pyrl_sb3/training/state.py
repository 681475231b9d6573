"""
The state of living objects as plain data, and back into objects of the same build.

Nothing is pickled and no class is looked up by name: numbers, arrays and generator states are put
into objects that the program has made itself, attribute by attribute.
"""

import random
import warnings
from collections import deque, namedtuple
from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from logging import Logger
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch as th

from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.misfits import misfit

Tree = Any  # what JSON holds, with arrays as leaves

MAKES_WAY = "where there is an earlier one, deleting that folder makes way for it"

_NOTHING = object()  # stands for what cannot be captured
_PLAIN = (bool, int, float, str, type(None))
_GENERATORS = (np.random.Generator, np.random.RandomState, th.Generator, random.Random)
_SHARED = (Enum, Logger)  # one for all who name it
# What is code, or is kept in other ways, whatever else is descended into.
_OPAQUE = (type, FunctionType, MethodType, ModuleType, th.nn.Module, th.optim.Optimizer, th.Tensor)


class Stateful:
    """What derives from it is captured, by attribute, with the callback that holds it."""


class StateError(InputError):
    """Captured state does not fit the object it is to be put into."""


class _NoPlaceError(StateError):
    """There is no object that the state could be put into."""


def capture(value: Any, into: tuple[type, ...] = ()) -> Tree:
    """
    Capture numbers, text, arrays, random generators and containers of these.

    Args:
        value: what to capture.
        into: classes whose instances are captured by attribute. Attributes that hold something
            else, and text, which is configuration rather than state, are left out.

    Raises:
        StateError: `value` itself is something else.
    """
    tree = _Capture(into, frozenset()).tree(value)
    if tree is _NOTHING:
        raise StateError(f"a {type(value).__name__} has no state that can be captured")
    return tree


def capture_attributes(
    owner: Any, into: tuple[type, ...] = (), skip: Collection[str] = ()
) -> dict[str, Tree]:
    """Capture an object by attribute, but for those in `skip`; otherwise as `capture`."""
    return _Capture(into, frozenset(skip)).attributes(owner)


class _Capture:
    def __init__(self, into: tuple[type, ...], skip: frozenset[str]) -> None:
        self.into = into
        self.skip = skip
        self.seen: dict[int, None] = {}  # ids, in the order they were met

    def tree(self, value: Any) -> Tree:
        if isinstance(value, (np.ndarray, np.generic)):
            return _NOTHING if value.dtype.hasobject or isinstance(value, np.void) else value
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, (list, tuple, deque)):
            return self._sequence(value)
        if isinstance(value, (set, frozenset)):
            items = [_constant(item) for item in value]
            kind = "$set" if isinstance(value, set) else "$frozenset"
            return _NOTHING if _lacking(items) else {kind: items}
        if isinstance(value, dict):
            pairs = [[_constant(key), self.tree(each)] for key, each in value.items()]
            return _NOTHING if any(map(_lacking, pairs)) else {"$dict": pairs}
        if (state := _generator_state(value)) is not None:
            return {"$generator": self.tree(state)}
        return self._object(value)

    def _sequence(self, value: Iterable[Any]) -> Tree:
        items = [self.tree(item) for item in value]
        if _lacking(items):
            return _NOTHING
        if isinstance(value, deque):
            return {"$deque": items, "maxlen": value.maxlen}
        if isinstance(value, tuple):
            names = getattr(value, "_fields", None)
            return {"$tuple": items} if names is None else {"$tuple": items, "fields": list(names)}
        return items

    def _object(self, value: Any) -> Tree:
        opaque = isinstance(value, (*_OPAQUE, *_SHARED)) or not isinstance(value, self.into)
        if opaque or not hasattr(value, "__dict__"):  # there is no way into an iterator, say
            return _NOTHING
        if id(value) in self.seen:
            return {"$same": None}  # captured where it was met first
        return {"$object": self.attributes(value)}

    def attributes(self, owner: Any) -> dict[str, Tree]:
        self.seen[id(owner)] = None
        found = {}
        for name, value in vars(owner).items():
            met_before = len(self.seen)
            if name not in self.skip and not isinstance(value, str):
                found[name] = self.tree(value)
            if found.get(name) is _NOTHING:
                del found[name]
                while len(self.seen) > met_before:  # what was met in it is captured elsewhere
                    self.seen.popitem()
        return found


def _lacking(items: Iterable[Tree]) -> bool:
    return any(item is _NOTHING for item in items)


def _constant(value: Any) -> Tree:
    """A key, or a member of a set: what is put back into an object of the program has none."""
    return _NOTHING if isinstance(value, _GENERATORS) else _Capture((), frozenset()).tree(value)


def _generator_state(value: Any) -> Any:
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, np.random.RandomState):
        return value.get_state(legacy=False)
    if isinstance(value, th.Generator):
        return value.get_state().numpy()
    if isinstance(value, random.Random):
        return value.getstate()
    return None


def restore(tree: Tree, old: Any) -> Any:
    """
    Return what was captured.

    Args:
        tree: from `capture`.
        old: what is there now. Objects, generators and dicts are changed in place and returned.

    Raises:
        StateError: `old` is of another build.
    """
    if isinstance(tree, list):
        return _restore_items(tree, old)
    if not isinstance(tree, dict):
        return tree
    match tree:
        case {"$tuple": items}:
            return _restore_tuple(_restore_items(items, old), tree.get("fields"), old)
        case {"$set": items}:
            return set(_restore_items(items, None))
        case {"$frozenset": items}:
            return frozenset(_restore_items(items, None))
        case {"$deque": items, "maxlen": maxlen}:
            return deque(_restore_items(items, old), maxlen)
        case {"$dict": pairs}:
            return _restore_dict(pairs, old)
        case {"$generator": state}:
            return _restore_generator(restore(state, None), old)
        case {"$object": attributes} | {"$same": attributes}:
            # Older ones captured what has no attributes, too, and what others share.
            if old is None or (attributes and not isinstance(old, _SHARED)):
                restore_attributes(attributes or {}, old)
            return old
    raise StateError(f"unknown kind of state: {', '.join(map(str, tree))}")


def restore_attributes(attributes: Mapping[str, Tree], owner: Any) -> None:
    """
    Put captured attributes into an object; raises what `restore` raises.

    Those that its class names in `not_restored` stay as the object was built with. So do, with a
    warning, those that hold objects or generators for which there is no place in it yet.
    """
    if not hasattr(owner, "__dict__"):
        kind = _NoPlaceError if owner is None else StateError
        raise kind(f"{type(owner).__name__} is not what was captured")
    built = getattr(type(owner), "not_restored", ())
    for name, tree in attributes.items():
        if name in built:
            continue
        where = f"{type(owner).__name__}.{name}"
        try:
            there = vars(owner).get(name)
            value = restore(tree, there)
            if wrong := misfit(value, there, type(owner), name):
                raise StateError(wrong)
            vars(owner)[name] = value
        except _NoPlaceError:
            warnings.warn(f"{where} stays as it was built: nothing there takes state", stacklevel=2)
        except StateError as error:
            raise StateError(f"{where}: {error}") from error


def _restore_items(items: list[Tree], old: Any) -> list[Any]:
    olds = list(old) if isinstance(old, (list, tuple, deque)) and len(old) == len(items) else None
    return [restore(item, olds[i] if olds else None) for i, item in enumerate(items)]


def _restore_tuple(items: list[Any], names: list[str] | None, old: Any) -> tuple[Any, ...]:
    """A named tuple is of the class of that which is there, where it has the same names."""
    there = list(getattr(old, "_fields", ()))
    if there and names in (None, there) and len(items) == len(there):  # older ones know no names
        named: tuple[Any, ...] = type(old)._make(items)
        return named
    if names is None:
        return tuple(items)
    like_it = namedtuple("Restored", names, rename=True)  # type: ignore[misc]  # not literal
    return like_it._make(items)


def _restore_dict(pairs: list[Any], old: Any) -> dict[Any, Any]:
    known = old if isinstance(old, dict) else {}
    keyed = [(restore(key, None), tree) for key, tree in pairs]
    new = {key: restore(tree, known.get(key)) for key, tree in keyed}
    # In place, since it may be a defaultdict, or shared.
    known.clear()
    known.update(new)
    return known


def _restore_generator(state: Any, old: Any) -> Any:
    if not isinstance(old, _GENERATORS):
        kind = _NoPlaceError if old is None else StateError
        raise kind(f"no generator to put a state into, but {type(old).__name__}")
    try:
        if isinstance(old, np.random.Generator):
            old.bit_generator.state = state
        elif isinstance(old, np.random.RandomState):
            old.set_state(state)
        elif isinstance(old, th.Generator):
            old.set_state(th.from_numpy(np.array(state)))
        else:
            old.setstate(state)
    except (TypeError, KeyError, ValueError, RuntimeError) as error:
        raise StateError(f"not a state for {type(old).__name__}: {error}") from error
    return old
