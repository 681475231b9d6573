"""When an episode is over for good: at success, or never."""

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

Env = gym.Env[Any, Any]
Step = tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]


class TerminateOnSuccess(gym.Wrapper[Any, Any, Any, Any]):
    """
    Ends an episode for good when the goal is reached, also in hindsight: for goals that are
    rewarded by -1 and 0, of which 0 means success.
    """

    def step(self, action: Any) -> Step:
        """Step, and end at success."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated or bool(float(reward) == 0), truncated, info

    def compute_terminated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> NDArray[Any]:
        """Whether goals would have ended it, ``(...)``, for goals ``(..., goal_dim)``."""
        reward = self.env.get_wrapper_attr("compute_reward")(achieved_goal, desired_goal, info)
        return np.asarray(reward) == 0


class NeverDone(gym.Wrapper[Any, Any, Any, Any]):
    """
    Lets no end be for good: it is a truncation, after which learning assumes that all goes on.

    For goals that are to be kept and not just reached (Pitis 2020,
    https://arxiv.org/abs/2007.02832).
    """

    def step(self, action: Any) -> Step:
        """Step, and truncate where the environment terminates."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, False, terminated or truncated, info

    def compute_terminated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> NDArray[Any]:
        """No goal would have ended it: ``(...)``, for goals ``(..., goal_dim)``."""
        return np.zeros(np.shape(achieved_goal)[:-1], bool)
