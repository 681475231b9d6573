"""When an episode is over for good, what is left to the goal, and rewards within bounds."""

import sys
from numbers import Real
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

_LARGEST = sys.float_info.max

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


class GoalDifference(gym.Wrapper[Any, Any, Any, Any]):
    """
    Adds `difference` to observations, what is left to the goal: `desired_goal - achieved_goal`.

    A network would have to learn to subtract, to some centimetres. For pyrl_sb3's
    `HerReplayBuffer`, which computes it for new goals; with that of SB3 it would not fit these.

    Raises:
        ValueError: desired and achieved goals are no vectors of one shape.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        space: Any = env.observation_space
        shape = shape_of(space, "achieved_goal")
        if shape is None or len(shape) != 1 or shape != shape_of(space, "desired_goal"):
            raise ValueError("GoalDifference needs achieved_goal and desired_goal of one length")
        difference: Any = spaces.Box(-np.inf, np.inf, shape, space["achieved_goal"].dtype)
        self.observation_space = spaces.Dict({**space.spaces, "difference": difference})

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Reset, and add it."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._with(observation), info

    def step(self, action: Any) -> Step:
        """Step, and add it."""
        observation, *rest = self.env.step(action)
        return (self._with(observation), *rest)

    def _with(self, observation: Any) -> Any:
        goals = observation["achieved_goal"], observation["desired_goal"]
        return {**observation, **self.goal_features(*goals)}

    def goal_features(self, achieved_goal: Any, desired_goal: Any) -> dict[str, NDArray[Any]]:
        """Return the `difference` of goals ``(..., goal_dim)``."""
        return {"difference": np.asarray(desired_goal) - achieved_goal}


class BoundedRewards(gym.RewardWrapper[Any, Any]):
    """
    Rewards within bounds, for learning only: evaluations, where `training` is False, have the true.

    A penalty for failing that is far larger than all else teaches to keep away from where one may
    fail, and with that from the goal: a lunar lander hovers. Bounds for all environments alike are
    those of Mnih 2015 (https://doi.org/10.1038/nature14236), -1 and 1.

    Args:
        env: without `compute_reward`: rewards for other goals would not be bounded.
        low: rewards below become this one; None: none do.
        high: likewise those above.
        scale: rewards are multiplied by it, after that.

    Raises:
        ValueError: `low` is above `high`, one of the three is no number, or the environment
            computes rewards for goals.
    """

    of_reward_alone = True  # so that it changes demonstrations' too

    def __init__(
        self,
        env: gym.Env[Any, Any],
        low: float | None = None,
        high: float | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__(env)
        self.low = -np.inf if low is None else low
        self.high = np.inf if high is None else high
        numbers = (self.low, self.high, scale)
        given = f"BoundedRewards: low={low!r}, high={high!r}, scale={scale!r}"
        if not all(isinstance(number, Real) for number in numbers):
            raise ValueError(f"{given}: all must be numbers, low and high may be None")
        if any(abs(number) > _LARGEST for number in numbers if abs(number) != np.inf):
            raise ValueError(f"{given}: no number may be larger than {_LARGEST:g}")
        if np.isnan([self.low, self.high]).any() or not np.isfinite(scale):
            raise ValueError(f"{given}: no number may be nan, scale must be finite")
        if self.low > self.high:
            raise ValueError(f"BoundedRewards: low, {low}, is above high, {high}")
        if env.has_wrapper_attr("compute_reward"):
            raise ValueError("BoundedRewards does not bound the rewards that HER computes")
        self.scale = scale
        self.training = True

    def reward(self, reward: SupportsFloat) -> SupportsFloat:
        """Return it within the bounds, in training."""
        if not self.training:
            return reward
        return self.scale * min(max(float(reward), self.low), self.high)


def shape_of(space: Any, key: str) -> tuple[int, ...] | None:
    """The shape of what observations have by this key; None where they do not."""
    has = isinstance(space, spaces.Dict) and key in space.spaces
    return space[key].shape if has else None
