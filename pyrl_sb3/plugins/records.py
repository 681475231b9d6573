"""The components of a model: what they are in memory, and what its file says they were."""

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from functools import cache
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from pyrl_sb3.plugins.errors import PluginError
from pyrl_sb3.plugins.lookup import qualified_name
from pyrl_sb3.plugins.manager import get_plugin_manager

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

MEMBER = "pyrl_components.json"
# Bytes it may have; a model's takes some hundred.
_MOST = 2**20

Record = dict[str, Any]


def components_of(model: "BaseAlgorithm") -> list[Record]:
    """Kind, class and distribution of everything in `model` that a plugin may have brought."""
    noise = getattr(model, "action_noise", None)
    noise = getattr(noise, "base_noise", noise)
    extractor = model.policy_kwargs.get("features_extractor_class")
    classes = {
        "algorithm": type(model),
        "policy": model.policy_class,
        "features-extractor": extractor,
        "replay-buffer": getattr(model, "replay_buffer_class", None),
        "noise": type(noise) if noise is not None else None,
    }
    return [_record(kind, cls) for kind, cls in classes.items() if cls is not None]


def _record(kind: str, cls: type) -> Record:
    distribution, version = _source(cls.__module__.split(".")[0])
    return {
        "kind": kind,
        "name": None,
        "params": {},
        "target": qualified_name(cls),
        "distribution": distribution,
        "version": version,
    }


def _source(package: str) -> tuple[str | None, str | None]:
    """Distribution and version of a package; a plugin knows its own, others are looked up."""
    if package == "pyrl_sb3":
        return "pyrl-sb3", import_module("pyrl_sb3").__version__
    manager = get_plugin_manager()
    manager.scan()
    for plugin in manager.plugins.values():
        if plugin.distribution and plugin.package == package:
            return plugin.distribution, plugin.version
    names = _distributions().get(package, [])
    return (names[0], metadata.version(names[0])) if names else (None, None)


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Package -> distributions; reads the list of files of everything installed."""
    return metadata.packages_distributions()


def stored_records(path: str | os.PathLike[str]) -> list[Record]:
    """
    The components that a saved model names; none for SB3's own. The file may be anybody's.

    :raises PluginError: when its list of components is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if MEMBER not in archive.namelist():
                return []
            with archive.open(MEMBER) as member:
                content = member.read(_MOST + 1)
        records = json.loads(content) if len(content) <= _MOST else None
    except (zipfile.BadZipFile, ValueError, OverflowError, RuntimeError, EOFError, zlib.error):
        records = None
    if not (isinstance(records, list) and all(is_record(record) for record in records)):
        raise PluginError(f"{path} is damaged: {MEMBER} in it is no list of components")
    return records


def is_record(record: Any) -> bool:
    """Whether what a file holds is the record of a component."""
    words = ("kind", "target", "distribution", "version", "name")
    return (
        isinstance(record, dict)
        and all(isinstance(record.get(word), (str, type(None))) for word in words)
        and bool(record.get("kind") and record.get("target"))
    )
