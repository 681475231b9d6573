"""From a name and parameters to the object itself, where more is needed than a call."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pyrl_sb3.errors import short
from pyrl_sb3.plugins.contexts import NoiseContext
from pyrl_sb3.plugins.errors import ComponentParameterError, PluginError
from pyrl_sb3.plugins.lookup import BUILTIN, Found
from pyrl_sb3.plugins.manager import PluginManager
from pyrl_sb3.plugins.noise_in_short import is_noise, parse_noise
from pyrl_sb3.plugins.types import AlgorithmSpec, EnvironmentSpec, NoiseSpec, ReplayBufferSpec

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec
    from stable_baselines3.common.noise import ActionNoise


def noise_from_config(
    manager: PluginManager, config: str | Mapping[str, Any] | None, context: NoiseContext
) -> "ActionNoise | None":
    """
    The action noise that a config or the command line asks for; None for no noise.

    :param manager: where noises are looked up: `get_plugin_manager()`
    :param config: ``"ou_0.2"``, ``"pink"``, ``{"name": "pink", "params": {"sigma": 0.3}}``, or
        ``"none"``.
    :param context: What the noise is for.
    :raises PluginError: there is no such noise, or it does not take these parameters.
    """
    if config is None or config == "none":
        return None
    if isinstance(config, str):
        ref, params = parse_noise(manager, config)
    elif is_noise(config) and set(config) <= {"name", "params"}:
        ref, params = config["name"], config.get("params") or {}
        if not isinstance(params, Mapping):
            raise ComponentParameterError(
                f"noise {short(ref)}: params must be a mapping of names, not {short(params)}"
            )
    else:
        raise ComponentParameterError(
            f"noise {short(config)}: must be text such as 'ou_0.2', "
            "or {'name': 'ou', 'params': {'sigma': 0.2}}"
        )
    return make_noise(manager, ref, params, context)


def make_noise(
    manager: PluginManager, ref: str, params: Mapping[str, Any], context: NoiseContext
) -> "ActionNoise":
    """
    The action noise `ref` for all ``context.n_envs`` environments.

    Each environment gets a process with a generator of its own, spawned from ``context.rng``. A
    parameter `noise` may name another process, which is made first. The draws of one environment
    have the shape of an action, those of several ``(n_envs, *action_shape)``.

    :param manager: As in `noise_from_config`.
    :param params: What its factory gets besides the context.
    :raises PluginError: there is no such noise, it does not take these parameters, or what is made
        is no noise.
    """
    found = manager.find("noise", ref)
    assert isinstance(found.spec, NoiseSpec)
    factory = manager.load("noise", ref)
    params = manager.check_params("noise", ref, params)
    if found.spec.vectorized:
        return _joint(_noise(found, factory(context, **params)), context)
    timesteps = context.total_timesteps
    own = None if timesteps is None else max(timesteps // context.n_envs, 1)
    starts = -(-context.learning_starts // context.n_envs)
    noises = []
    for rng in context.rng.spawn(context.n_envs):
        each = replace(context, n_envs=1, rng=rng, total_timesteps=own, learning_starts=starts)
        given = dict(params)
        if is_noise(params.get("noise")):  # a process for this one, with a generator of its own
            inner = replace(each, rng=rng.spawn(1)[0])
            given["noise"] = noise_from_config(manager, params["noise"], inner)
        noises.append(_noise(found, factory(each, **given)))
    if len(noises) == 1:
        return noises[0]
    from pyrl_sb3.noise.several import PerEnvNoise

    return PerEnvNoise(noises)


def _noise(found: Found, made: Any) -> "ActionNoise":
    from stable_baselines3.common.noise import ActionNoise

    if not isinstance(made, ActionNoise):
        raise PluginError(f"noise {found.name!r} gives {made!r}, which is no ActionNoise of SB3's")
    return made


def _joint(noise: "ActionNoise", context: NoiseContext) -> "ActionNoise":
    """One process for all environments, as SB3 takes it."""
    from pyrl_sb3.noise.joint import JointNoise, JointNoiseOfOne

    shape = context.action_space.shape
    if context.n_envs == 1:
        return JointNoiseOfOne(noise, shape)
    return JointNoise(noise, (context.n_envs, *shape))


def check_buffer(
    manager: PluginManager, ref: str, *, algorithm: str, observations: Literal["array", "dict"]
) -> None:
    """
    Check that the replay buffer `ref` fits the algorithm and the kind of observations.

    :param manager: As in `noise_from_config`.
    :raises UnknownComponentError: when there is no such buffer or algorithm.
    :raises ComponentParameterError: when it does not, saying what is missing.
    """
    buffer, learner = manager.find("replay-buffer", ref), manager.find("algorithm", algorithm)
    assert isinstance(buffer.spec, ReplayBufferSpec)
    if observations not in buffer.spec.observation_kinds:
        kinds = " or ".join(sorted(buffer.spec.observation_kinds))
        message = f"replay-buffer {buffer.name!r} is for {kinds} observations, not {observations}"
        raise ComponentParameterError(message)
    if learner.plugin is None:
        return  # a class named by its path declares nothing
    assert isinstance(learner.spec, AlgorithmSpec)
    lacking = buffer.spec.needs - learner.spec.serves
    if lacking:
        needs = ", ".join(sorted(lacking))
        message = f"replay-buffer {buffer.name!r} needs {needs}, which {learner.name!r} does not do"
        raise ComponentParameterError(message)


def environment_id(found: Found) -> str:
    """
    What an environment is called where Gymnasium's are: ``acme/corridor-v0`` of a plugin,
    ``BitFlipping-v0`` of the package itself.
    """
    name = found.spec.name
    if found.plugin is None:
        return f"{name}-v0"
    if found.plugin.name == BUILTIN:
        return "".join(word.capitalize() for word in name.split("-")) + "-v0"
    return f"{found.plugin.name}/{name}-v0"


def environment_spec(manager: PluginManager, ref: str, **kwargs: Any) -> "EnvSpec":
    """
    The environment as a ``gymnasium.EnvSpec``, for ``gymnasium.make`` in any process.

    :param manager: As in `noise_from_config`.
    :param ref: Its name, ``plugin/name`` or ``pkg.mod:Class``.
    :param kwargs: Arguments of the environment's constructor.
    :raises PluginError: there is no such environment, or it does not take these arguments.
    """
    found = manager.find("environment", ref)
    assert isinstance(found.spec, EnvironmentSpec)
    params = manager.check_params("environment", ref, {**found.spec.kwargs, **kwargs})
    return unchecked_spec(found, params)


def unchecked_spec(found: Found, params: Mapping[str, Any]) -> "EnvSpec":
    """As `environment_spec`, with all arguments as they are."""
    assert isinstance(found.spec, EnvironmentSpec)
    from gymnasium.envs.registration import EnvSpec

    return EnvSpec(
        id=environment_id(found),
        entry_point=found.spec.target,
        max_episode_steps=found.spec.max_episode_steps,
        kwargs=dict(params),
    )
