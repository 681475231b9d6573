"""What the registry says of the algorithm that an entry is for."""

from typing import Any

from pyrl_sb3.config.components import defaults_of, load_class, registered
from pyrl_sb3.config.errors import ConfigError
from pyrl_sb3.errors import did_you_mean, short
from pyrl_sb3.plugins import AlgorithmSpec, PolicySpec, UnknownComponentError, get_plugin_manager
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


def algorithm_spec(name: str) -> AlgorithmSpec:
    """What the registry says of that algorithm; raises UnknownComponentError when there is none."""
    spec = get_plugin_manager().find("algorithm", _registered(name)).spec
    assert isinstance(spec, AlgorithmSpec)
    return spec


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
    spec = algorithm_spec(algorithm)
    if spec.policy is None:
        return policy_names(algorithm_class(algorithm))[policy]
    return get_plugin_manager().load("policy", spec.policy)


def policy_chosen(algorithm: str, policy: Any, *, trust: bool = False) -> Any:
    """
    The policy that a config names: its class; None and `policy_names` as they are.

    :param algorithm: As in `policy_meant`.
    :raises ConfigError: there is no such policy, or it is not for this algorithm.
    :raises PluginError: no plugin provides it, or it cannot be imported.
    """
    cls = algorithm_class(algorithm)
    aliases = policy_names(cls)
    if policy is None or (isinstance(policy, str) and policy in aliases):
        return policy
    try:
        if registered(policy):
            _check_policy(algorithm, policy)
        return load_class("policy", policy, trust=trust)
    except UnknownComponentError:
        if "/" in policy:
            raise
        message = f"no policy {short(policy)}; {cls.__name__} has {', '.join(aliases)}"
        raise ConfigError(f"{message}{did_you_mean(policy, aliases)}") from None


def _check_policy(algorithm: str, policy: str) -> None:
    """Check that it is for this algorithm, by what either's spec says of the other."""
    manager = get_plugin_manager()
    found = manager.find("policy", policy)
    learner = manager.find("algorithm", _registered(algorithm))
    assert isinstance(found.spec, PolicySpec)
    assert isinstance(learner.spec, AlgorithmSpec)
    meant, names = found.spec.algorithms, {algorithm, learner.name, *learner.spec.names}
    if meant and not meant & names and learner.spec.policy not in (found.name, *found.spec.names):
        raise ConfigError(f"{found.name!r} is for {' or '.join(sorted(meant))}, not {algorithm}")


def policy_called(algorithm: str, policy: Any) -> Any:
    """
    What the policy that runs train is called: as in a config, or by the algorithm's spec.

    :param algorithm: As in `policy_meant`.
    :param policy: As a config has it; None and `policy_names` stand for what the spec has.
    """
    unnamed = policy is None or policy in policy_names(algorithm_class(algorithm))
    return algorithm_spec(algorithm).policy if unnamed else policy


def policy_arguments(algorithm: str, policy: Any, given: Any) -> Any:
    """
    The keyword arguments of a policy: what its plugin passes, and what a config says.

    :param algorithm: As in `policy_meant`.
    :param policy: As in `policy_called`.
    :param given: Of the config; where it has none, the algorithm's defaults stay.
    :return: `given` itself where the policy has no defaults.
    """
    defaults = defaults_of("policy", policy_called(algorithm, policy))
    own = algorithm_spec(algorithm).defaults.get("policy_kwargs") if given is None else given
    return {**defaults, **(own or {})} if defaults else given
