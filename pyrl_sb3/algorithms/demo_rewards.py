"""Rewards of demonstrations: from those of an environment to those an agent learns from."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import NormalizeReward
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from pyrl_sb3.buffers.demonstrations import DemonstrationError, Demonstrations, Reward
from pyrl_sb3.buffers.relabel import GoalOracle
from pyrl_sb3.buffers.table import Array


def check_rewards(env: VecEnv, demonstrations: Demonstrations) -> None:
    """Raise DemonstrationError where they cannot have the rewards of `env`."""
    demonstrations.check_rewards(has_goal=env.has_attr("compute_reward"))
    if _has(env, NormalizeReward):
        raise DemonstrationError(
            f"{demonstrations.source}: rewards: NormalizeReward divides the agent's alone, by what "
            "it has met; VecNormalize does both"
        )
    if isinstance(env.unwrapped, SubprocVecEnv) and _has(env, gym.RewardWrapper):
        raise DemonstrationError(
            f"{demonstrations.source}: rewards: a RewardWrapper of environments in other processes "
            "does not reach them; use DummyVecEnv"
        )


def with_rewards(env: VecEnv, demonstrations: Demonstrations) -> Demonstrations:
    """The same as each `gymnasium.RewardWrapper` of `env` changes them; those of goals are added.

    What it does with one reward is all that such a wrapper does: no other says it.
    """
    rewarded = demonstrations.with_rewards(_of_goals(env))
    wrappers = [*_reward_wrappers(env)][::-1]

    def changed(rewards: Array) -> Array:
        for wrapper in wrappers:
            rewards = np.array([wrapper.reward(each) for each in rewards.tolist()], np.float32)
        return rewards

    episodes = [
        replace(each, rewards=changed(np.asarray(each.rewards))) for each in rewarded.episodes
    ]
    return replace(rewarded, episodes=episodes)


def _of_goals(env: VecEnv) -> Reward | None:
    if not env.has_attr("compute_reward"):
        return None
    oracle = GoalOracle(env)
    return lambda achieved, desired, infos: oracle.rewards(
        achieved, desired, infos, np.zeros(len(infos), np.int64)
    )


def show_true_rewards(env: VecEnv) -> None:
    """Let no `gymnasium.RewardWrapper` in `env` change rewards any more."""
    for wrapper in _reward_wrappers(env):
        wrapper.reward = lambda reward: reward  # type: ignore[method-assign]


def _has(env: VecEnv, kind: type[gym.Wrapper[Any, Any, Any, Any]]) -> bool:
    base = env.unwrapped
    if isinstance(base, SubprocVecEnv):
        return base.env_is_wrapped(kind, [0])[0]
    return any(isinstance(each, kind) for each in _wrappers(env))


def _reward_wrappers(env: VecEnv) -> Iterator[gym.RewardWrapper[Any, Any]]:
    """The outermost first."""
    return (each for each in _wrappers(env) if isinstance(each, gym.RewardWrapper))


def _wrappers(env: VecEnv) -> Iterator[gym.Wrapper[Any, Any, Any, Any]]:
    """Those of the first environment, where it is in this process."""
    base = env.unwrapped
    for each in base.envs[:1] if isinstance(base, DummyVecEnv) else ():
        while isinstance(each, gym.Wrapper):
            yield each
            each = each.env
