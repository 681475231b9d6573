"""Sub-goals on the way: first to the object, then with it to its goal."""

from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.env_util import is_wrapped

from pyrl_sb3.training.wrappers import TerminateOnSuccess, shape_of

Array = NDArray[Any]
Observation = dict[str, Array]
Step = tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]


class RelayGoals(gym.Wrapper[Observation, Any, Observation, Any]):
    """
    Asks an arm for two things in turn: to reach an object, and to bring it to its goal.

    An arm that does not find the object learns nothing from hindsight, as whatever it does, the
    object stays where it is. Reaching is learned soon, and then moves it (relay HER, Luo 2023,
    https://arxiv.org/abs/2208.00843). Goals are `(x, y, z, 1)` for the object and `(x, y, z, 0)`
    for the gripper; what is achieved is `(6,)`, the object's position and the gripper's. Success
    is what it was, the reward is that of the goal asked for: 0 when it is reached, else -1.

    In training, steps that begin far from the object ask for reaching every now and then: one
    policy learns both and goes on where it left off with the other. With `training` set to False,
    as where the commands evaluate, only the object's goal is asked for.

    Deviations from the paper: one network without a head for each task; which of the two goals
    a transition learns from is drawn, by whether the object moved; how often reaching is asked for
    does not depend on how well it is learned.

    Args:
        env: its achieved goal is the object's position, `(3,)`, in metres.
        gripper: the entries of `observation` where the gripper's position begins and ends.
        near: distance at which the object counts as reached, in metres.
        within: distance at which the object counts as brought to its goal, in metres.
        guided: share of the steps that begin away from the object which ask for reaching.
        moved: an object that moved less far, in metres, mostly tells of the gripper's goals.

    Raises:
        ValueError: the achieved goal is not a position, or `env` has wrappers that know other
            goals than these.
    """

    def __init__(
        self,
        env: gym.Env[Observation, Any],
        gripper: Sequence[int] = (0, 3),
        near: float = 0.06,
        within: float = 0.05,
        guided: float = 0.5,
        moved: float = 0.02,
    ) -> None:
        super().__init__(env)
        if env.has_wrapper_attr("goal_features"):
            raise ValueError("RelayGoals has goals that GoalDifference around env does not know")
        if is_wrapped(env, TerminateOnSuccess):
            raise ValueError("RelayGoals goes inside of TerminateOnSuccess: name it first")
        goals: Any = env.observation_space
        if shape_of(goals, "achieved_goal") != (3,):
            raise ValueError("RelayGoals needs an achieved_goal of three coordinates, an object's")
        self.gripper, self.near, self.within = slice(*gripper), near, within
        self.guided, self.moved = guided, moved
        dtype: Any = goals["achieved_goal"].dtype
        sizes = {"achieved_goal": 6, "desired_goal": 4}
        boxes = {key: spaces.Box(-np.inf, np.inf, (n,), dtype) for key, n in sizes.items()}
        space: Any = spaces.Dict({**goals.spaces, **boxes})
        self.observation_space = space
        self.training = True
        self._rng = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Reset; a seed also decides which goals are asked for."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        observation, info = self.env.reset(seed=seed, options=options)
        return self._asked(observation), info

    def step(self, action: Any) -> Step:
        """Step; the reward is that of the goal which the last observation asked for."""
        observation, _, terminated, truncated, info = self.env.step(action)
        goal, found = self.goal, self._asked(observation)
        reward = float(self.compute_reward(found["achieved_goal"], goal, info))
        return found, reward, terminated, truncated, info

    def _asked(self, observation: Observation) -> Observation:
        thing, hand = observation["achieved_goal"], observation["observation"][self.gripper]
        goal = observation["desired_goal"]
        close = np.linalg.norm(thing - hand) < self.near
        done = np.linalg.norm(thing - goal) < self.within
        reach = self.training and self._rng.random() < self.guided and not close and not done
        self.goal = np.append(thing, 0.0) if reach else np.append(goal, 1.0)
        achieved = np.concatenate([thing, hand])
        return {**observation, "achieved_goal": achieved, "desired_goal": self.goal}

    def compute_reward(self, achieved_goal: Array, desired_goal: Array, info: Any) -> Array:
        """
        Return 0 for goals that are reached and -1 for others, `(...)`.

        Args:
            achieved_goal: positions of the object and the gripper, `(..., 6)`.
            desired_goal: where which of them is to be, `(..., 4)`.
            info: is not looked at.
        """
        thing = desired_goal[..., 3] > 0.5
        asked = np.where(thing[..., None], achieved_goal[..., :3], achieved_goal[..., 3:])
        allowed = np.where(thing, self.within, 0.8 * self.near)
        far = np.linalg.norm(desired_goal[..., :3] - asked, axis=-1) > allowed
        return -far.astype(np.float32)

    def hindsight_goals(self, achieved: Array, later: Array, uniform: Array) -> Array:
        """
        Return goals `(batch, 4)` that were reached later in the episodes of some transitions.

        Args:
            achieved: what was achieved when they began, `(batch, 6)`.
            later: what was achieved after some later step, `(batch, 6)`.
            uniform: random numbers in `[0, 1)`, `(batch,)`: with 0.8 of those that an object moved
                for it is the object's goal, with 0.2 of the others.
        """
        moved = np.linalg.norm(later[:, :3] - achieved[:, :3], axis=1) > self.moved
        thing = (uniform < np.where(moved, 0.8, 0.2))[:, None]
        return np.concatenate([np.where(thing, later[:, :3], later[:, 3:]), thing], axis=1)
