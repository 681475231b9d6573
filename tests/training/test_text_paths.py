"""Paths may be text, as everywhere in SB3."""

import gymnasium as gym
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import pyrl_sb3
from pyrl_sb3.config import read_experiment
from pyrl_sb3.plugins import saved
from pyrl_sb3.training.agents import AGENTS
from pyrl_sb3.training.checkpoints import Checkpoints
from pyrl_sb3.training.demos import record
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.loading import load_model
from pyrl_sb3.training.normalization import load_statistics
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.resume import resume
from pyrl_sb3.training.run import train
from pyrl_sb3.training.trial import TrialRequest, try_out

CONFIG = """
default: {policy: MlpPolicy, normalize: true, buffer_size: 300, policy_kwargs: {net_arch: [4]}}
"""


def test_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yml").write_text(CONFIG)
    assert read_experiment("c.yml", "td3", "Pendulum-v1").arguments["buffer_size"] == 300
    asked = {"agent": "td3", "env_id": "Pendulum-v1", "config": "c.yml", "eval_episodes": 1}
    result = train(TrainingRequest(**asked, timesteps=200, seed=0, save="runs"))
    assert train(TrainingRequest(**asked, timesteps=9, folder="mine")).folder.samefile("mine")
    run = "runs/Pendulum-v1_1"
    assert result.folder.samefile(run)
    assert resume(run, timesteps=300).timesteps == 300
    assert try_out(TrialRequest(agent="td3", env_id="Pendulum-v1", path=run, episodes=1))
    assert record("Pendulum-v1", run, "demos.npz", episodes=1).kept == 1
    env = DummyVecEnv([lambda: gym.make("Pendulum-v1")])
    normalized = load_statistics(f"{run}/model.zip", env)
    assert normalized.obs_rms.count > 200
    assert load_model(f"{run}/model.zip", AGENTS["td3"], normalized, "cpu").num_timesteps == 300
    assert load_model(f"{run}/model", "td3", normalized, "cpu").num_timesteps == 300
    with pytest.raises(InputError, match=r"_1 is a folder: give .*_1/model\.zip$"):
        load_statistics(run, env)
    with pytest.raises(InputError, match=r"^runs/Pendulum-v1_1/modle cannot be read: "):
        load_model(f"{run}/modle", "td3", normalized, "cpu")
    with pytest.raises(InputError, match=r"'td4'.*did you mean td3"):
        load_model(f"{run}/model", "td4", normalized, "cpu")


def test_models_with_a_dot_in_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = pyrl_sb3.TD3("MlpPolicy", "Pendulum-v1", buffer_size=100)
    saved.save(model, "td3_0.5.zip", ())
    env = DummyVecEnv([lambda: gym.make("Pendulum-v1")])
    VecNormalize(env).save("td3_0.5.pkl")
    assert isinstance(load_statistics("td3_0.5", env), VecNormalize)
    assert load_model("td3_0.5", "td3", env, "cpu").num_timesteps == 0
    assert saved.load("td3_0.5").num_timesteps == 0


def test_a_run_from_within_its_folder(tmp_path, monkeypatch):
    asked = {"agent": "td3", "env_id": "Pendulum-v1"}
    run = train(TrainingRequest(**asked, timesteps=9, save=tmp_path, eval_episodes=1)).folder
    monkeypatch.chdir(run)
    env = DummyVecEnv([lambda: gym.make("Pendulum-v1")])
    with pytest.raises(InputError, match=r"^\. is a folder: give the model's file"):
        load_statistics(".", env)
    for path in (".", ""):
        assert len(try_out(TrialRequest(**asked, path=path, episodes=1)).returns) == 1
    with pytest.raises(InputError, match=r"^no model of .* in /"):
        try_out(TrialRequest(**asked, path="/", episodes=1))


def test_checkpoints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = gym.make("Pendulum-v1", max_episode_steps=10)
    model = pyrl_sb3.TD3("MlpPolicy", env, learning_starts=100, buffer_size=100)
    model.learn(20, callback=Checkpoints("checkpoints", save_freq=10, logs_of="."))
    assert Checkpoints("checkpoints").resume(model)
