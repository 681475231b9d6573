"""Environments in which everything has a number, and what was stored from them."""

from collections.abc import Iterator
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

Array = NDArray[Any]
Obs = dict[str, Array]

LENGTHS = (4, 7, 1, 5)
# Steps after which no episode is running; after the second, 30 steps ago none was running either,
# so that buffers which keep whole episodes are as full as others.
ALL_ENDED, ALL_ENDED_AND_FULL = 21, 68
ACTIONS_PER_UNIT = 2**16  # actions are multiples of 1 / ACTIONS_PER_UNIT, each used once


class NumberedEnv(gym.Env[Any, Array]):
    """Episodes of several lengths, every other of which runs out of time.

    `observation` is `(number, env)` and `achieved_goal` is `(number,)`, where no two steps have the
    same number; `desired_goal` is `(-episode,)`. With `kind="array"` there is only `observation`.
    Actions are those of `actions_of`.
    """

    def __init__(self, kind: str = "dict", index: int = 0) -> None:
        self.kind, self.index = kind, index
        sizes = {"achieved_goal": 1, "desired_goal": 1, "observation": 2}
        boxes = {key: spaces.Box(-np.inf, np.inf, (n,), np.float32) for key, n in sizes.items()}
        self.observation_space: spaces.Space[Any] = spaces.Dict(boxes)  # type: ignore[arg-type]
        if kind == "array":
            self.observation_space = boxes["observation"]
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.number, self.episode = index * 10_000, index * 1000
        self._lengths = cycle(LENGTHS)

    def _observe(self) -> Any:
        self.number += 1
        values = {
            "achieved_goal": [self.number],
            "desired_goal": [-self.episode],
            "observation": [self.number, self.index],
        }
        obs = {key: np.array(value, np.float32) for key, value in values.items()}
        return obs if self.kind == "dict" else obs["observation"]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.episode += 1
        self._left = next(self._lengths)
        return self._observe(), {}

    def step(self, action: Array) -> Any:
        self._left -= 1
        late = self._left == 0 and self.episode % 2 == 1
        achieved = np.array([self.number + 1], np.float32)
        reward = compute_reward(achieved, np.array([-self.episode], np.float32))
        return self._observe(), float(reward), self._left == 0 and not late, late, {}

    def compute_reward(self, achieved: Array, desired: Array, info: Any) -> Any:
        return compute_reward(achieved, desired)


def compute_reward(achieved: Array, desired: Array) -> Any:
    """
    The reward for goals `(..., 1)`: any function of both, here of either sign and so large that no
    usual bound leaves it as it is, but of like size, so that what is drawn in proportion to that is
    drawn at all.
    """
    size = 16 + 4 * (achieved[..., 0] % 8) + 8 * (desired[..., 0] % 4)
    return size * (1 - 2 * (achieved[..., 0] % 2))


def actions_of(numbers: NDArray[np.int_]) -> Array:
    """The actions of steps by their numbers: two columns that differ."""
    columns = np.stack([numbers, ACTIONS_PER_UNIT // 2 - numbers], axis=-1)
    return (columns / ACTIONS_PER_UNIT).astype(np.float32)


def numbered(kind: str, n_envs: int) -> DummyVecEnv:
    """Vectorised numbered environments."""
    return DummyVecEnv([partial(NumberedEnv, kind, i) for i in range(n_envs)])


class Transition(NamedTuple):
    """One step of one environment."""

    obs: Obs
    next_obs: Obs
    reward: float
    done: bool  # over for good
    late: bool  # ran out of time
    episode: tuple[int, int]
    step: int  # counted from 0 in each environment


def play(buffer: Any, env: VecEnv, steps: int, skip: int = 0) -> dict[int, Transition]:
    """Store `steps` steps as SB3's algorithms do; by action, what was stored.

    :param skip: number of actions used before
    """
    return {i: t for i, *_, t in calls(buffer, env, steps, skip)}


def calls(buffer: Any, env: VecEnv, steps: int, skip: int = 0) -> Iterator[tuple[Any, ...]]:
    """As `play`, one transition after another, together with the arguments of `add`."""
    n_envs, obs, episodes = env.num_envs, env.reset(), [0] * env.num_envs
    for t in range(steps):
        number = skip + t * n_envs + np.arange(n_envs)
        actions = actions_of(number)
        new, rewards, dones, infos = env.step(actions)
        after = _with_terminals(new, dones, infos)
        args = obs, after, actions, rewards, dones, infos
        pairs = [(row(obs, e), row(after, e)) for e in range(n_envs)]
        buffer.add(*args)
        for e in range(n_envs):
            late = bool(infos[e]["TimeLimit.truncated"])
            ends = bool(dones[e]) and not late, late
            episode = e, episodes[e]
            episodes[e] += bool(dones[e])
            step = Transition(*pairs[e], float(rewards[e]), *ends, episode, t)
            yield int(number[e]), args, step
        obs = new


def row(obs: Any, index: int) -> Obs:
    """One observation by key; the only one there is of those that are no dict."""
    by_key = obs if isinstance(obs, dict) else {"observation": obs}
    return {key: np.array(value[index]) for key, value in by_key.items()}


def alike(one: Any, other: Any) -> bool:
    """Whether two arguments of `add` are equal."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    return np.array_equal(one, other)


def _with_terminals(obs: Any, dones: Array, infos: Any) -> Any:
    after = {k: v.copy() for k, v in obs.items()} if isinstance(obs, dict) else obs.copy()
    for env in np.flatnonzero(dones):
        last = infos[env]["terminal_observation"]
        if isinstance(after, dict):
            for key, value in after.items():
                value[env] = last[key]
        else:
            after[env] = last
    return after
