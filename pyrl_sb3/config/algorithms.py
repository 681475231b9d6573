"""What the registry says of the algorithm that an entry is for."""

from collections.abc import Mapping
from typing import Any

from pyrl_sb3.config.components import defaults_of
from pyrl_sb3.config.errors import ConfigError
from pyrl_sb3.plugins import AlgorithmSpec, UnknownComponentError, get_plugin_manager
from pyrl_sb3.plugins.lookup import BUILTIN


def algorithm_class(name: str) -> Any:
    """
    The algorithm of that name, with or without ``her-`` before it.

    :raises ConfigError: when there is none.
    """
    try:
        return get_plugin_manager().load("algorithm", _registered(name))
    except UnknownComponentError as error:
        raise ConfigError(str(error)) from None


def _registered(name: str) -> str:
    """The name to look up: entries for `sac` are for ours, whoever else has one of that name."""
    bare = name.removeprefix("her-")
    ours = f"{BUILTIN}/{bare}"
    return ours if ours in get_plugin_manager().found("algorithm") else bare


def policy_names(cls: Any) -> dict[str, Any]:
    """The names of policies; CrossQ has one of them, and a policy here that is all three."""
    mlp = cls.policy_aliases["MlpPolicy"]
    return {
        **dict.fromkeys(("MlpPolicy", "CnnPolicy", "MultiInputPolicy"), mlp),
        **cls.policy_aliases,
    }


def policy_meant(algorithm: str, policy: Any) -> Any:
    """
    The class of a policy that runs train: for one of `policy_names`, what the algorithm's spec has.

    :param algorithm: The algorithm's name, with or without ``her-`` before it.
    :param policy: A name, or a class, which is returned.
    """
    if not isinstance(policy, str):
        return policy
    manager = get_plugin_manager()
    spec = manager.find("algorithm", _registered(algorithm)).spec
    assert isinstance(spec, AlgorithmSpec)
    if spec.policy is None:
        return policy_names(algorithm_class(algorithm))[policy]
    return manager.load("policy", spec.policy)


def policy_defaults(algorithm: str, policy: Any) -> Mapping[str, Any]:
    """
    What the plugin of a policy passes unless somebody sets it.

    :param algorithm: As in `policy_meant`.
    :param policy: As a config has it; None and `policy_names` stand for what the spec has.
    """
    if policy is None or policy in policy_names(algorithm_class(algorithm)):
        spec = get_plugin_manager().find("algorithm", _registered(algorithm)).spec
        assert isinstance(spec, AlgorithmSpec)
        policy = spec.policy
    return defaults_of("policy", policy)
