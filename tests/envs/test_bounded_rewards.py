"""Rewards within bounds, for learning only."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from pyrl_sb3.config import read_experiment
from pyrl_sb3.envs.bit_flipping import BitFlipping
from pyrl_sb3.training.environments import vector_env
from pyrl_sb3.training.hyperparams import packaged_config
from pyrl_sb3.training.wrappers import BoundedRewards

REWARDS = [-100.0, -20.0, -0.5, 0.0, 100.0]


class Rewarding(gym.Env[Any, Any]):
    """The rewards of a list, one after another."""

    observation_space = action_space = spaces.Box(-1, 1, (1,))

    def reset(self, **keywords: Any) -> Any:
        self.left = list(REWARDS)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        reward = self.left.pop(0)
        return np.zeros(1, np.float32), reward, not self.left, False, {}


class Told(gym.Wrapper[Any, Any, Any, Any]):
    training = True


def rewards(env: BoundedRewards) -> list[float]:
    env.reset()
    return [float(env.step(None)[1]) for _ in REWARDS]


def test_rewards_are_bounded_then_scaled() -> None:
    assert rewards(BoundedRewards(Rewarding())) == REWARDS
    assert rewards(BoundedRewards(Rewarding(), low=-20)) == [-20, -20, -0.5, 0, 100]
    both = BoundedRewards(Rewarding(), low=-20, high=50, scale=0.1)
    assert rewards(both) == pytest.approx([-2, -2, -0.05, 0, 5])


def test_the_true_ones_are_left_where_no_agent_learns() -> None:
    env = BoundedRewards(Rewarding(), low=-20, high=50, scale=0.1)
    env.training = False
    assert rewards(env) == REWARDS


def test_bounds_that_exclude_each_other_and_goals_are_refused() -> None:
    with pytest.raises(ValueError, match="low, 1, is above high, -1"):
        BoundedRewards(Rewarding(), low=1, high=-1)
    for wrong in ({"low": float("nan")}, {"high": float("nan")}, {"scale": float("inf")}):
        with pytest.raises(ValueError, match="no number may be nan, scale must be finite"):
            BoundedRewards(Rewarding(), **wrong)
    for none in ({"low": "a"}, {"high": [1]}, {"scale": None}):
        with pytest.raises(ValueError, match=r"low=.*, high=.*, scale=.*: all must be numbers"):
            BoundedRewards(Rewarding(), **none)
    with pytest.raises(ValueError, match=r"no number may be larger than 1\.79769e"):
        BoundedRewards(Rewarding(), scale=10**400)
    with pytest.raises(ValueError, match="rewards that HER computes"):
        BoundedRewards(BitFlipping(4), low=-1)


@pytest.mark.parametrize("training", [True, False])
def test_all_wrappers_learn_whether_an_agent_does(training: bool) -> None:
    both = f"env_wrapper=[{{bounded-rewards: {{high: -1.0e+9}}}}, {{{__name__}.Told: {{}}}}]"
    experiment = read_experiment(
        packaged_config("sac"), "sac", "Pendulum-v1", overrides=[both], trust=True
    )
    env = vector_env("Pendulum-v1", 1, 0, experiment, training=training)
    env.reset()
    bounded = env.step(env.action_space.sample()[None])[1][0] == np.float32(-1e9)
    assert bounded == training
    told: Any = env.envs[0]  # type: ignore[attr-defined]
    found = []
    while isinstance(told, gym.Wrapper):
        found += [told.training] if isinstance(told, BoundedRewards | Told) else []
        told = told.env
    assert found == [training] * 2
    env.close()
