"""Environments of plugins, and of the package itself, under names like Gymnasium's."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyrl_sb3.plugins.build import environment_id, unchecked_spec
from pyrl_sb3.plugins.errors import ComponentParameterError, UnknownComponentError
from pyrl_sb3.plugins.lookup import Found
from pyrl_sb3.plugins.manager import get_plugin_manager
from pyrl_sb3.plugins.types import EnvironmentSpec

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

_VERSION = "-v0"
_OF_MAKE = {"max_episode_steps", "disable_env_checker"}  # arguments of gymnasium.make itself


def plugin_spec(env_id: str) -> "EnvSpec | None":
    """
    Return the specification of a plugin's environment, with the plugin's own arguments; None where
    no plugin has it.

    Args:
        env_id: `BitFlipping-v0`, `bit-flipping` or `pyrl/bit-flipping`, all of which mean the same,
            each with `-v0` or without.

    Raises:
        PluginError: several plugins have one of that name.
    """
    try:
        found = plugin_environment(env_id)
    except UnknownComponentError:
        return None
    assert isinstance(found.spec, EnvironmentSpec)
    return unchecked_spec(found, found.spec.kwargs)


def check_arguments(env_id: str, env_kwargs: Mapping[str, Any]) -> None:
    """
    Check that a plugin's environment takes the arguments, and lacks none.

    Raises:
        ComponentParameterError: it does not.
        ComponentLoadError: it cannot be imported.
    """
    found = plugin_environment(env_id)
    assert isinstance(found.spec, EnvironmentSpec)
    others = {*found.spec.supplied, *_OF_MAKE}
    ours = {name: value for name, value in env_kwargs.items() if name not in others}
    try:
        get_plugin_manager().check_params("environment", found.name, {**found.spec.kwargs, **ours})
    except ComponentParameterError as error:
        advice = "env_kwargs gives it its parameters, as in --set env_kwargs.NAME=VALUE"
        raise ComponentParameterError(f"{error}; {advice}") from error


def plugin_environment(env_id: str) -> Found:
    """Return the environment of that id, see `plugin_spec`; raise PluginError without one."""
    namespace, slash, name = env_id.removesuffix(_VERSION).rpartition("/")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
    return get_plugin_manager().find("environment", f"{namespace}{slash}{words}")


def plugin_ids() -> list[str]:
    """Return the ids of all environments of plugins."""
    return sorted(map(environment_id, get_plugin_manager().found("environment").values()))
