"""Demonstrated observations: from those of an environment to those a model has of it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecFrameStack,
    VecTransposeImage,
    unwrap_vec_normalize,
)
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper

from pyrl_sb3.buffers.demonstrations import Demonstrations, Episode
from pyrl_sb3.buffers.fields import WHOLE
from pyrl_sb3.buffers.table import Array


def recorded_space(env: VecEnv) -> spaces.Space[Any]:
    """The space of what is recorded: before frames are stacked and SB3 puts channels first."""
    space: spaces.Space[Any] = env.observation_space
    for wrapper in _changing(env):
        space = wrapper.venv.observation_space
    return space


def as_recorded(env: VecEnv, observation: Mapping[str, Array]) -> dict[str, Array]:
    """What is recorded of one observation by key that `env` shows: the opposite of `as_shown`."""
    found = dict(observation)
    for wrapper in _changing(env):
        if isinstance(wrapper, VecFrameStack):
            for key, values in found.items():
                stack = _stack_of(wrapper, key)
                found[key] = np.split(values, stack.n_stack, axis=stack.repeat_axis)[-1]
        elif not wrapper.skip:
            for key in getattr(wrapper, "image_space_keys", [WHOLE]):
                found[key] = np.moveaxis(found[key], 0, -1)
    return found


def as_shown(env: VecEnv, demonstrations: Demonstrations) -> Iterator[Demonstrations]:
    """Each episode with observations as `env` shows them: stacked, with channels first.

    One at a time: stacks are as much larger as they have frames.
    """
    inward = [*_changing(env)]
    for episode in demonstrations.episodes:
        for wrapper in reversed(inward):
            if isinstance(wrapper, VecFrameStack):
                episode = _stacked(wrapper, episode)
            else:
                episode = _transposed(wrapper, episode)
        yield replace(demonstrations, episodes=[episode])


def _changing(env: VecEnv) -> Iterator[VecFrameStack | VecTransposeImage]:
    """The wrappers through which observations go, the outermost first."""
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, (VecFrameStack, VecTransposeImage)):
            yield env
        env = env.venv


def _stacked(wrapper: VecFrameStack, episode: Episode) -> Episode:
    observations = {}
    for key, values in episode.observations.items():
        stack, count = _stack_of(wrapper, key), len(values)
        # Frames before the first are zeros.
        frames = np.concatenate([np.zeros_like(values[:1])] * (stack.n_stack - 1) + [values])
        shifted = [frames[first : first + count] for first in range(stack.n_stack)]
        observations[key] = np.concatenate(shifted, axis=stack.stack_dimension)
    return replace(episode, observations=observations)


def _stack_of(wrapper: VecFrameStack, key: str) -> Any:
    """SB3's account of how observations of this key are stacked."""
    stack = wrapper.stacked_obs
    return getattr(stack, "sub_stacked_observations", {WHOLE: stack})[key]


def _transposed(wrapper: VecTransposeImage, episode: Episode) -> Episode:
    keyed = isinstance(wrapper.observation_space, spaces.Dict)
    seen: Any = dict(episode.observations)
    seen = wrapper.transpose_observations(seen if keyed else seen[WHOLE])
    return replace(episode, observations=seen if keyed else {WHOLE: seen})


def begin_statistics(env: VecEnv, demonstrations: Demonstrations) -> None:
    """Let VecNormalize's statistics of observations, where there are any, begin with them."""
    normalize = unwrap_vec_normalize(env)
    if normalize is None or not (normalize.norm_obs and normalize.training):
        return
    found = normalize.obs_rms
    statistics = found if isinstance(found, dict) else {WHOLE: found}
    for shown in as_shown(normalize, demonstrations):
        (episode,) = shown.episodes
        for key, each in statistics.items():
            each.update(episode.observations[key])


def normalized_anew(env: VecEnv, observations: Any, original: Any) -> Any:
    """
    :param observations: of all environments, normalised by earlier statistics
    :param original: the same as the environments showed them
    :return: normalised by the statistics as they are now; ``observations`` where something else
        than SB3's own wrappers is around VecNormalize
    """
    normalize = unwrap_vec_normalize(env)
    if normalize is None:
        return observations
    if env is normalize:
        return normalize.normalize_obs(original)
    if isinstance(env, VecTransposeImage) and env.venv is normalize:
        return env.transpose_observations(normalize.normalize_obs(original))
    return observations
