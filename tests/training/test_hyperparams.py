"""The packaged hyperparameters: every entry is one that its algorithm can take."""

import inspect

import gymnasium as gym
import pytest

from pyrl_sb3.training.agents import AGENTS
from pyrl_sb3.training.environments import register_installed
from pyrl_sb3.training.hyperparams import hyperparameters, hyperparameters_file
from pyrl_sb3.training.models import action_noise

ENTRIES = [(name, entry) for name in AGENTS for entry in hyperparameters_file(name)]
# Read by the training itself.
OURS = {"n_timesteps", "normalize", "noise_type", "noise_std"}


@pytest.mark.parametrize(("agent", "entry"), ENTRIES)
def test_an_entry_is_complete(agent, entry):
    register_installed()
    assert entry == "default" or entry in gym.registry
    parameters, found = hyperparameters(agent, entry)
    assert found == entry
    known = set(inspect.signature(AGENTS[agent].algorithm).parameters)
    assert set(parameters) - OURS <= known
    assert int(parameters["n_timesteps"]) > int(parameters["learning_starts"])
    if "noise_type" in parameters:
        noise = action_noise(parameters["noise_type"], parameters["noise_std"], 3)
        assert noise().shape == (3,)
    if agent.startswith("her-"):
        assert parameters["normalize"] == {"norm_reward": False, "clip_obs": 5.0}


def test_an_unknown_environment_takes_the_default():
    assert hyperparameters("sac", "Nowhere-v0") == (
        hyperparameters_file("sac")["default"],
        "default",
    )
