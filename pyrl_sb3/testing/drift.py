"""A small environment to train in."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray


class Drift(gym.Env[NDArray[Any], NDArray[Any]]):
    """Push a point towards zero; episodes of 8 steps, of 7 or 6 with other seeds."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    length = 8

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.length = 8 - seed % 3
        self.position, self.time = self.np_random.normal(), 0
        return np.array([self.position, 0.0]), {}

    def step(self, action: NDArray[Any]) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        self.position += 0.3 * float(action[0])
        self.time += 1
        observation = np.array([self.position, self.time / 8])
        return observation, -abs(self.position), False, self.time == self.length, {}
