"""What `pyrl plugins` tells about plugins and components, as plain data."""

import inspect
from collections.abc import Iterable
from typing import Any

from pyrl_sb3.plugins.errors import ComponentLoadError, PluginFailure
from pyrl_sb3.plugins.lookup import Found, PluginInfo, load_target, plugin_name
from pyrl_sb3.plugins.manager import PluginManager
from pyrl_sb3.plugins.signature import parameters


def offers(manager: PluginManager, info: PluginInfo, kind: str | None) -> list[Found]:
    """The components of one plugin, all or those of one kind."""
    return [found for found in manager.components(kind) if found.plugin is info]


def all_names(found: Found) -> set[str | None]:
    """The names by which somebody may ask for a component, its plugin's included."""
    return {plugin_name(found), found.name, *found.spec.names}


def describe(found: Found) -> dict[str, Any]:
    """
    Everything about a component, the parameters one may give it and their defaults included; of one
    that cannot be imported, what the problem is.
    """
    try:
        target = load_target(found)
    except ComponentLoadError as error:
        return {**summarise(found), "problem": str(error)}
    known, _ = parameters(target, found.spec.leading)
    defaults = {name: parameter.default for name, parameter in known.items()}
    defaults |= found.spec.defaults
    return {
        **summarise(found),
        "parameters": {
            name: "required" if default is inspect.Parameter.empty else repr(default)
            for name, default in defaults.items()
            if name not in found.spec.supplied
        },
        # Not `getdoc`, which has that of SB3's class where there is none.
        "documentation": inspect.cleandoc(target.__doc__ or "").split("\n\n")[0],
    }


def summarise(found: Found) -> dict[str, Any]:
    """What a list says about a component."""
    record = found.record()
    del record["params"]
    return {**record, "summary": found.spec.summary, "aliases": list(found.spec.aliases)}


def overview(
    manager: PluginManager, shown: Iterable[PluginInfo], components: dict[str, list[Found]]
) -> dict[str, Any]:
    """All about the plugins, as JSON can hold it."""
    plugins = [
        {**vars(info), "components": [summarise(found) for found in components[info.name]]}
        for info in shown
    ]
    return {
        "plugins": plugins,
        "disabled": [info.name for info in manager.disabled],
        "failures": [report_failure(failure) for failure in manager.failures],
    }


def report_failure(failure: PluginFailure, *, traceback: bool = False) -> dict[str, str]:
    """A failure, as JSON can hold it."""
    report = {"plugin": failure.name, "stage": failure.stage, "message": str(failure)}
    return {**report, "traceback": failure.traceback} if traceback else report


def shadowed_names(manager: PluginManager) -> dict[str, list[str]]:
    """Kind and name -> the qualified names that share it."""
    owners: dict[str, list[str]] = {}
    for found in manager.components():
        for name in found.spec.names:
            owners.setdefault(f"{found.kind} {name}", []).append(found.name)
    return {name: all_of_them for name, all_of_them in owners.items() if len(all_of_them) > 1}
