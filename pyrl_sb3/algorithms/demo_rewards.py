"""Rewards of demonstrations: from those of an environment to those an agent learns from."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import NormalizeReward, TransformReward
from stable_baselines3.common.atari_wrappers import ClipRewardEnv
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from pyrl_sb3.buffers.demonstrations import DemonstrationError, Demonstrations, Reward
from pyrl_sb3.buffers.relabel import GoalOracle
from pyrl_sb3.buffers.table import Array

# Of other packages, whose classes do not say `of_reward_alone`
_OF_REWARD_ALONE = (TransformReward, ClipRewardEnv)


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
            "does not reach them; use DummyVecEnv, which is --vec-env dummy"
        )


def with_rewards(env: VecEnv, demonstrations: Demonstrations) -> Demonstrations:
    """
    The demonstrations with the rewards of an agent in `env`: as wrappers change them that look at
    the reward alone. Those of goals are computed, by the outermost wrapper that does it or the
    environment; only wrappers around that change them.

    Other wrappers are not asked, and named in a warning: they would see the agent's environment, or
    count the demonstrations among what they have met.
    """
    changing = [*_reward_wrappers(_wrappers(env))]
    outside = [*_reward_wrappers(takewhile(_passes_on, _wrappers(env)))]
    computed = [each.rewards is None for each in demonstrations.episodes]
    _warn_of_unchanged(demonstrations.source, outside if all(computed) else changing)
    rewarded = demonstrations.with_rewards(_of_goals(env))
    episodes = [
        replace(each, rewards=_changed(np.asarray(each.rewards), outside if own else changing))
        for own, each in zip(computed, rewarded.episodes, strict=True)
    ]
    return replace(rewarded, episodes=episodes)


def _changed(rewards: Array, wrappers: Sequence[gym.RewardWrapper[Any, Any]]) -> Array:
    """Those of one episode as they come out of wrappers, of which the outermost is the first."""
    for wrapper in reversed(wrappers):
        if _of_reward_alone(type(wrapper)):  # which may be given NumPy's numbers or Python's
            each = (wrapper.reward(reward) for reward in rewards.astype(np.float64))
            rewards = np.array([*each], np.float32)
    return rewards


def _of_reward_alone(kind: type) -> bool:
    """Whether that is known: a class that overrides a method of one has to say it anew."""
    ways = {"of_reward_alone", "reward", "step"}
    last = next(each for each in kind.__mro__ if ways & vars(each).keys())
    return bool(vars(last).get("of_reward_alone", last in _OF_REWARD_ALONE))


def _warn_of_unchanged(source: str, wrappers: Sequence[gym.RewardWrapper[Any, Any]]) -> None:
    kinds = [type(each) for each in wrappers if not _of_reward_alone(type(each))]
    if kinds:
        names = " and ".join(dict.fromkeys(each.__name__ for each in kinds))
        warnings.warn(
            f"{source}: rewards are not changed by {names}: only what a wrapper with "
            "`of_reward_alone = True` in its class does to the agent's is done to these",
            stacklevel=4,
        )


def _of_goals(env: VecEnv) -> Reward | None:
    if not env.has_attr("compute_reward"):
        return None
    oracle = GoalOracle(env)
    return lambda achieved, desired, infos: oracle.rewards(
        achieved, desired, infos, np.zeros(len(infos), np.int64)
    )


def show_true_rewards(env: VecEnv) -> None:
    """Let no `gymnasium.RewardWrapper` in `env` change rewards any more, nor `NormalizeReward`."""
    for wrapper in _wrappers(env):
        if isinstance(wrapper, gym.RewardWrapper):
            wrapper.reward = lambda reward: reward  # type: ignore[method-assign]
        elif isinstance(wrapper, NormalizeReward):
            wrapper.step = wrapper.env.step  # type: ignore[method-assign]


def _has(env: VecEnv, kind: type[gym.Wrapper[Any, Any, Any, Any]]) -> bool:
    base = env.unwrapped
    if isinstance(base, SubprocVecEnv):
        return base.env_is_wrapped(kind, [0])[0]
    return any(isinstance(each, kind) for each in _wrappers(env))


def _passes_on(wrapper: gym.Wrapper[Any, Any, Any, Any]) -> bool:
    """Whether rewards for goals are those of what is within it."""
    return not hasattr(type(wrapper), "compute_reward")


def _reward_wrappers(
    wrappers: Iterable[gym.Wrapper[Any, Any, Any, Any]],
) -> Iterator[gym.RewardWrapper[Any, Any]]:
    return (each for each in wrappers if isinstance(each, gym.RewardWrapper))


def _wrappers(env: VecEnv) -> Iterator[gym.Wrapper[Any, Any, Any, Any]]:
    """Those of the first environment, where it is in this process, the outermost first."""
    base = env.unwrapped
    for each in base.envs[:1] if isinstance(base, DummyVecEnv) else ():
        while isinstance(each, gym.Wrapper):
            yield each
            each = each.env
