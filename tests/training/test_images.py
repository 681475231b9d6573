"""Images as environments have them, with the colours last: SB3 turns them for its networks."""

import gymnasium as gym
import numpy as np
import pytest

from pyrl_sb3.cli.app import run


class Screen(gym.Env):
    """Shows noise for five steps; `keyed` beside a number."""

    def __init__(self, keyed=False):
        self.image = gym.spaces.Box(0, 255, (36, 36, 3), np.uint8)
        number = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.observation_space = self.image
        if keyed:
            self.observation_space = gym.spaces.Dict({"screen": self.image, "number": number})
        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.sample(), 1.0, False, self.steps == 5, {}


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
    words = ["--timesteps", "12", "--eval-freq", "6", "--eval-episodes", "1", "--threads", "1"]
    for setting in (
        *("learning_starts=8", "batch_size=2", "buffer_size=20", f"env_kwargs={{keyed: {keyed}}}"),
        "policy_kwargs.net_arch=[4]",
    ):
        words += ["--set", setting]
    assert run(["td3-train", env_id, *words]) == 0, capsys.readouterr().err
    assert "final evaluation: return 5.00 ± 0.00, length 5.0 steps" in capsys.readouterr().out
    assert run(["td3-train", "--resume", "td3/Screen-v0_1", "--timesteps", "16"]) == 0
    for words in (["td3-test", env_id], ["evaluate", "td3"]):
        capsys.readouterr()
        assert run([*words, "--episodes", "1"]) == 0
        assert "return 5.00 ± 0.00, length 5.0 steps" in capsys.readouterr().out
