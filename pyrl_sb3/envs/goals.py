"""What is the same for all goals that are reached exactly or not at all."""

from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import numpy.typing as npt

Observation: TypeAlias = dict[str, npt.NDArray[np.float32]]
Array: TypeAlias = npt.NDArray[Any]


class SparseGoals(gym.Env[Any, Any]):
    """A reward of 0 for the goal, which ends the episode, and of -1 for everything else."""

    metadata = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012  # as gymnasium has it

    def compute_reward(self, achieved_goal: Array, desired_goal: Array, info: Any) -> Array:
        """
        :param achieved_goal: ``(..., goal_dim)``
        :param desired_goal: likewise
        :return: ``(...)``, -1 or 0
        """
        return self.compute_terminated(achieved_goal, desired_goal, info).astype(np.float32) - 1

    def compute_terminated(self, achieved_goal: Array, desired_goal: Array, info: Any) -> Array:
        """Whether the goal is reached, ``(...)``; arguments as of `compute_reward`."""
        # Goals are whole numbers, which normalisation and back may have rounded.
        return np.asarray(np.all(np.abs(achieved_goal - desired_goal) < 0.5, axis=-1))
