"""Trying out saved models."""

import shutil

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecNormalize

from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.folders import MODEL
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.run import train
from pyrl_sb3.training.seeds import SeedGroup, write_group
from pyrl_sb3.training.trial import TrialRequest, open_trial, run_meant


class Counted(gym.Env):
    """Knows how many of it are open."""

    observation_space = action_space = gym.spaces.Box(-1, 1, (1,))
    open = 0

    def __init__(self):
        Counted.open += 1

    def reset(self, **_):
        return np.zeros(1, np.float32), {}

    def close(self):
        Counted.open -= 1


@pytest.fixture
def counted():
    gym.register("Counted-v0", Counted)
    yield
    del gym.registry["Counted-v0"]


@pytest.mark.parametrize("agent", ["sac", "her-sac"])
def test_environments_are_closed_when_a_trial_cannot_be(agent, counted, tmp_path):
    (tmp_path / "model.zip").write_text("no model")
    with pytest.raises(InputError):
        open_trial(TrialRequest(agent=agent, env_id="Counted-v0", path=tmp_path / "model.zip"))
    assert Counted.open == 0


@pytest.fixture
def runs(tmp_path):
    """A run, a group of two seeds of which one has a model, a group and a run that have none."""
    request = TrainingRequest(agent="sac", env_id="A-v0", timesteps=9)
    found = [tmp_path / f"A-v0_{number}" for number in range(1, 5)]
    for run in found:
        run.mkdir()
    for folder in found[1:3]:
        write_group(SeedGroup(folder=folder, seeds=(0, 1), request=request))
        (folder / "seed_1").mkdir()
    (found[0] / MODEL).touch()
    (found[1] / "seed_1" / MODEL).touch()
    return found


def test_the_latest_run_that_has_a_model_is_meant_also_where_it_is_of_several_seeds(runs, caplog):
    caplog.set_level("INFO", "pyrl_sb3")
    root = runs[0].parent
    assert run_meant(root, "A-v0") == runs[1] / "seed_1"
    first, second = caplog.messages
    assert first == f"{runs[3]} has no model.zip yet: that of {runs[1]} is taken"
    assert second == f"{runs[1]}: several seeds; seed_1 is the best by its last evaluation"
    (runs[3] / MODEL).touch()
    assert run_meant(root, "A-v0") == runs[3]
    assert run_meant(runs[0], "A-v0") == runs[0]
    assert caplog.messages == [first, second]


def test_a_group_that_is_named_and_has_no_model_is_not_passed_over(runs):
    with pytest.raises(InputError, match=r"no seed of .*A-v0_3 has a model\.zip yet"):
        run_meant(runs[2], "A-v0")


def test_runs_of_which_none_has_a_model_are_their_folder(tmp_path):
    (tmp_path / "A-v0_1").mkdir()
    assert run_meant(tmp_path, "A-v0") == tmp_path
    assert run_meant(tmp_path / "A-v0_1", "A-v0") == tmp_path / "A-v0_1"


@pytest.mark.parametrize("copies", [False, True], ids=["a run", "copies"])
def test_an_environment_that_a_config_could_not_hold_is_no_text(copies, tmp_path):
    run = tmp_path / "seed_3" if copies else tmp_path
    run.mkdir(exist_ok=True)
    if copies:  # one model of all, with the config of one
        request = TrainingRequest(agent="sac", env_id="Pendulum-v1", timesteps=9)
        write_group(SeedGroup(folder=tmp_path, seeds=(3, 4), request=request, couples_seeds=True))
    (tmp_path / "config.yml").write_text("default: {env_kwargs: {g: Decimal('9')}, gamma: 0.9}")
    (tmp_path / MODEL).touch()
    asked = TrialRequest(agent="sac", env_id="Pendulum-v1", path=tmp_path / MODEL)
    facts = run / "run.yml"
    request = "request: {agent: sac, env_id: Pendulum-v1}"
    facts.write_text(f"unwritable: {{env_kwargs: Decimal('9')}}\n{request}")
    with pytest.raises(InputError, match="env_kwargs has \"Decimal\\('9'\\)\" of a Python file"):
        open_trial(asked)
    facts.write_text("unwritable: 9")
    with pytest.raises(InputError, match=f"{facts} cannot be read as a run's: it has another form"):
        open_trial(asked)


def ended_early(tmp_path, save=None):
    """A run whose episodes have 7 steps and normalised observations."""
    overrides = (
        "policy_kwargs={net_arch: [4]}",
        "env_kwargs={max_episode_steps: 7}",
        "normalize=true",
    )
    asked = {"agent": "sac", "env_id": "Pendulum-v1", "seed": 0, "eval_freq": 0, "timesteps": 20}
    places = {"save": save or tmp_path, "save_freq": 20}
    return train(TrainingRequest(**asked, **places, eval_episodes=1, overrides=overrides)).folder


def tried_as_trained(path):
    _, env = open_trial(TrialRequest(agent="sac", env_id="Pendulum-v1", path=path))
    env.close()
    return env.get_attr("spec")[0].max_episode_steps == 7 and isinstance(env, VecNormalize)


@pytest.mark.parametrize("part", ["checkpoints/step_20", "checkpoints/step_20/model.zip"])
def test_checkpoints_are_tried_out_in_the_environment_of_their_run(tmp_path, part):
    run = ended_early(tmp_path)
    assert tried_as_trained(run / part)
    (tmp_path / "latest").symlink_to(run / "checkpoints" / "step_20")
    assert tried_as_trained(tmp_path / "latest")


def test_a_folder_of_runs_may_be_called_checkpoints(tmp_path):
    (tmp_path / "config.yml").write_text("default: {env_kwargs: {max_episode_steps: 5}}")
    run = ended_early(tmp_path, tmp_path / "checkpoints")
    assert tried_as_trained(run)


def test_checkpoints_of_no_run_have_the_packaged_config(tmp_path, monkeypatch):
    """As `Checkpoints(Path("checkpoints"))` writes them, beside a config of something else."""
    (tmp_path / "config.yml").write_text("Ant-v5: {n_timesteps: 5}")
    run = ended_early(tmp_path)
    shutil.copytree(run / "checkpoints", tmp_path / "checkpoints")
    assert not tried_as_trained(tmp_path / "checkpoints" / "step_20")
