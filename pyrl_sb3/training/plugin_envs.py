"""Environments of plugins, and of the package itself, under names like Gymnasium's."""

import re

from gymnasium.envs.registration import EnvSpec

from pyrl_sb3.plugins import Found, UnknownComponentError, environment_spec, get_plugin_manager
from pyrl_sb3.plugins.build import environment_id

_VERSION = "-v0"


def plugin_spec(env_id: str) -> EnvSpec | None:
    """
    Return the specification of a plugin's environment; None where no plugin has it.

    Args:
        env_id: `BitFlipping-v0`, `bit-flipping` or `pyrl/bit-flipping`, all of which mean the same,
            each with `-v0` or without.

    Raises:
        PluginError: several plugins have one of that name.
    """
    try:
        return environment_spec(get_plugin_manager(), plugin_environment(env_id).name)
    except UnknownComponentError:
        return None


def plugin_environment(env_id: str) -> Found:
    """Return the environment of that id, see `plugin_spec`; raise PluginError without one."""
    namespace, slash, name = env_id.removesuffix(_VERSION).rpartition("/")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
    return get_plugin_manager().find("environment", f"{namespace}{slash}{words}")


def plugin_ids() -> list[str]:
    """Return the ids of all environments of plugins."""
    return sorted(map(environment_id, get_plugin_manager().found("environment").values()))
