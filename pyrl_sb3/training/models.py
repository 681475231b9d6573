"""Models: built from hyperparameters, written to disk."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.vec_env import VecEnv

from pyrl_sb3.algorithms.exploration import noise_problem
from pyrl_sb3.buffers import DictReplayBuffer, ReplayBuffer, keep_raw_terminals
from pyrl_sb3.config import Experiment, Reference
from pyrl_sb3.config.n_steps import told_to_the_buffer
from pyrl_sb3.networks import with_named_extractor
from pyrl_sb3.plugins import (
    NoiseContext,
    ReplayBufferSpec,
    check_buffer,
    get_plugin_manager,
    make_noise,
    saved,
)
from pyrl_sb3.plugins.signature import parameters
from pyrl_sb3.policies import LeanActing
from pyrl_sb3.training.agents import NamedAgent
from pyrl_sb3.training.errors import InputError, made_by
from pyrl_sb3.training.folders import statistics_file, write_whole
from pyrl_sb3.training.threads import MOST_THREADS, available_cores

_REFUSED_ABOVE = 1024  # threads


def set_threads(threads: int | None) -> int:
    """
    Set and return the number of PyTorch's threads.

    None takes OMP_NUM_THREADS where that is set, otherwise the cores this process may use, at most
    four.

    Raises:
        InputError: there are more than an operating system is good for; PyTorch would crash.
    """
    if threads is not None and threads > _REFUSED_ABOVE:
        raise InputError(f"--threads {threads}: must be at most {_REFUSED_ABOVE}")
    if threads is None and "OMP_NUM_THREADS" not in os.environ:
        threads = min(available_cores(), MOST_THREADS)
    if threads is not None:
        th.set_num_threads(threads)
    return th.get_num_threads()


def check_device(device: str) -> str:
    """Return the device's name; raise InputError when PyTorch does not know or have it."""
    if device == "auto":
        return device
    try:
        th.empty(0, device=device).tolist()  # none can be read from `meta`
    except (RuntimeError, AssertionError) as error:
        there = "auto, cpu, cuda" if th.cuda.is_available() else "auto, cpu"
        raise InputError(f"no device {device!r}; there are {there}") from error
    return device


def build_model(
    agent: NamedAgent,
    env: VecEnv,
    experiment: Experiment,
    *,
    timesteps: int,
    seed: int,
    device: str,
) -> OffPolicyAlgorithm:
    """
    Build an untrained model.

    Args:
        agent: algorithm, policy and buffer, the latter two unless the experiment names others.
        env: where it will learn.
        experiment: the algorithm's arguments and the noise.
        timesteps: environment steps it will be trained for.
        seed: of the networks, the noise and the environments.
        device: as in PyTorch, or `auto`.

    Raises:
        PluginError, InputError: the noise cannot be made.
    """
    arguments = experiment.model_arguments(env.action_space.shape or ())
    keywords = {**agent.spec.defaults, **arguments}
    if experiment.noise is not None:
        assert isinstance(env.action_space, spaces.Box)
        (spec,) = env.get_attr("spec", [0])
        context = NoiseContext(
            action_space=env.action_space,
            rng=np.random.default_rng(seed),
            n_envs=env.num_envs,
            max_episode_steps=spec.max_episode_steps if spec else None,
            total_timesteps=timesteps,
            learning_starts=_learning_starts(agent.algorithm, keywords),
        )
        keywords["action_noise"] = _registered_noise(experiment.noise, context)
    if isinstance(name := keywords["policy"], str):
        # Of ours, one class for all kinds of observations.
        keyed = isinstance(env.observation_space, spaces.Dict)
        sb3_s = "MultiInputPolicy" if keyed and name == "MlpPolicy" else name
        keywords["policy"] = agent.policy or sb3_s
        # MlpPolicy is also what an experiment has that says nothing.
        if name == "CnnPolicy" and agent.policy and issubclass(agent.policy, LeanActing):
            given = keywords.get("policy_kwargs") or {}
            keywords["policy_kwargs"] = with_named_extractor(name, given, env.observation_space)
    buffer = buffer_of(agent, keywords, env.observation_space)
    if buffer is not NStepReplayBuffer:
        keywords = told_to_the_buffer({**keywords, "replay_buffer_class": buffer}, agent.algorithm)
    model = agent.algorithm(env=env, seed=seed, device=device, **keywords)
    if isinstance(model.replay_buffer, ReplayBuffer):
        keep_raw_terminals(model.get_env())  # from the first step on, as where a run goes on
    return model


def buffer_of(
    agent: NamedAgent, keywords: Mapping[str, Any], observations: spaces.Space[Any]
) -> type | None:
    """
    Return the class of the replay buffer for a model's keywords; None leaves it to the algorithm.

    Checkpoints of ours are as large as what is new. For several steps SB3 has one, of arrays, which
    demonstrations cannot be in, and which lacks the options of ours.
    """
    if "replay_buffer_class" in keywords:
        named: type | None = keywords["replay_buffer_class"]
        return named
    keyed = isinstance(observations, spaces.Dict)
    demonstrated = keywords.get("demonstrations") is not None
    known, _ = parameters(NStepReplayBuffer)
    takes_all = known.keys() >= (keywords.get("replay_buffer_kwargs") or {}).keys()
    if keywords.get("n_steps", 1) > 1 and not keyed and not demonstrated and takes_all:
        return NStepReplayBuffer
    return agent.buffer or (DictReplayBuffer if keyed else ReplayBuffer)


def _learning_starts(algorithm: type, keywords: Mapping[str, Any]) -> int:
    """Environment steps whose actions are drawn uniformly."""
    if keywords.get("use_sde") and keywords.get("use_sde_at_warmup"):
        return 0
    if "learning_starts" in keywords:
        return int(keywords["learning_starts"])
    known, _ = parameters(algorithm)
    return int(known["learning_starts"].default) if "learning_starts" in known else 0


def _registered_noise(noise: Reference, context: NoiseContext) -> ActionNoise:
    factory = partial(make_noise, get_plugin_manager(), noise.name, noise.params, context)
    return made_by(factory, f"noise {noise.name}")


def check_components(
    agent: NamedAgent,
    experiment: Experiment,
    observations: spaces.Space[Any],
    actions: spaces.Space[Any],
) -> None:
    """
    Check that noise and replay buffer fit the algorithm and the environment.

    Raises:
        ComponentParameterError: the buffer does not.
        PluginError: the noise is none, or does not take its parameters.
        InputError: it cannot be made for these actions.
    """
    noisy = experiment.noise is not None or experiment.noise_type is not None
    if noisy and not isinstance(actions, spaces.Box):
        raise InputError(f"{agent.title} explores without action noise: its actions are discrete")
    if experiment.noise is not None:
        assert isinstance(actions, spaces.Box)
        rng = np.random.default_rng(0)
        context = NoiseContext(action_space=actions, rng=rng, total_timesteps=1)
        noise = _registered_noise(experiment.noise, context)
        use_sde = bool(experiment.arguments.get("use_sde"))
        if problem := noise_problem(agent.algorithm, noise, use_sde=use_sde):
            raise InputError(f"noise {experiment.noise.name}: {problem}")
    if experiment.buffer is not None:
        _check_buffer(agent, experiment.buffer, keyed=isinstance(observations, spaces.Dict))


def _check_buffer(agent: NamedAgent, name: str, *, keyed: bool) -> None:
    manager = get_plugin_manager()
    kind: Literal["dict", "array"] = "dict" if keyed else "array"
    check_buffer(manager, name, algorithm=agent.registered, observations=kind)
    found = manager.find("replay-buffer", name)
    assert isinstance(found.spec, ReplayBufferSpec)
    lacking = ", ".join(sorted(found.spec.needs - {"env"}))
    if agent.is_stock and lacking:
        raise InputError(f"replay-buffer {found.name!r} needs {lacking}: leave out --stock")


def save_model(
    model: OffPolicyAlgorithm, path: Path, uses: Sequence[Mapping[str, Any]] = ()
) -> None:
    """
    Write the model to a `.zip`, and beside it the observation statistics where it has any.

    `uses` are its components as the registry names them, see `saved.save`.
    """
    _make_rates_plain(model)
    # What loads it makes the schedule anew, of `learning_rate`. That of a callback may hold on to
    # all there is, open files included.
    saved.save(model, path, map(dict, uses), exclude=["lr_schedule"])
    statistics = model.get_vec_normalize_env()
    if statistics is not None:
        write_whole(statistics_file(path), lambda part: statistics.save(str(part)))


def _make_rates_plain(model: OffPolicyAlgorithm) -> None:
    """
    Make numbers of NumPy that callbacks have computed, such as learning rates, Python's in the
    optimisers: PyTorch writes them, and refuses to read them.
    """
    for name in model._get_torch_save_params()[0]:
        for group in getattr(recursive_getattr(model, name), "param_groups", ()):
            group.update({k: v.item() for k, v in group.items() if isinstance(v, np.generic)})
