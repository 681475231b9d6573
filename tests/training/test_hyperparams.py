"""The packaged hyperparameters, and configs in their place."""

from dataclasses import replace

import gymnasium as gym
import pytest
import yaml

from pyrl_sb3.config import ConfigError, read_experiment
from pyrl_sb3.config.entries import WITH_DEMONSTRATIONS
from pyrl_sb3.plugins.environments import plugin_spec
from pyrl_sb3.training.agents import AGENTS
from pyrl_sb3.training.environments import register_installed
from pyrl_sb3.training.hyperparams import experiment_of, for_goals, packaged_config
from pyrl_sb3.training.request import TrainingRequest

ENTRIES = [
    (name, entry) for name in AGENTS for entry in yaml.safe_load(packaged_config(name).read_text())
]

# Their observations are in [-1, 1], or nearly, already.
SCALED = {"BitFlipping-v0", "parking-v0"}


@pytest.mark.parametrize(("agent", "entry"), ENTRIES)
def test_an_entry_is_complete(agent, entry):
    register_installed()
    env_id = entry.removesuffix(WITH_DEMONSTRATIONS)
    assert env_id == "default" or env_id in gym.registry or plugin_spec(env_id).id == env_id
    experiment = read_experiment(packaged_config(agent), agent, entry)
    assert experiment.n_timesteps > experiment.arguments["learning_starts"]
    if agent.startswith("her-"):
        usual = {"norm_reward": False, "clip_obs": 5.0}
        assert experiment.given["normalize"] == (False if entry in SCALED else usual)


def test_goals_are_normalised_unless_the_config_says_how():
    request = TrainingRequest(agent="sac", env_id="Nowhere-v0", overrides=("gamma=0.5",))
    assert experiment_of(request).normalize is None
    usual = {"norm_reward": False, "clip_obs": 5.0}
    experiment = for_goals(experiment_of(request))
    assert experiment.normalize == {**usual, "gamma": 0.5}
    assert experiment.given["normalize"] == usual
    request = TrainingRequest(agent="sac", env_id="Nowhere-v0", overrides=("normalize=false",))
    assert for_goals(experiment_of(request)).normalize is None


def test_noise_of_the_command_line_is_what_set_says_of_it_a_mapping_too():
    request = TrainingRequest(agent="td3", env_id="Nowhere-v0")
    mapping = "{name: ou, params: {theta: 0.2}}"
    short, long = replace(request, noise=mapping), replace(request, overrides=(f"noise={mapping}",))
    assert experiment_of(short).noise.params["theta"] == 0.2
    assert experiment_of(short).given == experiment_of(long).given
    with pytest.raises(ConfigError, match=r"^--noise:1: expected"):
        experiment_of(replace(request, noise="{name: ou"))
