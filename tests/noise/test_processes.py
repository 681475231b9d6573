"""Noise against theory, for one environment and for eight."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise

from pyrl_sb3.noise.action import GaussianNoise, OrnsteinUhlenbeckNoise
from pyrl_sb3.noise.greedy import EpsilonGreedy
from pyrl_sb3.noise.scheduled import ScheduledNoise
from pyrl_sb3.noise.several import PerEnvNoise, for_envs
from pyrl_sb3.plugins import NoiseContext, get_plugin_manager, noise_from_config, parse_noise
from pyrl_sb3.testing import check_noise

DIM = 3


def make(config, n_envs=1, seed=0, total_timesteps=None):
    context = NoiseContext(
        action_space=gym.spaces.Box(-1, 1, (DIM,)),
        rng=np.random.default_rng(seed),
        n_envs=n_envs,
        total_timesteps=total_timesteps,
    )
    return noise_from_config(get_plugin_manager(), config, context)


def drawn(noise, steps):
    """``(steps, n_envs * DIM)``: columns that should know nothing of one another."""
    return np.stack([np.asarray(noise()) for _ in range(steps)]).reshape(steps, -1)


@pytest.mark.parametrize("n_envs", [1, 8])
@pytest.mark.parametrize(
    ("config", "sigma", "correlation"),
    [("normal_0.3", 0.3, 0.0), ("ou_0.3", 0.3, np.exp(-0.15))],
)
def test_variance_and_autocorrelation(config, sigma, correlation, n_envs):
    noise = drawn(make(config, n_envs), 24_000 // n_envs)
    assert np.sqrt((noise**2).mean()) == pytest.approx(sigma, rel=0.06)
    for lag in (1, 5, 10):
        measured = (noise[:-lag] * noise[lag:]).mean() / (noise**2).mean()
        assert measured == pytest.approx(correlation**lag, abs=0.06)


@pytest.mark.parametrize("config", ["normal_0.3", "ou_0.3", "eps_0.5+normal_0.3"])
def test_environments_are_uncorrelated(config):
    noise = drawn(make(config, 8), 6_000)
    between = np.corrcoef(noise.T) - np.eye(8 * DIM)
    # Of OU noise, about a 13th of the draws are independent of one another.
    assert np.abs(between).max() < (0.2 if config == "ou_0.3" else 0.06)


@pytest.mark.parametrize("n_envs", [1, 8])
def test_episodes_of_ou_noise_begin_in_its_stationary_distribution(n_envs):
    noise = make("ou_0.5", n_envs)
    firsts = []
    for _ in range(2400 // n_envs):
        noise.reset()
        firsts.append(noise().ravel())
    assert np.std(firsts) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("n_envs", [1, 8])
def test_epsilon_greedy_replaces_actions(n_envs):
    noise = make("eps_0.25+normal_0.01", n_envs)
    actions = np.full((n_envs, DIM), 0.9, np.float32)
    out = np.stack([actions + noise() for _ in range(16_000 // n_envs)])
    random = np.abs(out - 0.9).max(axis=-1) > 0.06
    assert random.mean() == pytest.approx(0.25, abs=0.015)
    # Whole actions, uniform over the box, others with the noise on them.
    assert out[random].mean() == pytest.approx(0, abs=0.03)
    assert out[random].std() == pytest.approx(1 / np.sqrt(3), rel=0.03)
    assert (out[~random] - 0.9).std() == pytest.approx(0.01, rel=0.03)
    if n_envs > 1:
        assert np.abs(np.corrcoef(random.T) - np.eye(n_envs)).max() < 0.1


@pytest.mark.parametrize("n_envs", [1, 3])
def test_whole_actions_are_replaced_whatever_their_shape(n_envs):
    context = NoiseContext(
        action_space=gym.spaces.Box(-1, 1, (4, 2)), rng=np.random.default_rng(0), n_envs=n_envs
    )
    noise = noise_from_config(get_plugin_manager(), "eps_0.5", context)
    actions = np.full((n_envs, 4, 2), 0.9, np.float32)
    replaced = np.stack([actions + noise() != actions for _ in range(200)])
    replaced = replaced.reshape(200 * n_envs, 8)
    assert (replaced == replaced[:, :1]).all()
    assert replaced.mean() == pytest.approx(0.5, abs=0.1)


def test_replaced_actions_are_stacked_and_put_together_by_nothing_else():
    noise = EpsilonGreedy((DIM,), 1.0, None, np.random.default_rng(0))
    ones = np.ones((2, DIM))
    assert not np.isin(1, ones + np.stack([noise(), noise()]))
    joined = np.concatenate([noise(), noise()])
    assert joined.tolist() == [0] * 2 * DIM, "the noise of the other actions"


@pytest.mark.parametrize("n_envs", [1, 8])
def test_a_schedule_ends_with_the_training_on_any_number_of_environments(n_envs):
    noise = make("normal_1.0..0.2", n_envs, total_timesteps=8000)
    draws = drawn(noise, 8000 // n_envs)
    rows = len(draws) // 10
    assert draws[:rows].std() == pytest.approx(0.96, rel=0.08)
    assert draws[-rows:].std() == pytest.approx(0.24, rel=0.08)
    assert drawn(noise, 500).std() == pytest.approx(0.2, rel=0.08)


def scheduled_over(share):
    params = {"noise": {"name": "normal"}, "over": share}
    return make({"name": "scheduled", "params": params}, total_timesteps=100)


@pytest.mark.parametrize("share", [1, 0.25])
def test_a_schedule_ends_with_a_share_of_the_training(share):
    assert scheduled_over(share).steps == 100 * share


@pytest.mark.parametrize("share", [0, -1, 1.5, float("nan")])
def test_a_share_of_the_training_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=f"over must be above 0 and at most 1, not {share}"):
        scheduled_over(share)


@pytest.mark.parametrize(
    ("shape", "middle"), [("linear", 0.55), ("cosine", 0.55), ("exponential", 0.1**0.5)]
)
def test_shapes_of_schedules(shape, middle):
    constant = GaussianNoise((1,), 0.0, np.random.default_rng(0))
    noise = ScheduledNoise(constant, 100, 0.1, shape)
    factors = []
    for _ in range(150):
        factors.append(noise.factor)
        noise()
    assert factors[0] == 1
    assert factors[50] == pytest.approx(middle)
    assert factors[100:] == pytest.approx([0.1] * 50)
    assert (np.diff(factors) <= 0).all()


def test_epsilon_falls_too():
    noise = make("eps_0.8..0.2", total_timesteps=4000)
    kept = np.array([((np.zeros(DIM) + noise()) == 0).all() for _ in range(4000)])
    assert 1 - kept[:400].mean() == pytest.approx(0.77, abs=0.08)
    assert 1 - kept[-400:].mean() == pytest.approx(0.23, abs=0.08)


def test_processes_keep_their_promises():
    check_noise(*parse_noise(get_plugin_manager(), "eps_0.2+ou_0.3..0.1"))


@pytest.mark.parametrize("config", ["normal_0.2", "ou_0.2", "eps_0.3+ou_0.2", "ou_0.3..0.1"])
def test_another_number_of_environments(config):
    noise, undisturbed = (make(config, 2, total_timesteps=100) for _ in range(2))
    more = for_envs(noise, 5)
    draws = np.stack([np.ones(DIM) + more() for _ in range(50)])
    before = np.stack([np.ones(DIM) + undisturbed() for _ in range(50)])
    assert draws.shape == (50, 5, DIM)
    assert np.array_equal(draws[:, :2], before), "those that were there go on"
    for i in range(5):
        for j in range(i):
            assert not np.array_equal(draws[:, i], draws[:, j])
    one = for_envs(more, 1)
    assert one().shape == (DIM,)
    assert for_envs(one, 1) is one
    assert not isinstance(one, PerEnvNoise)


@pytest.mark.parametrize("config", ["normal_0.3", "ou_0.3", "eps_0.9"])
def test_stock_sb3_explores_differently_in_each_environment(config):
    env = make_vec_env("Pendulum-v1", 4)
    context = NoiseContext(
        action_space=env.action_space, rng=np.random.default_rng(0), n_envs=env.num_envs
    )
    noise = noise_from_config(get_plugin_manager(), config, context)
    model = stable_baselines3.TD3("MlpPolicy", env, action_noise=noise, learning_starts=4)
    model.learn(8)
    assert len(np.unique(np.zeros((4, 1)) + model.action_noise())) == 4


def test_noise_of_sb3_is_taken_over_as_it_is():
    plain = NormalActionNoise(np.zeros(DIM), np.ones(DIM))
    assert for_envs(plain, 1) is plain
    assert for_envs(plain, 3)().shape == (3, DIM)


def test_a_pickle_goes_on_and_the_global_state_does_not_matter():
    noise = make("eps_0.3+ou_0.2", 8)
    drawn(noise, 9)
    saved = pickle.dumps(noise)
    np.random.seed(1)
    first = np.stack([1.0 + noise() for _ in range(20)])
    np.random.seed(2)
    again = pickle.loads(saved)
    assert np.array_equal(first, np.stack([1.0 + again() for _ in range(20)]))


def test_bad_parameters():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"from 0 to 1, not 1\.5"):
        EpsilonGreedy((1,), 1.5, None, rng)
    for theta in (0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"theta must be positive and finite, not {theta}"):
            OrnsteinUhlenbeckNoise((1,), 0.1, theta, rng)
    for sigma, message in (
        ([0.1, 0.2], r"sigma has shape \(2,\), the actions have \(3,\)"),
        ([0.1, -0.2, 0.1], "sigma must be finite and not negative"),
        (float("inf"), "sigma must be finite and not negative, not inf"),
    ):
        with pytest.raises(ValueError, match=message):
            GaussianNoise((DIM,), sigma, rng)
        with pytest.raises(ValueError, match=message):
            OrnsteinUhlenbeckNoise((DIM,), sigma, 0.1, rng)
    inner = GaussianNoise((1,), 0.1, rng)
    for steps, end, shape, message in (
        (0, 0.1, "linear", "steps must be at least 1"),
        (float("nan"), 0.1, "linear", "steps must be at least 1 and finite, not nan"),
        (float("inf"), 0.1, "linear", "steps must be at least 1 and finite, not inf"),
        (1, -1, "linear", "end must be 0 or more, not -1"),
        (1, 0, "exponential", "end must be above 0"),
        (1, 1, "cubic", "shape must be one of linear, cosine, exponential, not 'cubic'"),
    ):
        with pytest.raises(ValueError, match=message):
            ScheduledNoise(inner, steps, end, shape)
    for config, message in (
        ("eps_0.5..2", "probability must be at most 1, not 2 in the end"),
        ("param_0.2..0.1", "scheduled takes noise that is added to actions, not ParameterNoise"),
        ("eps_0.1+param_0.2", "eps takes noise that is added to actions, not ParameterNoise"),
        ("eps_0.1+policy+ou", "eps takes noise that is added to actions, not PolicyNoise"),
        ("eps_0.1+eps_0.2", "eps takes noise that is added to actions, not EpsilonGreedy"),
        ("policy+param", "policy takes noise that is added to actions, not ParameterNoise"),
        ("policy+policy+ou", "policy takes noise that is added to actions, not PolicyNoise"),
        ("policy+eps_0.2", "policy takes noise that is added to actions, not EpsilonGreedy"),
        ("policy+eps_0.2..0.1+ou", "policy takes noise that is added to actions, not EpsilonG"),
    ):
        with pytest.raises(ValueError, match=message):
            make(config, total_timesteps=100)
    with pytest.raises(ValueError, match="length of the training is not known"):
        make("ou_0.3..0.1")


def test_how_noise_is_shown_in_messages():
    shown = {
        "normal_0.3": "GaussianNoise(sigma=0.3)",
        "ou_0.2": "OrnsteinUhlenbeckNoise(sigma=0.2, theta=0.15)",
        "eps_0.5+normal_0.3": "EpsilonGreedy(probability=0.5, noise=GaussianNoise(sigma=0.3))",
        "param_0.2": "ParameterNoise(target=0.2, sigma=0.2)",
    }
    assert {config: repr(make(config)) for config in shown} == shown
    each = GaussianNoise((2,), [0.1, 0.2], np.random.default_rng(0))
    assert repr(each) == "GaussianNoise(sigma=[0.1, 0.2])"
    assert (
        repr(ScheduledNoise(each, 10, 0.5)) == f"ScheduledNoise({each}, steps=10, end=0.5, linear)"
    )


def test_copies_of_sb3_that_share_a_stream_get_their_own():
    from stable_baselines3.common.noise import VectorizedActionNoise

    noise = VectorizedActionNoise(GaussianNoise((3,), 1.0, np.random.default_rng(0)), 2)
    first, second = noise()
    assert np.array_equal(first, second)
    first, second = for_envs(noise, 2)()
    assert not np.array_equal(first, second)


def test_a_probability_may_rise_to_one():
    rng = np.random.default_rng(0)
    for probability in (0.1, 0.3, 0.7):  # times its inverse, 1 but for rounding
        greedy = EpsilonGreedy((2,), probability, None, rng)
        assert ScheduledNoise(greedy, 5, 1 / probability).end > 1
        with pytest.raises(ValueError, match="the probability must be at most 1"):
            ScheduledNoise(greedy, 5, 1.01 / probability)
