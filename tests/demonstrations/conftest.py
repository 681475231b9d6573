"""A goal-conditioned environment that is quick, its cousins without a goal, and demonstrations."""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from pyrl_sb3.buffers.demonstrations import Demonstrations, Episode


class Line(gym.Env[Any, Any]):
    """A point on a line that an action moves; the goal is a place on it. Five steps an episode."""

    metadata: ClassVar[dict[str, Any]] = {}

    def __init__(self, kind: str = "goal") -> None:
        one = spaces.Box(-9, 9, (1,), np.float32)
        self.kind = kind
        goal = {"observation": one, "achieved_goal": one, "desired_goal": one}
        first, last = (spaces.Box(0, 255, shape, np.uint8) for shape in ((1, 36, 36), (36, 37, 3)))
        self.observation_space = {
            "goal": spaces.Dict(goal),
            "box": one,
            "image": first,
            "channels-last": last,
            "keyed": spaces.Dict({"view": last, "place": one}),
        }[kind]
        self.action_space = spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = np.zeros(1, np.float32)
        self.goal = self.np_random.uniform(-8, 8, 1).astype(np.float32)
        self.steps = 0
        return self._seen(), {}

    def _seen(self) -> Any:
        if self.kind == "image":
            return np.full((1, 36, 36), 100 + 10 * self.place[0], np.uint8)
        if self.kind == "box":
            return self.place.copy()
        if self.kind in ("channels-last", "keyed"):
            row = np.arange(37, dtype=np.uint8)[:, None] + np.arange(3, dtype=np.uint8)
            view = np.tile(row, (36, 1, 1)) + np.uint8(100 + 10 * self.place[0])
            return view if self.kind == "channels-last" else {"view": view, "place": self.place}
        return {"observation": self.place, "achieved_goal": self.place, "desired_goal": self.goal}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = np.clip(self.place + action, -9, 9).astype(np.float32)
        self.steps += 1
        reward = float(self.compute_reward(self.place, self.goal, {}))
        return self._seen(), reward, False, self.steps == 5, {"is_success": reward == 0}

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return -(np.abs(achieved - desired).max(axis=-1) > 0.5).astype(np.float32)


def episodes_of(kind: str, count: int = 4, rewards: bool = True) -> Demonstrations:
    """Episodes that walk to the goal."""
    env, found = Line(kind), []
    for number in range(count):
        seen, _ = env.reset(seed=number)
        states, actions, earned = [seen], [], []
        for _ in range(5):
            action = np.clip(env.goal - env.place, -2, 2)
            seen, reward, *_ = env.step(action)
            states.append(seen)
            actions.append(action)
            earned.append(reward)
        keyed = [s if isinstance(s, dict) else {"observation": s} for s in states]
        episode = Episode(
            observations={key: np.array([s[key] for s in keyed]) for key in keyed[0]},
            actions=np.array(actions),
            rewards=np.array(earned, np.float32) if rewards else None,
            success=True,
        )
        found.append(episode)
    return Demonstrations(episodes=found, source="test.npz")


@pytest.fixture
def line() -> type[Line]:
    return Line


@pytest.fixture
def demonstrations() -> Any:
    return episodes_of
