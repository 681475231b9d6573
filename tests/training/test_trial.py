"""Trying out saved models."""

import gymnasium as gym
import numpy as np
import pytest

from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.trial import TrialRequest, open_trial


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
