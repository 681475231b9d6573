"""Images as environments have them, with the colours last: SB3 turns them for its networks."""

from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize, VecTransposeImage

from pyrl_sb3.algorithms import TD3
from pyrl_sb3.buffers import DictReplayBuffer
from pyrl_sb3.buffers.demofiles import load_demonstrations
from pyrl_sb3.cli.app import run
from pyrl_sb3.training import hyperparams
from pyrl_sb3.training import run as training
from pyrl_sb3.training.checkpoints import Checkpoints
from pyrl_sb3.training.normalization import normalized
from pyrl_sb3.training.trial import TrialRequest, open_trial


class Screen(gym.Env):
    """
    Shows noise for five steps; `keyed` beside a number, `goal` beside a goal and a count too,
    `turned` beside itself with the colours first.
    """

    def __init__(self, keyed=False, goal=False, turned=False):
        self.image = gym.spaces.Box(0, 255, (36, 36, 3), np.uint8)
        number = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.observation_space = self.image
        if keyed:
            self.observation_space = gym.spaces.Dict({"screen": self.image, "number": number})
        if turned:
            other = gym.spaces.Box(0, 255, (3, 36, 36), np.uint8)
            self.observation_space = gym.spaces.Dict({"screen": self.image, "turned": other})
        if goal:
            keys = dict.fromkeys(("observation", "achieved_goal", "desired_goal"), number)
            keys |= {"screen": self.image, "count": gym.spaces.Discrete(3)}
            self.observation_space = gym.spaces.Dict(keys)
        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def compute_reward(self, achieved, desired, info):
        return np.ones(len(achieved))

    def step(self, action):
        self.steps += 1
        return self.observation_space.sample(), 1.0, False, self.steps == 5, {}


class Layouts(BaseCallback):
    """Keeps how observations lie in memory where rollouts begin, by the steps there were."""

    keeps_state = False

    def __init__(self):
        super().__init__()
        self.strides = {}

    def _on_step(self):
        return True

    def _on_rollout_start(self):
        last = self.model._last_obs
        keyed = last if isinstance(last, dict) else {"": last}
        strides = {key: values.strides for key, values in keyed.items()}
        self.strides[self.model.num_timesteps] = strides


@pytest.mark.parametrize("keyed", [False, True])
def test_what_goes_on_from_a_checkpoint_has_images_in_the_same_layout(keyed, tmp_path):
    """Convolutions round otherwise where images of several environments lie in other ways."""
    seen = []
    for steps in (40, 60):
        env = DummyVecEnv([partial(Screen, keyed)] * 2)
        sizes = {"buffer_size": 50, "policy_kwargs": {"net_arch": [4]}, "device": "cpu"}
        model = TD3("MultiInputPolicy" if keyed else "CnnPolicy", env, **sizes)
        checkpoints, layouts = Checkpoints(tmp_path, save_freq=10), Layouts()
        begun = checkpoints.resume(model)
        assert begun == bool(seen)
        left = steps - model.num_timesteps
        model.learn(left, [checkpoints, layouts], reset_num_timesteps=not begun)
        seen.append(layouts.strides)
    went_on, resumed = seen
    at = min(resumed)
    assert at >= 30
    assert went_on[at] == resumed[at]


def asked(*settings):
    words = ["--timesteps", "12", "--eval-freq", "6", "--eval-episodes", "1", "--threads", "1"]
    usual = "learning_starts=8", "batch_size=2", "buffer_size=20", "policy_kwargs.net_arch=[4]"
    for setting in (*usual, *settings):
        words += ["--set", setting]
    return words


def normalization(folder):
    return yaml.safe_load(Path(folder, "config.yml").read_text())["default"]["normalize"]


@pytest.fixture
def env_id():
    gym.register("Screen-v0", Screen)
    yield "Screen-v0"
    del gym.registry["Screen-v0"]


@pytest.mark.parametrize("keyed", [False, True])
def test_training_on_them_comes_to_its_end_and_is_tried_out(
    keyed, env_id, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    words = asked(f"env_kwargs={{keyed: {keyed}}}")
    assert run(["td3-train", env_id, *words]) == 0, capsys.readouterr().err
    assert "final evaluation: return 5.00 ± 0.00, length 5.0 steps" in capsys.readouterr().out
    assert run(["td3-train", "--resume", "td3/Screen-v0_1", "--timesteps", "16"]) == 0
    for words in (["td3-test", env_id], ["evaluate", "td3"]):
        capsys.readouterr()
        assert run([*words, "--episodes", "1"]) == 0
        assert "return 5.00 ± 0.00, length 5.0 steps" in capsys.readouterr().out


REWARDS = "normalize={norm_obs: false}"
KEY = "normalize={norm_obs_keys: [number]}"
NORMALIZED = {
    "rewards": (["td3-train"], [REWARDS]),
    "rewards, in SB3's": (["td3-train", "--stock"], [REWARDS]),
    "a key": (["td3-train"], [KEY, "env_kwargs={keyed: true}"]),
    "stacks": (["td3-train"], ["normalize=true", "env_kwargs={keyed: true}", "frame_stack=2"]),
}


@pytest.mark.parametrize("case", NORMALIZED)
def test_images_beside_what_is_normalised_are_turned_too(
    case, env_id, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (command, *options), settings = NORMALIZED[case]
    assert run([command, env_id, *options, *asked(*settings)]) == 0, capsys.readouterr().err
    assert run([command, "--resume", "td3/Screen-v0_1", "--timesteps", "16"]) == 0
    for trust in (False, True):
        request = TrialRequest(agent="td3", env_id=env_id, seed=3, device="cpu", trust=trust)
        model, env = open_trial(request)
        space = model.observation_space
        image = space if case.startswith("rewards") else space["screen"]
        assert (image.shape[1:], image.dtype) == ((36, 36), np.uint8)
        model.predict(env.reset())
        env.close()


def test_images_are_stored_as_they_are_shown_under_vecnormalize():
    shown = []
    screen = Screen(keyed=True)
    step = screen.step
    screen.step = lambda action: shown.append(step(action)) or shown[-1]
    env = normalized(DummyVecEnv([lambda: screen]), norm_obs_keys=["number"], clip_obs=0.01)
    settings = {"buffer_size": 20, "learning_starts": 99, "policy_kwargs": {"net_arch": [4]}}
    model = TD3("MultiInputPolicy", env, replay_buffer_class=DictReplayBuffer, **settings)
    model.learn(12)
    after = model.replay_buffer.sample_at(np.arange(12), np.zeros(12, int)).next_observations
    screens = after["screen"].numpy().transpose(0, 2, 3, 1)
    assert np.array_equal(screens, [each[0]["screen"] for each in shown])
    assert np.array_equal(after["number"], [each[0]["number"] for each in shown])


def test_vecnormalize_around_images_that_are_not_turned_is_refused_with_advice():
    settings = {"buffer_size": 20, "learning_starts": 99, "policy_kwargs": {"net_arch": [4]}}
    plain = DummyVecEnv([Screen])
    model = TD3("CnnPolicy", VecNormalize(plain, norm_obs=False), **settings)
    model.predict(plain.reset())
    with pytest.raises(
        ValueError, match=r"last: VecNormalize\(VecTransposeImage\(env\), \.\.\.\)$"
    ):
        model.learn(6)
    env = VecNormalize(VecTransposeImage(plain), norm_obs=False)
    TD3("CnnPolicy", env, **settings).learn(6)
    TD3("MlpPolicy", VecNormalize(plain), **settings).learn(6)  # images no longer


def test_demonstrations_of_a_normalised_agent_have_images_as_they_are_shown(
    env_id, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run(["td3-train", env_id, *asked(KEY, "env_kwargs={keyed: true}")]) == 0
    words = ["demos", "record", env_id, "--policy", "td3/Screen-v0_1", "--episodes", "1"]
    assert run([*words, "--out", "demos.npz"]) == 0, capsys.readouterr().err
    demonstrations = load_demonstrations(tmp_path / "demos.npz")
    screens = demonstrations.episodes[0].observations["screen"]
    assert (screens.shape, screens.dtype) == ((6, 36, 36, 3), np.uint8)
    demonstrations.check(Screen(keyed=True).observation_space, Screen().action_space, env_id)


def test_by_default_goals_are_normalised_and_images_and_counts_are_not(
    env_id, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run(["her-td3-train", env_id, *asked("env_kwargs={goal: true}")]) == 0, (
        capsys.readouterr().err
    )
    config = normalization("her-td3/Screen-v0_1")
    keys = ["achieved_goal", "desired_goal", "observation"]
    assert sorted(config.pop("norm_obs_keys")) == keys
    assert config == {"norm_reward": False, "clip_obs": 5.0}
    model, env = open_trial(TrialRequest(agent="her-td3", env_id=env_id, device="cpu"))
    env.close()
    assert type(model.actor.features_extractor.extractors["screen"]) is NatureCNN
    assert run(["her-td3-train", "--resume", "her-td3/Screen-v0_1", "--timesteps", "16"]) == 0
    words = asked("env_kwargs={goal: true}", "normalize={norm_obs_keys: [observation]}")
    assert run(["her-td3-train", env_id, *words]) == 0
    config = normalization("her-td3/Screen-v0_2")
    assert config == {"norm_obs_keys": ["observation"]}


def test_a_run_begun_with_normalised_images_goes_on_with_them(
    env_id, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    words = asked("env_kwargs={keyed: true}", "normalize={norm_reward: false}", "gamma=0.9")
    with monkeypatch.context() as before:
        before.setattr(training, "with_normalized_keys", lambda experiment, _: experiment)
        assert run(["td3-train", env_id, *words]) == 0, capsys.readouterr().err
    assert run(["td3-train", "--resume", "td3/Screen-v0_1", "--timesteps", "16"]) == 0
    model, env = open_trial(TrialRequest(agent="td3", env_id=env_id, device="cpu"))
    env.close()
    assert model.observation_space["screen"].dtype == np.float32
    assert model.num_timesteps == 16


def test_spaces_of_environments_stay_as_they_were_under_vecnormalize():
    env = DummyVecEnv([lambda: Screen(keyed=True)])
    assert normalized(env).observation_space["screen"].dtype == np.float32
    assert env.envs[0].observation_space["screen"].dtype == np.uint8


def test_images_that_are_not_turned_alike_are_normalised(env_id, tmp_path, monkeypatch, capsys):
    """SB3 turns all images or none: what no network would take as images has none."""
    monkeypatch.chdir(tmp_path)
    words = asked("env_kwargs={turned: true}", "normalize=true")
    assert run(["td3-train", env_id, *words]) == 0, capsys.readouterr().err
    model, env = open_trial(TrialRequest(agent="td3", env_id=env_id, device="cpu"))
    env.close()
    kinds = {str(space.dtype) for space in model.observation_space.values()}
    assert kinds == {"float32"}


def test_keys_to_normalise_that_are_not_there_are_named(env_id, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = asked("env_kwargs={keyed: true}", "normalize={norm_obs_keys: [numbr]}")
    assert run(["td3-train", env_id, *words]) == 2
    said = "pyrl: norm_obs_keys: observations have no 'numbr'; did you mean number?\n"
    assert capsys.readouterr().err == said


def test_keys_are_not_looked_at_where_no_observations_are_normalised():
    env = DummyVecEnv([lambda: Screen(keyed=True)])
    assert not normalized(env, norm_obs=False, norm_obs_keys=["numbr"]).norm_obs


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        (["normalize=true"], ["number"]),
        (["normalize=true", "policy_kwargs.normalize_images=false"], None),
        (["normalize={norm_obs: false}"], None),
        (["normalize=false"], None),
    ],
)
def test_what_is_normalised_of_dictionaries(settings, keys):
    request = training.TrainingRequest(agent="sac", env_id="No-v0", overrides=tuple(settings))
    experiment = hyperparams.experiment_of(request)
    space = Screen(keyed=True).observation_space
    found = hyperparams.with_normalized_keys(experiment, space)
    assert (found.normalize or {}).get("norm_obs_keys") == keys
    assert (found is experiment) == (keys is None)
