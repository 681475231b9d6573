"""Runs of RL Zoo: their agents act with the statistics and settings that lie beside them."""

from collections import OrderedDict
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
import yaml
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from pyrl_sb3 import ReplayBuffer
from pyrl_sb3.config import ConfigError, read_experiment
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.facts import FACTS, check_run
from pyrl_sb3.training.folders import find_statistics, model_in, zoo_settings
from pyrl_sb3.training.recorded import runs_within
from pyrl_sb3.training.trial import TrialRequest, try_out
from pyrl_sb3.training.zoo_runs import environment_asked_for

ENV = "Pendulum-v1"
STEPS = 20
SETTINGS = {
    "buffer_size": 1000,
    "env_wrapper": [{"gymnasium.wrappers.TimeLimit": {"max_episode_steps": STEPS}}],
    "gamma": 0.9,
    "n_timesteps": 400.0,
    "policy": "MlpPolicy",
    "policy_kwargs": "dict(net_arch=[8])",
}


def environment(gravity, frames=None):
    """As `SETTINGS` have it, with short episodes."""

    def make():
        env = gym.wrappers.TimeLimit(gym.make(ENV, g=gravity), max_episode_steps=STEPS)
        return Monitor(env)

    env = DummyVecEnv([make])
    return VecFrameStack(env, frames) if frames else env


def zoo_run(folder, env, settings=SETTINGS, **asked):
    """Write what `rl_zoo3.train` leaves of a training."""
    model = SAC("MlpPolicy", env, policy_kwargs={"net_arch": [8]}, buffer_size=100, seed=0)
    model.learn(90)
    beside = folder / ENV
    beside.mkdir(parents=True)
    model.save(folder / ENV)
    model.save(folder / "best_model")
    if isinstance(env, VecNormalize):
        env.save(str(beside / "vecnormalize.pkl"))
    np.savez(folder / "evaluations.npz", timesteps=[90], results=[[0.0]], ep_lengths=[[STEPS]])
    asked = {"algo": "sac", "env": ENV, "env_kwargs": None, "eval_env_kwargs": None, **asked}
    for name, content in (("config.yml", settings), ("args.yml", asked)):
        (beside / name).write_text(yaml.dump(OrderedDict(sorted(content.items()))))
    return model


@pytest.mark.parametrize(
    ("name", "is_zoos"),
    [
        (f"{ENV}_1", True),
        (f"{ENV}_1_8f14e45f-ceea", True),  # with --uuid
        (f"{ENV}_1_old", True),
        (f"{ENV}_old", False),
        ("runs", False),
    ],
)
def test_whose_run_a_folder_is(tmp_path, name, is_zoos):
    (tmp_path / name / ENV).mkdir(parents=True)
    (tmp_path / name / ENV / "config.yml").write_text("default: {}")
    assert (zoo_settings(tmp_path / name) is not None) == is_zoos


@pytest.mark.parametrize("name", [f"{ENV}_1", f"{ENV}_12_uuid", "renamed"])
def test_models_and_statistics_are_where_the_zoo_or_we_write_them(tmp_path, name):
    run = tmp_path / name
    (run / ENV).mkdir(parents=True)
    (run / ENV / "config.yml").touch()
    model, theirs, ours = run / f"{ENV}.zip", run / ENV / "vecnormalize.pkl", run / f"{ENV}.pkl"
    assert find_statistics(model) == (ours if name == "renamed" else theirs)
    assert model_in(run) is None
    model.touch()
    assert (model_in(run), find_statistics(model)) == (model, theirs)
    ours.touch()
    assert find_statistics(model) == ours
    (run / "model.zip").touch()
    assert model_in(run) == run / "model.zip"


def by_hand(model, env):
    if isinstance(env, VecNormalize):
        env.training = env.norm_reward = False
    env.seed(0)
    return evaluate_policy(model, env, 3, return_episode_rewards=True)[0]


def returns(path, **wanted):
    request = TrialRequest(agent="sac", env_id=ENV, path=path, episodes=3, **wanted)
    return try_out(request).returns.tolist()


@pytest.fixture
def run(tmp_path):
    return tmp_path / "logs" / "sac" / f"{ENV}_1"


@pytest.mark.parametrize("path", ["", f"{ENV}.zip", "best_model.zip", ".."])
def test_statistics_and_arguments_of_the_environment_are_used(run, path, caplog):
    caplog.set_level("INFO")
    env = VecNormalize(environment(gravity=5.0), gamma=0.9)
    model = zoo_run(run, env, {**SETTINGS, "normalize": True}, env_kwargs={"g": 5.0})
    expected = by_hand(model, env)
    assert expected != by_hand(model, environment(gravity=5.0))
    assert expected != by_hand(
        model, VecNormalize.load(run / ENV / "vecnormalize.pkl", environment(gravity=10.0))
    )
    assert returns(run / path) == expected
    (said,) = (line for line in caplog.messages if "RL Zoo" in line)
    assert said.endswith(f"{ENV}/: args.yml, config.yml, vecnormalize.pkl")


def test_the_command_line_of_the_zoo_comes_before_its_config(run):
    settings = {**SETTINGS, "env_kwargs": {"g": 1.0}}
    model = zoo_run(run, environment(gravity=1.0), settings)
    assert returns(run) == by_hand(model, environment(gravity=1.0))
    (run / ENV / "args.yml").write_text(yaml.dump(OrderedDict(env_kwargs={"g": 5.0})))
    assert returns(run) == by_hand(model, environment(gravity=5.0))


def test_the_command_line_of_the_zoo_need_not_be_there_nor_name_arguments(tmp_path):
    args = tmp_path / "args.yml"
    assert environment_asked_for(tmp_path) == []
    args.write_text("env_kwargs: null\n")
    assert environment_asked_for(tmp_path) == []
    args.write_text("env_kwargs: {g: 3}\n")
    (found,) = environment_asked_for(tmp_path)
    assert (found.path, found.value, found.where) == (
        ("env_kwargs",),
        {"g": 3},
        f"{args}: env_kwargs",
    )
    args.write_text("[1]")
    with pytest.raises(InputError, match=r"args\.yml: must map the options of a command to"):
        environment_asked_for(tmp_path)


def test_frames_are_stacked(run):
    model = zoo_run(run, environment(10.0, frames=2), {**SETTINGS, "frame_stack": 2})
    assert returns(run) == by_hand(model, environment(10.0, frames=2))


def test_what_is_missing_or_not_used_is_said(run, caplog):
    caplog.set_level("INFO")
    zoo_run(run, environment(10.0), {**SETTINGS, "normalize": True}, eval_env_kwargs={"g": 1.0})
    returns(run)
    assert "eval_env_kwargs are not used" in caplog.text
    assert "vecnormalize.pkl is not there" in caplog.text


def test_a_run_without_its_last_model_names_those_that_are_there(run):
    zoo_run(run, environment(10.0))
    (run / f"{ENV}.zip").unlink()
    with pytest.raises(InputError, match=r"_1; there are best_model\.zip;"):
        returns(run)


@pytest.mark.parametrize("name", ["args.yml", "config.yml"])
def test_their_files_run_no_code(run, name, monkeypatch):
    monkeypatch.chdir(run.parents[2])
    zoo_run(run, environment(10.0))
    with (run / ENV / name).open("a") as file:
        file.write("- - - env_kwargs\n    - !!python/object/apply:os.system ['touch canary']\n")
    for trust in (False, True):
        with pytest.raises(ConfigError, match="tag '!!python/object/apply:"):
            returns(run, trust=trust)
    assert not Path("canary").exists()


def as_zoo(where, settings):
    """Write a config with the classes that the zoo has made of a Python file's or of `-params`."""
    where.write_text(yaml.dump(OrderedDict(sorted(settings.items()))))


def test_names_of_classes_in_their_files_are_read(run):
    env = environment(10.0)
    expected = by_hand(zoo_run(run, env), env)
    networks = {"net_arch": [8], "activation_fn": th.nn.ELU}
    settings = {**SETTINGS, "replay_buffer_class": ReplayBuffer, "policy_kwargs": networks}
    config = run / ENV / "config.yml"
    as_zoo(config, settings)
    assert "!!python/name:pyrl_sb3.buffers.replay.ReplayBuffer" in config.read_text()
    assert returns(run) == expected
    arguments = read_experiment(config, "sac", ENV).arguments
    assert arguments["replay_buffer_class"] is ReplayBuffer
    assert arguments["policy_kwargs"] == networks


def test_names_of_other_packages_need_trust(run):
    env = environment(10.0)
    expected = by_hand(zoo_run(run, env), env)
    as_zoo(run / ENV / "config.yml", {**SETTINGS, "replay_buffer_class": Mine})
    with pytest.raises(ConfigError, match=r"test_zoo_runs\.Mine' is not read; pass --trust if you"):
        returns(run)
    assert returns(run, trust=True) == expected


class Mine(ReplayBuffer):
    pass


def test_a_training_takes_their_config(run, tmp_path):
    zoo_run(run, environment(10.0), {**SETTINGS, "normalize": True})
    config = run / ENV / "config.yml"
    experiment = read_experiment(config, "sac", ENV, overrides=["tau=0.1"])
    assert experiment.arguments["policy_kwargs"] == {"net_arch": [8]}
    assert (experiment.n_timesteps, experiment.source) == (400, str(config))
    assert experiment.normalize == {"gamma": 0.9}
    config.write_text("gamma: 9\nn_timesteps: 400\n")
    with pytest.raises(ConfigError, match=r"config\.yml:1: gamma: must be from 0 to 1, not 9"):
        read_experiment(config, "sac", ENV)


@pytest.mark.parametrize("chosen", [{}, {"use_sde": True}])
def test_use_sde_that_sb3_adds_to_policy_kwargs_is_read(run, chosen):
    """The zoo writes its config after SB3 has had the mapping."""
    keywords = {"net_arch": [8]}
    SAC("MlpPolicy", ENV, policy_kwargs=keywords, buffer_size=10, **chosen)
    assert keywords == {"net_arch": [8], "use_sde": bool(chosen)}
    zoo_run(run, environment(10.0), {**SETTINGS, **chosen, "policy_kwargs": keywords})
    arguments = read_experiment(run / ENV / "config.yml", "sac", ENV).arguments
    assert arguments["policy_kwargs"] == {"net_arch": [8]}
    assert arguments.get("use_sde") == chosen.get("use_sde")


@pytest.mark.parametrize("read", [check_run, runs_within])
@pytest.mark.parametrize("path", ["", "..", ENV])
def test_commands_for_runs_say_what_can_be_done_with_one(run, path, read):
    zoo_run(run, environment(10.0))
    with pytest.raises(InputError) as caught:
        read((run / path).resolve())
    said, config = str(caught.value), run / ENV / "config.yml"
    assert said.startswith(f"{run} is a run of RL Zoo, without run.yml: ")
    assert f"`pyrl sac-test {ENV} {run}` tries" in said
    assert f"`pyrl sac-train {ENV} --config {config}` trains" in said


def test_a_run_is_one_whatever_lies_in_it(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / FACTS).touch()
    assert runs_within(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    (tmp_path / FACTS).touch()
    assert runs_within(tmp_path) == [tmp_path]
