"""
Saved models that name their components, so that a model whose plugin is missing says what to
install. SB3's zip gets one more member, which SB3 itself ignores.
"""

import json
import os
import zipfile
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal

from pyrl_sb3.plugins.build import make_noise
from pyrl_sb3.plugins.contexts import NoiseContext
from pyrl_sb3.plugins.errors import MissingPluginError, PluginError
from pyrl_sb3.plugins.manager import get_plugin_manager
from pyrl_sb3.plugins.records import MEMBER, Record, components_of, stored_records
from pyrl_sb3.plugins.types import SPECS

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

# The attribute that custom_objects replaces, and whether acting can do without.
_ATTRIBUTES = {
    "noise": ("action_noise", True),
    "replay-buffer": ("replay_buffer_class", True),
    "policy": ("policy_class", False),
}


def save(model: "BaseAlgorithm", path: str | os.PathLike[str], uses: Iterable[Record] = ()) -> Path:
    """
    Save `model` as ``model.save`` does, with its components named.

    :param path: ``.zip`` is added where there is no suffix.
    :param uses: What the components were called when the model was made: ``Found.record(params)``.
    :return: Where the model is.
    """
    path = Path(path)
    path = path if path.suffix else path.with_suffix(".zip")
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {use["kind"]: use for use in uses}
    records = [{**record, **_named(named.get(record["kind"]))} for record in components_of(model)]
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)  # in a stranger's folder it may be a link to elsewhere
    with temporary.open("w+b") as file:
        model.save(file)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(MEMBER, json.dumps(records, indent=1, default=repr))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return path


def load(
    path: str | os.PathLike[str],
    env: Any = None,
    *,
    missing: Literal["raise", "drop"] = "raise",
    **kwargs: Any,
) -> "BaseAlgorithm":
    """
    Load a model saved by `save`, whatever its algorithm.

    :param env: As in SB3's ``load``; what is not listed here goes there too.
    :param missing: ``"drop"`` leaves out noise and replay buffer whose plugin is not installed,
        which is enough to act, not to go on training.
    :raises MissingPluginError: naming what to install.
    :raises PluginError: when the model does not name its components.
    """
    records = {record["kind"]: record for record in read_components(path)}
    custom_objects = dict(kwargs.pop("custom_objects", None) or {})
    moved_noise = None
    for kind, record in records.items():
        if _exists(record):
            continue
        if kind in _ATTRIBUTES and _is_registered(record):
            # The class moved since; its name still stands for it.
            if kind == "noise":
                moved_noise, replacement = record, None
            else:
                replacement = get_plugin_manager().load(kind, record["name"])
            custom_objects[_ATTRIBUTES[kind][0]] = replacement
        elif missing == "drop" and _acts_without(kind):
            custom_objects[_ATTRIBUTES[kind][0]] = None
            if kind == "replay-buffer":
                custom_objects["replay_buffer_kwargs"] = {}
        else:
            rest = '; to act without it: missing="drop"' if _acts_without(kind) else ""
            raise MissingPluginError(_missing(path, record, rest))
    algorithm = resolve_name(records["algorithm"]["target"])
    model: BaseAlgorithm = algorithm.load(path, env=env, custom_objects=custom_objects, **kwargs)
    if moved_noise is not None:
        _rebuild_noise(model, moved_noise)
    return model


def read_components(path: str | os.PathLike[str]) -> list[Record]:
    """
    The components a saved model names.

    :raises PluginError: when it names none, or is damaged.
    """
    records = stored_records(path)
    if not records:
        raise PluginError(
            f"{path} does not name its components; load it with the class it was saved from"
        )
    return records


def check_for_acting(path: str | os.PathLike[str]) -> list[str]:
    """
    Look for what a saved model names, before any of it is loaded; nothing is imported.

    :return: A line for each missing component that acting can do without; SB3's own models name
        nothing.
    :raises MissingPluginError: naming what to install, where acting needs it.
    :raises PluginError: when its list of components is none.
    """
    dispensable = []
    for record in stored_records(path):
        if _may_exist(record):
            continue
        if not _acts_without(record["kind"]):
            raise MissingPluginError(_missing(path, record))
        line = f"{_what(record)} is not installed; acting does without it"
        if record.get("distribution"):
            line += f" (pip install {record['distribution']}=={record.get('version')})"
        dispensable.append(line)
    return dispensable


def check_registered(where: str | os.PathLike[str], record: Record) -> None:
    """
    Check that the registry has a component that a run or a model was made with.

    :param where: That was made with it.
    :raises MissingPluginError: naming what to install, where it came with a package; not where its
        plugin is there and was switched off or failed, which other messages tell.
    """
    manager = get_plugin_manager()
    out_of_use = {info.name for info in manager.disabled}
    out_of_use |= {failure.name for failure in manager.failures}
    plugin = str(record.get("name")).partition("/")[0]
    if record["kind"] not in SPECS or not record.get("distribution") or plugin in out_of_use:
        return
    if not _is_registered(record):
        raise MissingPluginError(_missing(where, record))


def _acts_without(kind: str) -> bool:
    return kind in _ATTRIBUTES and _ATTRIBUTES[kind][1]


def _may_exist(record: Record) -> bool:
    """Whether its package is installed: to look further would run code that the file names."""
    package = record["target"].partition(":")[0].partition(".")[0]
    try:
        return package == "__main__" or find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _named(use: Record | None) -> Record:
    return {key: use[key] for key in ("name", "params")} if use else {}


def _exists(record: Mapping[str, Any]) -> bool:
    try:
        resolve_name(record["target"])
    except (ImportError, AttributeError, ValueError):  # the last for a class within a function
        return False
    return True


def _is_registered(record: Mapping[str, Any]) -> bool:
    known = get_plugin_manager().components(record["kind"])
    return record["name"] in {found.name for found in known}


def _rebuild_noise(model: Any, record: Mapping[str, Any]) -> None:
    rng = import_module("numpy.random").default_rng(model.seed)
    context = NoiseContext(action_space=model.action_space, n_envs=model.n_envs, rng=rng)
    manager = get_plugin_manager()
    model.action_noise = make_noise(manager, record["name"], record["params"], context)


def _what(record: Mapping[str, Any]) -> str:
    return f"{record['kind']} {record.get('name') or record['target']!r}"


def _missing(path: str | os.PathLike[str], record: Mapping[str, Any], rest: str = "") -> str:
    what = _what(record)
    if not record.get("distribution"):
        return f"{path} needs {what}, which cannot be imported here and is in no package"
    package = f"{record['distribution']}=={record.get('version')}"
    return f"{path} needs {what}, which is not installed: pip install {package}{rest}"
