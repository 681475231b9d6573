"""Demonstrated observations: from those of an environment to those a model has of it."""

from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecTransposeImage,
    unwrap_vec_normalize,
    unwrap_vec_wrapper,
)

from pyrl_sb3.buffers.demonstrations import Demonstrations
from pyrl_sb3.buffers.fields import WHOLE


def recorded_space(env: VecEnv) -> spaces.Space[Any]:
    """The space of what is recorded: before SB3 puts the channels of images first."""
    transposing = unwrap_vec_wrapper(env, VecTransposeImage)
    return env.observation_space if transposing is None else transposing.venv.observation_space


def with_channels_first(env: VecEnv, demonstrations: Demonstrations) -> Demonstrations:
    """The same with images as the environment of a model shows them."""
    transposing = unwrap_vec_wrapper(env, VecTransposeImage)
    if not isinstance(transposing, VecTransposeImage):
        return demonstrations
    keyed = isinstance(env.observation_space, spaces.Dict)
    episodes = []
    for episode in demonstrations.episodes:
        seen: Any = dict(episode.observations)
        seen = transposing.transpose_observations(seen if keyed else seen[WHOLE])
        episodes.append(replace(episode, observations=seen if keyed else {WHOLE: seen}))
    return replace(demonstrations, episodes=episodes)


def as_recorded(env: VecEnv, observation: dict[str, Any]) -> dict[str, Any]:
    """The opposite for one observation, by key, of a single environment."""
    transposing = unwrap_vec_wrapper(env, VecTransposeImage)
    if not isinstance(transposing, VecTransposeImage) or transposing.skip:
        return observation
    images = getattr(transposing, "image_space_keys", [WHOLE])
    return {
        key: np.moveaxis(value, 0, -1) if key in images else value
        for key, value in observation.items()
    }


def begin_statistics(env: VecEnv, demonstrations: Demonstrations) -> None:
    """Let VecNormalize's statistics of observations, where there are any, begin with them."""
    normalize = unwrap_vec_normalize(env)
    if normalize is None or not (normalize.norm_obs and normalize.training):
        return
    for episode in with_channels_first(normalize, demonstrations).episodes:
        if isinstance(normalize.obs_rms, dict):
            for key, statistics in normalize.obs_rms.items():
                statistics.update(episode.observations[key])
        else:
            (values,) = episode.observations.values()
            normalize.obs_rms.update(values)


def normalized_anew(env: VecEnv, observations: Any, original: Any) -> Any:
    """
    :param observations: of all environments, normalised by earlier statistics
    :param original: the same as the environments showed them
    :return: normalised by the statistics as they are now; ``observations`` where something else
        than SB3's own wrappers is around VecNormalize
    """
    normalize = unwrap_vec_normalize(env)
    if env is normalize and normalize is not None:
        return normalize.normalize_obs(original)
    if isinstance(env, VecTransposeImage) and env.venv is normalize and normalize is not None:
        return env.transpose_observations(normalize.normalize_obs(original))
    return observations
