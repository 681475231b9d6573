"""What a plugin must fulfil before its components are taken."""

import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

import pluggy

from pyrl_sb3.errors import did_you_mean
from pyrl_sb3.plugins.component import Component
from pyrl_sb3.plugins.errors import text_of
from pyrl_sb3.plugins.lookup import qualified_name
from pyrl_sb3.plugins.types import API_VERSION, MIN_API, SPECS


def check_api(plugin: object) -> None:
    """
    Compare the plugin's ``PYRL_PLUGIN_API`` (1 where absent) with what this version offers.

    :raises ValueError: when it is out of range.
    """
    wanted = getattr(plugin, "PYRL_PLUGIN_API", 1)
    if type(wanted) is not int or not MIN_API <= wanted <= API_VERSION:
        offered = f"{MIN_API} to {API_VERSION}" if MIN_API < API_VERSION else f"{API_VERSION}"
        version = import_module("pyrl_sb3").__version__
        raise ValueError(f"it is written for API {wanted!r}; pyrl-sb3 {version} offers {offered}")


def check_hooks(
    manager: pluggy.PluginManager, plugin: object, before: Mapping[str, Any] | None
) -> None:
    """
    Check the hooks a registered plugin implements.

    Pluggy takes a misspelt hook for one that somebody may yet specify.

    :param before: What `environments` gave before the plugin was imported; None where that was
        earlier.
    :raises TypeError: when it implements none and registers no environment, has one without its
        mark, or wraps one.
    :raises ValueError: when it implements one that does not exist.
    """
    callers = manager.get_hookcallers(plugin) or []
    known = [spec.hook for spec in SPECS.values()]
    unmarked = [hook for hook in known if _has_unmarked(plugin, hook, callers)]
    if not callers and (unmarked or not _registers_environments(plugin, before)):
        raise TypeError("it implements no hook; is @hookimpl missing?")
    if unmarked:
        raise TypeError(f"its {unmarked[0]} lacks @hookimpl")
    for caller in callers:
        for impl in caller.get_hookimpls():
            if impl.plugin is not plugin:
                continue
            if not caller.has_spec() and not impl.optionalhook:
                raise ValueError(f"unknown hook {caller.name!r}{did_you_mean(caller.name, known)}")
            if impl.wrapper or impl.hookwrapper:
                raise TypeError(f"{caller.name} is a hook wrapper; these hooks take none")


def _has_unmarked(plugin: object, hook: str, callers: Iterable[pluggy.HookCaller]) -> bool:
    """Whether a plugin itself has a function of a hook's name that is none."""
    # Neither what a module imports nor what a class inherits; and `__getattr__` is not asked.
    own = vars(plugin) if inspect.ismodule(plugin) else vars(type(plugin))
    found = own.get(hook)
    here = inspect.isfunction(found) and found.__module__ == own.get("__name__", found.__module__)
    return here and all(caller.name != hook for caller in callers)


def environments() -> dict[str, Any]:
    """What Gymnasium has by id so far; nothing where it is not imported."""
    gymnasium = sys.modules.get("gymnasium")
    return dict(gymnasium.registry) if gymnasium else {}


def _registers_environments(plugin: object, before: Mapping[str, Any] | None) -> bool:
    """Whether Gymnasium has others than before, or some of the plugin's package: found by id."""
    if before is None:
        return True
    now = environments()
    if before and any(before.get(name) is not spec for name, spec in now.items()):
        return True
    targets = [spec.entry_point for spec in now.values()]
    paths = (each if isinstance(each, str) else qualified_name(each) for each in targets)
    package = getattr(plugin, "__name__", "").partition(".")[0]
    return package in {re.split("[.:]", path, maxsplit=1)[0] for path in paths}


def item_problem(
    spec: type[Component], item: object, mine: Iterable[Component]
) -> TypeError | ValueError | None:
    """Why `item`, given by the hook of `spec` after `mine`, cannot be taken; None if it can."""
    if type(item) is not spec:
        what = text_of(item, repr)
        return TypeError(f"{spec.hook} gave {what}, which is no {spec.__name__}")
    taken = {name for other in mine for name in other.names} & set(item.names)
    return ValueError(f"{spec.hook} gave the name {min(taken)!r} twice") if taken else None
