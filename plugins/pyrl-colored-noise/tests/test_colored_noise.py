import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from pyrl_colored_noise import ColoredNoise
from pyrl_colored_noise.noise import colored
from stable_baselines3.common.vec_env import DummyVecEnv

from pyrl_sb3 import SAC
from pyrl_sb3.plugins import NoiseContext, get_plugin_manager, noise_from_config, parse_noise
from pyrl_sb3.testing import NoiseSuite


class TestPink(NoiseSuite):
    ref = "colored-noise/pink"
    params = {"sigma": [0.1, 0.2, 0.3], "length": 10}  # noqa: RUF012


def blocks(exponent, count=60, length=1024, sigma=0.5):
    noise = ColoredNoise(1, exponent, sigma, length, np.random.default_rng(0))
    return np.stack([noise() for _ in range(count * length)]).reshape(count, length)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_spectrum_has_the_slope(exponent):
    power = (np.abs(np.fft.rfft(blocks(exponent))) ** 2).mean(axis=0)[1:-1]
    frequencies = np.arange(1, len(power) + 1)
    slope = np.polyfit(np.log(frequencies), np.log(power), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.1)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_sigma_is_the_standard_deviation(exponent):
    drawn = blocks(exponent, count=1000, length=64)
    # At every step of a block, so over blocks.
    assert drawn.std(axis=0) == pytest.approx(0.5, rel=0.1)
    assert drawn.std() == pytest.approx(0.5, rel=0.03)


def test_white_noise_is_uncorrelated():
    drawn = blocks(0.0, count=500, length=64)
    correlation = np.corrcoef(drawn.T) - np.eye(64)
    assert np.abs(correlation).max() < 0.25
    assert np.abs(correlation.mean()) < 0.01


def test_pink_noise_is_correlated_as_theory_says():
    drawn = blocks(1.0, count=2000, length=16)
    weight = np.array([1, *[2] * 7, 1]) / np.array([1, *range(1, 9)])
    expected = (weight * np.cos(2 * np.pi * np.arange(9) / 16)).sum() / weight.sum()
    measured = (drawn[:, 3] * drawn[:, 4]).mean() / 0.25
    assert measured == pytest.approx(expected, abs=0.05)


def test_blocks_begin_anew_at_a_reset_and_when_used_up():
    noise = ColoredNoise(2, 1.0, 1.0, 5, np.random.default_rng(0))
    assert noise.length == 6
    first = [noise() for _ in range(3)]
    noise.reset()
    again = [noise() for _ in range(9)]
    assert not np.array_equal(first, again[:3])
    assert not np.array_equal(again[:3], again[6:])


def test_number_in_a_name_is_sigma():
    assert parse_noise(get_plugin_manager(), "pink_0.3") == ("pink", {"sigma": 0.3})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sigma": -1}, "sigma must be finite and not negative"),
        ({"sigma": [1, 2, 3]}, r"sigma has shape \(3,\), the actions have 2"),
        ({"exponent": float("nan")}, "exponent must be finite"),
        ({"length": 1}, "length must be at least 2"),
        ({"length": 0}, "length must be at least 2"),
        ({"length": 2.5}, "length must be at least 2 whole steps, not 2.5"),
        ({"action_dim": (2, 2), "sigma": [[1], [2]]}, r"sigma has shape \(2, 1\), the actions"),
    ],
)
def test_bad_parameters(changed, message):
    good = {"action_dim": 2, "exponent": 1.0, "sigma": 1.0, "length": 8}
    with pytest.raises(ValueError, match=message):
        ColoredNoise(**good | changed, rng=np.random.default_rng(0))


def context(shape, **more):
    rng = np.random.default_rng(0)
    return NoiseContext(action_space=gym.spaces.Box(-1, 1, shape), rng=rng, **more)


def test_a_length_of_0_is_not_taken_for_none():
    with pytest.raises(ValueError, match="length must be at least 2 whole steps, not 0"):
        colored(context((2,), max_episode_steps=100), length=0)
    assert colored(context((2,), max_episode_steps=100)).length == 100


@pytest.mark.parametrize("sigma", [0.5, [[0.5, 0.5], [0.5, 0.5]]])
def test_actions_of_two_dimensions_get_the_noise_of_as_many_numbers(sigma):
    flat, square = colored(context((4,)), sigma=0.5), colored(context((2, 2)), sigma=sigma)
    for _ in range(3):
        drawn = square()
        assert drawn.shape == (2, 2)
        assert np.array_equal(drawn.ravel(), flat())


def test_readme_example_runs():
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names = {}
    exec(example, names)
    assert isinstance(names["model"].action_noise, ColoredNoise)


class Endless(gym.Env):
    """Shows the same observation for ever, and notes the actions."""

    def __init__(self):
        self.observation_space = gym.spaces.Box(-1, 1, (2,))
        self.action_space = gym.spaces.Box(-1, 1, (4,))
        self.actions = []

    def reset(self, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.actions.append(action)
        return np.zeros(2, np.float32), 0.0, False, False, {}


@pytest.mark.parametrize("n_envs", [1, 8])
def test_policy_noise_of_sac_is_pink_in_every_environment(n_envs):
    envs = [Endless() for _ in range(n_envs)]
    context = NoiseContext(
        action_space=envs[0].action_space, n_envs=n_envs, rng=np.random.default_rng(0)
    )
    noise = noise_from_config(get_plugin_manager(), "policy+pink", context)
    steps = 1024 * (4 if n_envs == 1 else 1)
    model = SAC(
        "MlpPolicy",
        DummyVecEnv([lambda env=env: env for env in envs]),
        action_noise=noise,
        policy_kwargs={"net_arch": [4]},
        learning_starts=0,
        gradient_steps=0,
        buffer_size=1000,
        seed=0,
    )
    model.learn(steps * n_envs)
    with th.no_grad():
        mean, log_std, _ = model.actor.get_action_dist_params(th.zeros(1, 2))
    actions = np.stack([env.actions for env in envs])  # (n_envs, steps, 4)
    drawn = (np.arctanh(actions.astype(float)) - mean.numpy()) / log_std.exp().numpy()
    drawn = np.moveaxis(drawn, -1, 1).reshape(n_envs * 4, -1)
    power = np.abs(np.fft.rfft(drawn.reshape(-1, 1024))) ** 2
    power = power.mean(axis=0)[1:-1]
    slope = np.polyfit(np.log(np.arange(1, len(power) + 1)), np.log(power), 1)[0]
    assert slope == pytest.approx(-1, abs=0.1)
    assert drawn.std() == pytest.approx(1, rel=0.1)
    between = np.corrcoef(drawn.reshape(n_envs * 4, -1)) - np.eye(n_envs * 4)
    assert np.abs(between).max() < 0.6
