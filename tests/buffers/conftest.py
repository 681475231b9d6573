"""Environments whose observations say where they come from."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv


class CountingGoalEnv(gym.Env[dict[str, np.ndarray], np.ndarray]):
    """Every observation ever made has a number of its own: `number`, counted over all episodes.

    `achieved_goal` is `(number,)`, `desired_goal` is `(-episode,)`; the reward of going to `number`
    is that number, and under a goal g it is `1000 * owner + achieved - g`.
    """

    def __init__(self, length: int = 5, owner: int = 0, truncate: bool = True) -> None:
        self.length, self.owner, self.truncate = length, owner, truncate
        box = spaces.Box(-np.inf, np.inf, (1,), np.float64)
        keys = ("observation", "achieved_goal", "desired_goal")
        self.observation_space = spaces.Dict(dict.fromkeys(keys, box))
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
        self.number = self.owner * 10_000 - 1
        self.episode = 0
        self.episode_of: dict[int, int] = {}  # by number

    def _next(self) -> dict[str, np.ndarray]:
        self.number += 1
        self.episode_of[self.number] = self.episode
        values = {"observation": self.number, "achieved_goal": self.number}
        return {
            k: np.array([v], float) for k, v in {**values, "desired_goal": -self.episode}.items()
        }

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.step_count = 0
        self.episode += 1
        return self._next(), {}

    def step(self, action: np.ndarray) -> Any:
        self.step_count += 1
        done = self.step_count == self.length
        obs = self._next()
        truncated = done and self.truncate
        return obs, float(self.number), done and not truncated, truncated, {"number": self.number}

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return 1000.0 * self.owner + (achieved - desired)[..., 0]


@pytest.fixture(scope="session")
def counting_env():
    """Makes a vectorised counting environment; environment i has episodes of `lengths[i]` steps."""

    def make(*lengths: int, **kwargs: Any) -> DummyVecEnv:
        return DummyVecEnv(
            [
                lambda i=i, n=n: CountingGoalEnv(n, owner=i, **kwargs)
                for i, n in enumerate(lengths or (5,))
            ]
        )

    return make


@pytest.fixture
def mapped_files():
    """Tells what files in a folder, also those without names, this process has open."""

    def find(folder: Path) -> list[os.stat_result]:
        found = []
        for link in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # that of the folder itself
                if os.readlink(link).startswith(f"{folder}/"):
                    found.append(link.stat())
        return sorted(found, key=lambda file: file.st_ino)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("files without names are seen on Linux only")
    return find
