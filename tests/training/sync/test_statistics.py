"""Statistics merged by deltas against statistics of all data at once."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from pyrl_sb3.training.sync.statistics import (
    merged,
    read_statistics,
    since,
    write_statistics,
)


def as_arrays(moments):
    parts = {"mean": moments.mean, "var": moments.var, "count": moments.count}
    return {f"x/{part}": np.array(value, np.float64) for part, value in parts.items()}


def test_copies_together_know_what_one_would_that_has_seen_all():
    rng = np.random.default_rng(0)
    everything = RunningMeanStd(shape=(3,))
    before = as_arrays(everything)
    for _ in range(5):  # rounds: what counts is that the past does not count again
        news = []
        for copy in range(3):
            data = rng.normal(10 * copy, 1 + copy, (20 * (copy + 1), 3))
            mine = RunningMeanStd(shape=(3,))
            mine.mean, mine.var, mine.count = (before[f"x/{p}"] for p in ("mean", "var", "count"))
            mine.update(data)
            everything.update(data)
            news.append(since(as_arrays(mine), before))
        before = merged(before, news)
    assert before["x/count"] == pytest.approx(everything.count)
    np.testing.assert_allclose(before["x/mean"], everything.mean)
    np.testing.assert_allclose(before["x/var"], everything.var)


def test_copies_that_have_seen_nothing_change_nothing():
    moments = RunningMeanStd(shape=(2,))
    moments.update(np.random.default_rng(0).normal(size=(50, 2)))
    before = as_arrays(moments)
    after = merged(before, [since(before, before)] * 3)
    assert after.keys() == before.keys()
    for name, value in after.items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Box(-1, 1, (3,), np.float32),
        gym.spaces.Dict({"a": gym.spaces.Box(-1, 1, (2,)), "b": gym.spaces.Box(-1, 1, (1,))}),
    ],
)
def test_statistics_of_an_environment_are_read_and_written(space):
    class Draws(gym.Env):
        observation_space, action_space = space, gym.spaces.Box(-1, 1, (1,))

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), 1.0, False, False, {}

    envs = [VecNormalize(DummyVecEnv([Draws])) for _ in range(2)]
    envs[0].reset()
    for _ in range(10):
        envs[0].step(np.zeros((1, 1)))
    found = read_statistics(envs[0])
    assert found["returns/count"] == pytest.approx(10, abs=0.01)
    write_statistics(envs[1], found)
    np.testing.assert_equal(read_statistics(envs[1]), found)
    envs[1].reset()  # what was put back can be updated
    assert found["returns/count"] == pytest.approx(10, abs=0.01)


def test_without_normalisation_there_are_none():
    assert read_statistics(None) == {}
    write_statistics(None, {})
    bare = DummyVecEnv([lambda: gym.make("Pendulum-v1")])
    only_rewards = VecNormalize(bare, norm_obs=False)
    assert set(read_statistics(only_rewards)) == {"returns/mean", "returns/var", "returns/count"}
