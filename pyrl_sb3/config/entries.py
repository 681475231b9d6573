"""Which entry of a config is that of an environment."""

from collections.abc import Mapping
from typing import Any

from pyrl_sb3.config.documents import Document
from pyrl_sb3.config.errors import ConfigError
from pyrl_sb3.errors import did_you_mean

WITH_DEMONSTRATIONS = " with demonstrations"
"""After an environment's name: its entry for trainings that have demonstrations."""


def choose_entry(
    document: Document, env_id: str, demonstrated: bool = False
) -> tuple[str, Mapping[str, Any]]:
    """
    The entry of an environment: its own, else ``atari`` for an Atari game, else ``default``.

    A file that has ``n_timesteps`` in the place of entries, as the zoo writes into a run's folder,
    is one entry without a name.

    :param demonstrated: Prefer that for trainings with demonstrations.
    :raises ConfigError: when there is none, or the file is no mapping of entries.
    """
    entries = document.data
    if not isinstance(entries, dict) or not all(isinstance(key, str) for key in entries):
        raise ConfigError(f"{document.name}: must map environments to their settings")
    candidates = [env_id, "atari", "default"] if _is_atari(env_id) else [env_id, "default"]
    if demonstrated:
        candidates.insert(0, env_id + WITH_DEMONSTRATIONS)
    entry = next((name for name in candidates if name in entries), None)
    if entry is None and "n_timesteps" in entries:
        return "", entries
    if entry is None:
        advice = did_you_mean(env_id, entries)
        raise ConfigError(f"{document.name}: no entry {env_id!r} and no `default`{advice}")
    if not isinstance(entries[entry], dict):
        raise ConfigError(f"{document.where([entry])}: must map settings to values")
    return entry, entries[entry]


def _is_atari(env_id: str) -> bool:
    import gymnasium  # which commands that read no config need not wait for

    spec = gymnasium.registry.get(env_id)
    return env_id.startswith("ALE/") or (spec is not None and "AtariEnv" in str(spec.entry_point))
