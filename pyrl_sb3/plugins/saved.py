"""
Saved models that name their components, so that a model whose plugin is missing says what to
install. SB3's zip gets one more member, which SB3 itself ignores.
"""

import json
import os
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal

from pyrl_sb3.plugins.build import make_noise
from pyrl_sb3.plugins.contexts import NoiseContext
from pyrl_sb3.plugins.errors import MissingPluginError, PluginError, install_command, named
from pyrl_sb3.plugins.manager import get_plugin_manager
from pyrl_sb3.plugins.moved import exists, is_registered, load_registered, moved_networks
from pyrl_sb3.plugins.records import MEMBER, Record, components_of, stored_records
from pyrl_sb3.plugins.types import SPECS

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

# What acting can do without, and the attribute that custom_objects replaces.
_DISPENSABLE = {"noise": "action_noise", "replay-buffer": "replay_buffer_class"}


def save(
    model: "BaseAlgorithm",
    path: str | os.PathLike[str],
    uses: Iterable[Record] = (),
    exclude: Iterable[str] = (),
) -> Path:
    """
    Save `model` as ``model.save`` does, with its components named.

    :param path: ``.zip`` is added where there is no suffix.
    :param uses: What the components were called when the model was made: ``Found.record(params)``.
    :param exclude: As of ``model.save``.
    :return: Where the model is.
    """
    path = Path(path)
    path = path if path.suffix else path.with_suffix(".zip")
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {use["kind"]: use for use in uses}
    records = components_of(model)
    for record in records:
        if use := named.get(record["kind"]):
            record |= {"name": use["name"], "params": use["params"]}
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)  # in a stranger's folder it may be a link to elsewhere
    with temporary.open("w+b") as file:
        model.save(file, exclude=exclude)
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

    :param path: The file; ``.zip`` may be left out.
    :param env: As in SB3's ``load``; what is not listed here goes there too.
    :param missing: ``"drop"`` leaves out noise and replay buffer whose plugin is not installed,
        which is enough to act, not to go on training.
    :raises MissingPluginError: naming what to install.
    :raises PluginError: when the model does not name its components.
    """
    if isinstance(path, (str, os.PathLike)) and not os.path.exists(path):
        path = f"{os.fspath(path)}.zip"
    records = {record["kind"]: record for record in read_components(path)}
    moved, dropped, carried = _absent(path, records, missing)
    custom_objects = dict(kwargs.pop("custom_objects", None) or {})
    custom_objects |= {_DISPENSABLE[kind]: None for kind in dropped}
    if "replay-buffer" in dropped:
        custom_objects["replay_buffer_kwargs"] = {}
    custom_objects |= moved_networks(path, moved.values())
    if "replay-buffer" in moved:
        custom_objects["replay_buffer_class"] = load_registered(moved["replay-buffer"])
    if "noise" in moved:
        custom_objects["action_noise"] = None
    algorithm = (
        load_registered(moved["algorithm"])
        if "algorithm" in moved
        else resolve_name(records["algorithm"]["target"])
    )
    with _missing_where_not_carried(path, carried):
        model: BaseAlgorithm = algorithm.load(
            path, env=env, custom_objects=custom_objects, **kwargs
        )
    if "noise" in moved:
        _rebuild_noise(model, moved["noise"])
    return model


def _absent(
    path: str | os.PathLike[str], records: Mapping[str, Record], missing: str
) -> tuple[dict[str, Record], set[str], list[Record]]:
    """
    Of what is not where it was: what its name still stands for, by kind; the kinds that acting does
    without; and what the file itself may carry, as it does the classes of scripts.
    """
    moved, dropped, carried = {}, set(), []
    for kind, record in records.items():
        if exists(record):
            continue
        if is_registered(record):
            moved[kind] = record
        elif missing == "drop" and kind in _DISPENSABLE:
            dropped.add(kind)
        elif not record.get("distribution") and kind != "algorithm":
            carried.append(record)
        else:
            rest = '; to act without it: missing="drop"' if kind in _DISPENSABLE else ""
            raise MissingPluginError(_missing(path, record, rest))
    return moved, dropped, carried


@contextmanager
def _missing_where_not_carried(
    path: str | os.PathLike[str], carried: Sequence[Record]
) -> Iterator[None]:
    """Raise MissingPluginError where the file does not hold a class that is in no package."""
    if not carried:
        yield
        return
    try:
        with warnings.catch_warnings():
            # SB3 leaves out what it cannot read.
            unread = "Could not deserialize object (policy|action_noise|replay)"
            warnings.filterwarnings("error", unread)
            yield
    except (ImportError, UserWarning) as error:
        # Anything else in the file may lack its module as well.
        raise MissingPluginError(f"{_missing(path, carried[0])}: {named(error)}") from error


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
    Look for what a saved model names, before any of it is loaded or imported.

    :return: A line for each missing component that acting can do without; SB3's own models name
        nothing.
    :raises MissingPluginError: naming what to install, where acting needs it.
    :raises PluginError: when its list of components is none.
    """
    dispensable = []
    get_plugin_manager().scan()  # what `-p` names is found only where that has been imported
    for record in stored_records(path):
        if _may_exist(record):
            continue
        if record["kind"] not in _DISPENSABLE:
            raise MissingPluginError(_missing(path, record))
        line = f"{_what(record)} is not installed; acting does without it"
        if record.get("distribution"):
            line += f" ({install_command(record['distribution'], record.get('version'))})"
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
    if not is_registered(record):
        raise MissingPluginError(_missing(where, record))


def _may_exist(record: Record) -> bool:
    """Whether its package is installed: to look further would run code that the file names."""
    package = record["target"].partition(":")[0].partition(".")[0]
    try:
        # Those of scripts, and of configs in Python, are in the file.
        return package in ("__main__", "<run_path>") or find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _rebuild_noise(model: Any, record: Mapping[str, Any]) -> None:
    from numpy.random import default_rng

    context = NoiseContext(
        action_space=model.action_space, n_envs=model.n_envs, rng=default_rng(model.seed)
    )
    manager = get_plugin_manager()
    model.action_noise = make_noise(manager, record["name"], record["params"], context)


def _what(record: Mapping[str, Any]) -> str:
    return f"{record['kind']} {record.get('name') or record['target']!r}"


def _missing(path: str | os.PathLike[str], record: Mapping[str, Any], rest: str = "") -> str:
    what = _what(record)
    if not record.get("distribution"):
        return f"{path} needs {what}, which cannot be imported here and is in no package"
    install = install_command(record["distribution"], record.get("version"))
    return f"{path} needs {what}, which is not installed: {install}{rest}"
