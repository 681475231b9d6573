"""Recording demonstrations."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from pyrl_sb3.buffers.demofiles import save_demonstrations
from pyrl_sb3.buffers.demonstrations import Demonstrations, Episode
from pyrl_sb3.buffers.fields import WHOLE
from pyrl_sb3.training.environments import env_spec
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.scripted import CONTROLLERS

log = logging.getLogger("pyrl_sb3")

Act = Callable[[Any], Any]


def scripted(env_id: str) -> Act:
    """
    The controller written for an environment.

    :raises InputError: there is none
    """
    name = env_spec(env_id).name
    if name not in CONTROLLERS:
        known = ", ".join(CONTROLLERS)
        raise InputError(f"no script for {env_id}: there is one for {known}; or --policy MODEL")
    return CONTROLLERS[name]


def record(
    env_id: str, policy: str, *, episodes: int, out: Path, seed: int = 0, failures: bool = False
) -> float | None:
    """
    Record episodes into an ``.npz``.

    :param policy: ``"scripted"``
    :param failures: keep episodes that did not end in success too
    :return: the share of episodes that did; None where nothing says so
    :raises InputError: no script for the environment, or nothing worth writing
    """
    env_id = env_spec(env_id).id
    env = gym.make(env_id)
    assert isinstance(env.action_space, spaces.Box)
    act = scripted(env_id)
    found = [one_episode(env, act, seed + number) for number in range(episodes)]
    env.close()
    known = [each.success for each in found if each.success is not None]
    kept = [each for each in found if failures or each.success is not False]
    if not kept:
        raise InputError(f"none of {episodes} episodes was a success: nothing to write to {out}")
    demonstrations = Demonstrations(episodes=kept, source=str(out), env_id=env_id)
    demonstrations.check(env.observation_space, env.action_space)
    save_demonstrations(demonstrations, out)
    return float(np.mean(known)) if known else None


def one_episode(env: gym.Env[Any, Any], act: Act, seed: int) -> Episode:
    """One episode of `act` in `env`."""
    observation, info = env.reset(seed=seed)
    observations, actions, rewards = [observation], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        action = np.asarray(act(observation), env.action_space.dtype)
        observation, reward, terminated, truncated, info = env.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(reward)
    success = info.get("is_success", info.get("success"))
    keys = observation if isinstance(observation, Mapping) else [WHOLE]
    return Episode(
        observations={
            key: np.array([each[key] if key in each else each for each in observations])
            if isinstance(observation, Mapping)
            else np.array(observations)
            for key in keys
        },
        actions=np.array(actions),
        rewards=np.array(rewards, dtype=np.float32),
        terminated=terminated,
        success=None if success is None else bool(success),
    )
