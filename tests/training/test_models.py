"""Threads, devices, noise."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from pyrl_sb3.buffers.tap import RAW_TERMINAL
from pyrl_sb3.config import read_experiment
from pyrl_sb3.noise.several import PerEnvNoise
from pyrl_sb3.training.agents import AGENTS
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.models import build_model, check_components, check_device, set_threads


@pytest.fixture
def threads():
    before = th.get_num_threads()
    yield
    th.set_num_threads(before)


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 2), (64, 4)])
def test_threads_follow_the_cores(monkeypatch, threads, cores, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert set_threads(None) == th.get_num_threads() == expected


def test_threads_asked_for(monkeypatch, threads):
    th.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert set_threads(None) == 1  # what PyTorch made of the variable
    assert set_threads(3) == th.get_num_threads() == 3


def test_devices():
    assert (check_device("auto"), check_device("cpu")) == ("auto", "cpu")
    with pytest.raises(InputError, match="no device 'cpuu'; there are auto, cpu"):
        check_device("cpuu")


def built(folder, config, n_envs=1):
    path = folder / "my.yml"
    path.write_text(f"default: {config}")
    env = DummyVecEnv([lambda: gym.make("Pendulum-v1")] * n_envs)
    experiment = read_experiment(path, "td3", "Pendulum-v1")
    return build_model(AGENTS["td3"], env, experiment, timesteps=100, seed=3, device="cpu")


def test_the_noise_of_the_zoo_has_its_spread(tmp_path):
    noise = built(tmp_path, "{noise_type: normal, noise_std: 0.2}").action_noise
    assert np.std([noise() for _ in range(5000)]) == pytest.approx(0.2, rel=0.05)


class Still(gym.Env):
    """Shows nothing, for actions of a shape."""

    def __init__(self, shape):
        self.observation_space = gym.spaces.Box(-1, 1, (3,))
        self.action_space = gym.spaces.Box(-2, 3, shape)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        assert np.shape(action) == self.action_space.shape
        return np.zeros(3, np.float32), 0.0, False, False, {}


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("noise", ["normal", "ornstein-uhlenbeck"])
def test_the_noise_of_the_zoo_is_for_actions_of_any_shape(tmp_path, noise, shape, n_envs):
    path = tmp_path / "my.yml"
    small = "learning_starts: 0, gradient_steps: 0, policy_kwargs: {net_arch: [4]}"
    path.write_text(f"default: {{noise_type: {noise}, noise_std: 0.2, {small}}}")
    env = DummyVecEnv([lambda: Still(shape)] * n_envs)
    experiment = read_experiment(path, "td3", "Still")
    model = build_model(AGENTS["td3"], env, experiment, timesteps=20, seed=0, device="cpu")
    model.learn(20)
    made = model.action_noise() if n_envs > 1 else model.action_noise()[None]
    assert made.shape == (n_envs, *shape)
    if noise == "normal":
        draws = np.stack([model.action_noise() for _ in range(2000)])
        assert np.std(draws, axis=0) == pytest.approx(0.2, rel=0.2)


def test_noise_of_the_registry_differs_between_environments(tmp_path):
    noise = built(tmp_path, "{noise: {name: ou, params: {sigma: 0.5, theta: 1}}}", 2).action_noise
    assert type(noise) is PerEnvNoise
    draws = np.stack([noise() for _ in range(2000)])
    assert draws.shape == (2000, 2, 1)
    assert np.std(draws, axis=0) == pytest.approx(0.5, rel=0.1)
    assert abs(np.corrcoef(draws[:, 0, 0], draws[:, 1, 0])[0, 1]) < 0.1


def test_the_config_may_name_policy_and_buffer(tmp_path):
    model = built(tmp_path, "{policy: MlpPolicy}")
    assert type(model.policy) is AGENTS["td3"].policy
    theirs = "stable_baselines3.td3.policies.TD3Policy"
    model = built(tmp_path, f"{{policy: {theirs}, replay_buffer_class: uniform, tau: 0.1}}")
    assert f"{type(model.policy).__module__}.TD3Policy" == theirs
    assert type(model.replay_buffer).__module__ == "pyrl_sb3.buffers.replay"
    assert model.tau == 0.1


def test_scheduled_noise_passes_the_check(tmp_path):
    path = tmp_path / "my.yml"
    path.write_text("default: {noise: normal_0.3..0.1}")
    env = gym.make("Pendulum-v1")
    experiment = read_experiment(path, "td3", "Pendulum-v1")
    check_components(AGENTS["td3"], experiment, env.observation_space, env.action_space)


def test_several_steps_of_keyed_observations(tmp_path):
    path = tmp_path / "my.yml"
    path.write_text("default: {n_steps: 3, gamma: 0.9}")

    def keyed():
        env = gym.make("Pendulum-v1")
        space = gym.spaces.Dict({"seen": env.observation_space})
        return gym.wrappers.TransformObservation(env, lambda seen: {"seen": seen}, space)

    experiment = read_experiment(path, "td3", "Pendulum-v1")
    env = DummyVecEnv([keyed])
    model = build_model(AGENTS["td3"], env, experiment, timesteps=100, seed=3, device="cpu")
    model.learn(120)
    discounts = model.replay_buffer.sample(64).discounts
    assert {round(each, 3) for each in discounts.flatten().tolist()} <= {0.9, 0.81, 0.729}
    assert discounts.min() < 0.73


@pytest.mark.parametrize("agent", ["tqc", "td3"])
def test_terminal_observations_are_kept_as_they_were(tmp_path, agent):
    path = tmp_path / "my.yml"
    path.write_text("default: {policy: MlpPolicy}")
    env = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1", max_episode_steps=5)]))
    experiment = read_experiment(path, agent, "Pendulum-v1")
    model = build_model(AGENTS[agent].stock(), env, experiment, timesteps=9, seed=0, device="cpu")
    infos = []
    model.learn(5, callback=lambda found, _: infos.extend(found["infos"]) or True)
    assert [RAW_TERMINAL in info for info in infos] == [False] * 4 + [True]


def built_for(observations, config, folder, agent="sac"):
    path = folder / "my.yml"
    path.write_text(f"default: {config}")
    experiment = read_experiment(path, agent, "Pendulum-v1")
    actions = gym.make("Pendulum-v1").action_space
    env = DummyVecEnv([lambda: FakeImageEnv(observations, actions)])
    return build_model(AGENTS[agent], env, experiment, timesteps=9, seed=0, device="cpu")


class FakeImageEnv(gym.Env):
    def __init__(self, observations, actions):
        self.observation_space, self.action_space = observations, actions


@pytest.mark.parametrize("agent", ["sac", "tqc"])
def test_a_cnn_that_is_asked_for_is_made_or_refused(tmp_path, agent):
    floats = gym.spaces.Box(0, 1, (3, 36, 36), np.float32)
    with pytest.raises(AssertionError, match="You should use NatureCNN only with images"):
        built_for(floats, "{policy: CnnPolicy, buffer_size: 9}", tmp_path, agent)
    read = "{policy: CnnPolicy, policy_kwargs: {normalize_images: false}, buffer_size: 9}"
    turned = gym.spaces.Box(0, 255, (36, 40, 3), np.uint8)
    for model in (
        built_for(floats, read, tmp_path, agent),
        built_for(turned, "{policy: CnnPolicy, buffer_size: 9}", tmp_path, agent),
        built_for(turned, "{buffer_size: 9}", tmp_path, agent),  # images without a word
    ):
        assert type(model.actor.features_extractor) is NatureCNN
    keyed = gym.spaces.Dict({"image": turned, "seen": gym.spaces.Box(-1, 1, (2,))})
    model = built_for(keyed, "{policy: MlpPolicy, buffer_size: 9}", tmp_path, agent)
    assert set(model.actor.features_extractor.extractors) == {"image", "seen"}


@pytest.mark.parametrize(
    ("keywords", "ours"),
    [
        ("{dtype: float16}", True),
        ("{frame_stack: 3, handle_timeout_termination: false}", True),
        ("{handle_timeout_termination: false}", False),
        ("{}", False),
    ],
)
def test_several_steps_are_in_our_buffer_where_only_it_takes_the_options(tmp_path, keywords, ours):
    model = built(tmp_path, f"{{n_steps: 3, gamma: 0.5, replay_buffer_kwargs: {keywords}}}")
    buffer = model.replay_buffer
    kind = "ReplayBuffer" if ours else "NStepReplayBuffer"
    assert (type(buffer).__name__, buffer.n_steps, buffer.gamma) == (kind, 3, 0.5)
