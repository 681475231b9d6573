"""The first experiment of hindsight experience replay."""

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from pyrl_sb3.envs.goals import Observation, SparseGoals


class BitFlipping(SparseGoals):
    """
    Turn one row of bits into another, flipping one bit a step (Andrychowicz 2017,
    https://arxiv.org/abs/1707.01495, section 3.1).

    Row and goal are drawn uniformly; the reward is -1 until they are equal, then 0. With many bits
    random behaviour never sees a 0: of 2**30 rows one is the goal.

    Deviation from the paper: reaching the goal ends the episode, and an episode cannot begin there.

    :param n_bits: bits, and actions; an episode has at most as many steps
    :raises ValueError: without a bit
    """

    def __init__(self, n_bits: int = 30, render_mode: str | None = None) -> None:
        if n_bits < 1:
            raise ValueError(f"n_bits={n_bits}: must be at least 1")
        self.n_bits = n_bits
        self.render_mode = render_mode
        bits = spaces.Box(0, 1, (n_bits,), np.float32)
        self.observation_space = spaces.Dict(
            observation=bits, achieved_goal=bits, desired_goal=bits
        )
        self.action_space: spaces.Discrete = spaces.Discrete(n_bits)
        self._bits = np.zeros(n_bits, np.float32)
        self._goal = np.ones(n_bits, np.float32)
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        gym.Env.reset(self, seed=seed)
        self._bits = self._draw()
        self._goal = self._draw()
        while np.array_equal(self._bits, self._goal):
            self._goal = self._draw()
        self._steps = 0
        return self._observe(), {"is_success": False}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self._bits[action] = 1 - self._bits[action]
        self._steps += 1
        reached = np.array_equal(self._bits, self._goal)
        over = self._steps >= self.n_bits and not reached
        return self._observe(), float(reached) - 1, reached, over, {"is_success": reached}

    def _draw(self) -> npt.NDArray[np.float32]:
        return self.np_random.integers(2, size=self.n_bits).astype(np.float32)

    def _observe(self) -> Observation:
        rows = {"observation": self._bits, "achieved_goal": self._bits, "desired_goal": self._goal}
        return {name: row.copy() for name, row in rows.items()}

    def render(self) -> str | None:
        """With ``render_mode="ansi"``: the bits above the goal."""
        if self.render_mode != "ansi":
            return None
        return "\n".join("".join(str(int(b)) for b in row) for row in (self._bits, self._goal))
