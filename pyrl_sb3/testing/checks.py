"""The test kit behind one door: what `pyrl plugins check` runs on a component."""

from inspect import Parameter
from typing import Any

import gymnasium as gym
from gymnasium.error import DependencyNotInstalled
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from pyrl_sb3.config import ConfigError, read_experiment
from pyrl_sb3.config.documents import read_document
from pyrl_sb3.noise.parameter import ParameterNoise
from pyrl_sb3.noise.policy import PolicyNoise
from pyrl_sb3.plugins import AlgorithmSpec, Found, PluginError, PluginManager, ReplayBufferSpec
from pyrl_sb3.plugins.errors import RAISED, named, text_of
from pyrl_sb3.plugins.signature import parameters, required
from pyrl_sb3.testing.agents import SMALL, AgentCase, check_agent
from pyrl_sb3.testing.noise import NoiseCase, check_noise
from pyrl_sb3.testing.replay_buffers import check_replay_buffer
from pyrl_sb3.testing.require import CheckError, raised, require
from pyrl_sb3.testing.served import check_serves
from pyrl_sb3.testing.sync import check_sync_callback
from pyrl_sb3.training.agents import without_commands
from pyrl_sb3.training.engines import lacking

# Of an algorithm's defaults, those that would keep it from training within a few steps.
_PACE = {*SMALL, "train_freq", "gradient_steps"}
# Begins what is said of a component that lacks its parameters, or a package.
SKIPPED = "skipped: "
# Without parameters these are not made.
_MADE = ("noise", "replay-buffer", "sync-callback", "callback", "algorithm")
# What a class has to be, unless it is checked otherwise.
_BASES: dict[str, type] = {
    "callback": BaseCallback,
    "policy": BasePolicy,
    "features-extractor": BaseFeaturesExtractor,
    "environment": gym.Env,
    "env-wrapper": gym.Wrapper,
}


def check_component(manager: PluginManager, found: Found) -> str:
    """
    Import the component's target and run the kit for its kind.

    :return: what is wrong, or nothing; after `SKIPPED`, which parameters it needs, or
        what it says itself that has to be installed
    """
    try:
        target = manager.load(found.kind, found.name)
        _check_class(found.kind, target)
        needed = required(found.spec, target) if found.kind in _MADE else []
        if found.kind == "noise":  # another process can be given to it
            needed = [name for name in needed if name != "noise"]
        if needed:
            return f"{SKIPPED}needs {', '.join(needed)}"
        if found.kind == "noise":
            _check_noise(manager, found, target)
        elif isinstance(found.spec, ReplayBufferSpec):
            kinds, needs = found.spec.observation_kinds, found.spec.needs
            defaults = found.spec.defaults
            check_replay_buffer(target, defaults, observation_kinds=kinds, needs=needs)
        elif found.kind == "sync-callback":
            check_sync_callback(found.name, manager=manager)
        elif found.kind == "callback":
            _check_callback(found, target)
        elif isinstance(found.spec, AlgorithmSpec):
            _check_algorithm(manager, found.name, found.spec, target)
    except RAISED as error:
        wanted = _wanted(error)
        return f"{SKIPPED}{wanted}" if wanted else _told(error)
    return ""


def _wanted(error: BaseException) -> str:
    """What a component says itself that has to be installed for it; nothing where it does not."""
    while isinstance(error, (PluginError, CheckError)) and error.__cause__:
        error = error.__cause__
    text = " ".join(text_of(error).split())
    # Python names the missing module; who raises the error without a name says what to install.
    of_python = getattr(error, "name", None) or text.startswith("attempted relative import")
    says = isinstance(error, (ImportError, DependencyNotInstalled))
    return text if says and not of_python and not isinstance(error, PluginError) else ""


def _told(error: BaseException) -> str:
    if isinstance(error, (PluginError, ConfigError, CheckError)):
        return str(error)
    # A component's own assertion often has no text.
    return raised(error) if isinstance(error, AssertionError) else named(error)


def _check_class(kind: str, target: Any) -> None:
    if not isinstance(target, type):
        return
    base = _BASES.get(kind, object)
    source = "Gymnasium's" if base in (gym.Env, gym.Wrapper) else "SB3's"
    require(issubclass(target, base), f"{target.__name__} is no {base.__name__} of {source}")
    if kind == "engine":
        lacks = lacking(target)
        require(not lacks, f"{target.__name__} has no {', '.join(lacks)}")


def _check_callback(found: Found, target: Any) -> None:
    known, _ = parameters(target)
    if "eval_env" not in known:  # which there is none of here
        made = target(**found.spec.defaults)
        require(isinstance(made, BaseCallback), f"{made!r} is no BaseCallback of SB3's")


def _check_noise(manager: PluginManager, found: Found, target: Any) -> None:
    known, _ = parameters(target, found.spec.leading)
    around = "noise" in known and known["noise"].default is Parameter.empty
    params = {"noise": "normal_0.1"} if around else {}  # what is made of another noise
    made = NoiseCase(ref=found.name, params=params, manager=manager).make()
    if not isinstance(made, (ParameterNoise, PolicyNoise)):  # which cannot be drawn by themselves
        check_noise(found.name, params, manager=manager)


def _check_algorithm(
    manager: PluginManager, name: str, spec: AlgorithmSpec, target: type[Any]
) -> None:
    ours = dict(without_commands()).get(name)
    require(not ours, f"no command trains it: {spec.name}-train is that of {ours}")
    manager.load("policy", spec.policy)
    if spec.config is not None:
        entries = read_document(spec.config).data
        for entry in entries:
            read_experiment(spec.config, name, entry)
        if "env" in spec.serves and "default" in entries:  # others may be for what has no goals
            read_experiment(spec.config, f"her-{name}", "default")
    if spec.off_policy:
        params = {key: value for key, value in spec.defaults.items() if key not in _PACE}
        for actions in sorted(spec.action_kinds):
            check_agent(target, params, actions=actions)
            check_serves(AgentCase(cls=target, params=params, actions=actions), spec.serves)
