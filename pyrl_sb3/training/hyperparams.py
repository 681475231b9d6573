"""The default hyperparameters of an agent, read from the package's YAML files."""

from importlib.resources import files
from typing import Any

import yaml


def hyperparameters_file(agent: str) -> dict[str, dict[str, Any]]:
    """Return the entries of an agent's file by environment id."""
    path = files("pyrl_sb3") / "hyperparams" / f"{agent}.yml"
    entries: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return entries


def hyperparameters(agent: str, env_id: str) -> tuple[dict[str, Any], str]:
    """
    Return the hyperparameters for an environment, and the entry they come from.

    Args:
        agent: name of the file, such as `her-sac`.
        env_id: an environment's id; one without an entry of its own takes `default`.
    """
    entries = hyperparameters_file(agent)
    entry = env_id if env_id in entries else "default"
    return entries[entry], entry
