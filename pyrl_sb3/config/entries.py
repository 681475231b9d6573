"""Which entry of a config is that of an environment."""

from collections.abc import Iterable, Mapping
from typing import Any

from pyrl_sb3.config.documents import Document
from pyrl_sb3.config.errors import ConfigError
from pyrl_sb3.errors import did_you_mean
from pyrl_sb3.plugins.build import environment_id
from pyrl_sb3.plugins.environments import plugin_environment
from pyrl_sb3.plugins.errors import PluginError

WITH_DEMONSTRATIONS = " with demonstrations"
"""After an environment's name: its entry for trainings that have demonstrations."""


def choose_entry(
    document: Document, env_id: str, demonstrated: bool = False
) -> tuple[str, Mapping[str, Any]]:
    """
    The entry of an environment: its own, by its id or another of its names, else ``atari`` for an
    Atari game, else ``default``.

    A file that has ``n_timesteps`` in the place of entries, as the zoo writes into a run's folder,
    is one entry without a name.

    :param demonstrated: Prefer that for trainings with demonstrations.
    :raises ConfigError: when there is none, or the file is no mapping of entries.
    """
    entries = document.data
    if not isinstance(entries, dict) or not all(isinstance(key, str) for key in entries):
        raise ConfigError(f"{document.name}: must map environments to their settings")
    own = _own(entries, env_id)
    if demonstrated:
        own = _own(entries, env_id, WITH_DEMONSTRATIONS) or own
    others = ("atari", "default") if _is_atari(env_id) else ("default",)
    entry = own or next((name for name in others if name in entries), None)
    if entry is None and "n_timesteps" in entries:
        return "", entries
    if entry is None:
        advice = did_you_mean(env_id, entries)
        raise ConfigError(f"{document.name}: no entry {env_id!r} and no `default`{advice}")
    if not isinstance(entries[entry], dict):
        raise ConfigError(f"{document.where([entry])}: must map settings to values")
    return entry, entries[entry]


def _own(entries: Iterable[str], env_id: str, ending: str = "") -> str | None:
    """The entry of an environment by its id, or else by another name that commands take for it."""
    names = {key.removesuffix(ending): key for key in entries if key.endswith(ending)}
    called = (key for name, key in names.items() if _is_called(env_id, name))
    return names.get(env_id) or next(called, None)


def _is_called(env_id: str, name: str) -> bool:
    import gymnasium

    if env_id in gymnasium.registry or name in gymnasium.registry or ":" in name:
        return False
    try:
        return environment_id(plugin_environment(name)) == env_id
    except PluginError:  # of that name there is none, or several
        return False


def _is_atari(env_id: str) -> bool:
    import gymnasium  # which commands that read no config need not wait for

    spec = gymnasium.registry.get(env_id)
    return env_id.startswith("ALE/") or (spec is not None and "AtariEnv" in str(spec.entry_point))
