"""What options and config of `pyrl NAME-train` say of synchronisation."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrl_sb3.cli.stated import request_of
from pyrl_sb3.plugins import get_plugin_manager
from pyrl_sb3.training.errors import InputError, begun_otherwise
from pyrl_sb3.training.folders import is_group

if TYPE_CHECKING:
    from pyrl_sb3.training.seeds import SeedGroup

_PARAMS = "sync.params."
_SHARED = {"share_replay": True}  # what --share-replay means


def _is_synchronised(folder: Path | None) -> bool:
    if folder is None or not is_group(folder):
        return False
    from pyrl_sb3.training.seeds import read_group  # takes seconds to load

    return read_group(folder).sync is not None


def _in_config(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the config that was given says of a `SyncPlan`; the package's own say nothing."""
    if "config" not in given or "env_id" not in given:
        return {}
    from pyrl_sb3.training.environments import env_spec
    from pyrl_sb3.training.hyperparams import experiment_of

    request = request_of(without_settings(given), env_id=env_spec(given["env_id"]).id)
    return dict(experiment_of(request).sync or {})


def wanted(
    name: str | None,
    every: int | None,
    share_replay: bool,
    given: Mapping[str, Any],
    resume: Path | None,
) -> dict[str, Any] | None:
    """
    Return what is asked for of a `SyncPlan`, `name` by `--sync`; None where nothing is to be
    synchronised.

    Raises:
        InputError: an option is of synchronisation, and nothing asks for that.
    """
    config = {} if resume else _in_config(given)
    if not (name or config or _is_synchronised(resume)):
        _refuse_without(every, share_replay, given)
        return None
    from pyrl_sb3.config.overrides import parse_override

    # With another name `--sync` takes the place of the config.
    if name not in (None, config.get("name")):
        config = {}
    params = dict(config.get("params", {}))
    for text in _settings(given):
        override = parse_override(text)
        if len(override.path) != len(_PARAMS.split(".")):
            raise InputError(f"--set {text}: parameters of strategies are {_PARAMS}NAME=VALUE")
        params[override.path[-1]] = override.value
    if share_replay:
        params |= _SHARED
    asked = {"name": name, "every": every, "params": params or None}
    return {**config, **{key: value for key, value in asked.items() if value is not None}}


def _settings(given: Mapping[str, Any]) -> list[str]:
    return [text for text in given.get("overrides", ()) if text.startswith(_PARAMS)]


def without_settings(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is said of a `TrainingRequest`, less the settings that are of the strategy."""
    rest = [each for each in given.get("overrides", ()) if not each.startswith(_PARAMS)]
    return {**given, "overrides": tuple(rest)} if "overrides" in given else given


def refuse_other_plan(group: "SeedGroup", asked: Mapping[str, Any]) -> None:
    """Raise InputError where what is asked for, as `wanted` returns it, is not the group's."""
    name, params = asked.get("name"), group.extra.get("sync_params", {})
    if name is not None:
        name = get_plugin_manager().find("sync-callback", name).name
    every, begun_every = asked.get("every"), group.extra.get("sync_every")
    said = [(f"--sync {name}", name, group.sync), (f"--sync-every {every}", every, begun_every)]
    for key, value in asked.get("params", {}).items():
        if {key: value} == _SHARED:
            said.append(("--share-replay", True, params.get(key) or None))
        else:
            said.append((f"--set {_PARAMS}{key}={value}", value, params.get(key)))
    for option, value, begun in said:
        if value is not None and value != begun:
            raise begun_otherwise(option, group.folder, begun)


def _refuse_without(every: int | None, share_replay: bool, given: Mapping[str, Any]) -> None:
    asked = {
        "--sync-every": every is not None,
        "--share-replay": share_replay,
        f"--set {_PARAMS}...": bool(_settings(given)),
    }
    for option, is_given in asked.items():
        if is_given:
            raise InputError(f"{option}: only with --sync NAME, such as --sync mean")
