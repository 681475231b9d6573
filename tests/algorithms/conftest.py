"""Environments and models for the tests of the algorithms."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common import policies

OBSERVATION = spaces.Box(-1, 1, (5,), np.float32)
SPACES = {
    "box": OBSERVATION,
    "matrix": spaces.Box(-1, 1, (2, 3), np.float32),
    "dict": spaces.Dict(
        observation=OBSERVATION,
        achieved_goal=spaces.Box(-1, 1, (2,), np.float32),
        desired_goal=spaces.Box(-1, 1, (2,), np.float32),
    ),
    "image": spaces.Box(0, 255, (3, 36, 36), np.uint8),
}


class RandomEnv(gym.Env[Any, Any]):
    """Random observations and rewards; episodes of seven steps, every other one truncated."""

    def __init__(self, observation_space: str = "box", action_dim: int = 3) -> None:
        self.observation_space = copy.deepcopy(SPACES[observation_space])
        self.action_space = spaces.Box(-2, 1, (action_dim,), np.float32)
        self.steps = self.episodes = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        self.episodes += 1
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        over = self.steps == 7
        odd = self.episodes % 2 == 1
        reward = float(self.np_random.normal())
        return self.observation_space.sample(), reward, over and odd, over and not odd, {}


@pytest.fixture
def make_env() -> type[RandomEnv]:
    return RandomEnv


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> Any:
    """
    Networks in double precision. In single precision Adam makes a full step of a gradient whose
    sign is rounding, so that equality says little.
    """
    original = policies.preprocess_obs

    def double(observations: Any, space: Any, normalize_images: bool = True) -> Any:
        out = original(observations, space, normalize_images)
        return {k: v.double() for k, v in out.items()} if isinstance(out, dict) else out.double()

    monkeypatch.setattr(policies, "preprocess_obs", double)
    th.set_default_dtype(th.float64)
    yield
    th.set_default_dtype(th.float32)
