"""Environments of plugins: their arguments, odd observations, and errors of their own."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from pyrl_sb3.plugins import get_plugin_manager
from pyrl_sb3.training.agents import find_agent
from pyrl_sb3.training.checkpoint import Checkpoint
from pyrl_sb3.training.checkpoint_folder import CheckpointFolder
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.fit import check_fit
from pyrl_sb3.training.models import set_threads

SMALL = ("--eval-freq", 0, "--eval-episodes", 1, "--seed", 1, "--threads", 1)
SMALL = (*SMALL, "--set", "policy_kwargs.net_arch=[4]", "--set", "learning_starts=25")
PLUGIN = """
import os
import gymnasium as gym
import gymnasium as gym
import numpy as np
from pyrl_sb3.plugins import EnvironmentSpec, hookimpl

class Odd(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (3,))
    action_space = gym.spaces.Box(-1, 1, (1,))
    steps = 0
    training = True

    def __init__(self, need=4, length=10, fails=(), render_mode=None):
        assert need == 4
        self.length, self.fails = length, fails

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_of_episode = 0
        if "reset" in self.fails and (self.steps >= 30 or "ODD_BREAKS" in os.environ):
            raise RuntimeError("reset broke")
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        self.step_of_episode += 1
        if "step" in self.fails and self.steps == 35:
            raise RuntimeError("step broke")
        if "evaluation" in self.fails and not self.training:
            raise RuntimeError("evaluation broke")
        done = self.step_of_episode == self.length
        return self.observation_space.sample(), 1.0, done, False, {}

    def close(self):
        if "close" in self.fails:
            raise RuntimeError("close broke")

class Settings(Odd):
    def __init__(self, **settings):
        super().__init__(length=settings.pop("limit", 10))

class Needing(Odd):
    def __init__(self, need, render_mode=None):
        super().__init__(need)

@hookimpl
def pyrl_environments():
    yield EnvironmentSpec(name="needing", target=Needing)
    yield EnvironmentSpec(name="settings", target=Settings)
    for what in ("close", "step", "reset", "evaluation"):
        yield EnvironmentSpec(name=f"bad-{what}", target=Odd, kwargs={"fails": (what,)})
"""


@pytest.fixture(autouse=True)
def plugin(folder, monkeypatch):
    """The plugin, as `-p odd.py` loads it, and the environment's variables restored."""
    for name in ("PYRL_DISABLE_PLUGINS", "PYRL_PLUGIN_MODULES", "PYRL_LOAD_PLUGINS"):
        monkeypatch.setenv(name, "")
    (folder / "odd.py").write_text(PLUGIN)
    get_plugin_manager.cache_clear()
    yield
    get_plugin_manager.cache_clear()
    set_threads(1)


@pytest.fixture
def odd(pyrl):
    """Run a command with the plugin."""
    return lambda *line: pyrl("-p", "odd.py", *line)


def test_arguments_that_an_environment_needs_are_given_to_it(odd, folder):
    need = ("--set", "env_kwargs.need=4")
    trained = odd("sac-train", "needing", "--timesteps", 30, *need, *SMALL)
    assert (trained.code, trained.err) == (0, "")
    run = "sac/odd-needing-v0_1"
    longer = odd("sac-train", "--resume", run, "--timesteps", 40)
    assert "going on after 30 steps" in longer.out
    tested = odd("sac-test", "needing", "--episodes", 1)
    assert "1 episode:" in tested.out
    assert odd("evaluate", run, "--episodes", 1).code == 0
    recorded = odd("demos", "record", "needing", "--policy", run, "--out", "d.npz", "--episodes", 1)
    assert (recorded.code, (folder / "d.npz").is_file()) == (0, True)


def test_arguments_of_an_environment_come_from_a_config_too(odd, folder):
    (folder / "my.yml").write_text("default: {n_timesteps: 10, env_kwargs: {need: 4}}")
    assert odd("sac-train", "needing", "--config", "my.yml", *SMALL).code == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "environment 'odd/needing' needs the parameter 'need'; "),
        (("--set", "env_kwargs.ned=4"), "it takes need; did you mean need?; "),
    ],
    ids=["lacking", "misspelt"],
)
def test_arguments_of_an_environment_are_checked(odd, folder, given, message):
    outcome = odd("sac-train", "needing", *given, *SMALL)
    assert outcome.code == 2
    assert f"{message}env_kwargs gives it its parameters" in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (folder / "sac").exists()


@pytest.mark.parametrize(
    ("name", "given"), [("needing", "max_episode_steps"), ("settings", "limit")]
)
def test_arguments_that_no_signature_names_are_given_too(odd, name, given):
    more = ("--set", f"env_kwargs.{given}=5", "--timesteps", 30, *SMALL)
    needed = ("--set", "env_kwargs.need=4") if name == "needing" else ()
    trained = odd("sac-train", name, *needed, *more)
    assert (trained.code, trained.err) == (0, "")
    assert "length 5.0 steps" in trained.out


def test_a_vec_env_wrapper_may_leave_what_sb3_does_not_take():
    space = spaces.Dict({"a": BOX, "b": spaces.Discrete(3, start=1)})
    check_fit(find_agent("sac"), observing(space), "Odd-v0", vec_env_wrapper=True)


def test_an_environment_that_cannot_be_closed_is_trained_in_and_tested(odd, folder):
    trained = odd("sac-train", "bad-close", "--timesteps", 30, "--n-envs", 2, *SMALL)
    assert (trained.code, trained.err) == (0, "")
    told = "environment odd/bad-close-v0 could not be closed: RuntimeError: close broke"
    assert trained.out.count(told) == 1
    assert "model saved: sac/odd-bad-close-v0_1/model.zip" in trained.out
    assert odd("sac-test", "bad-close", "--episodes", 1).code == 0


@pytest.mark.parametrize("agent", ["sac", "tqc"])
@pytest.mark.parametrize(("what", "reached"), [("step", 34), ("reset", 29)])
def test_what_was_learned_is_saved_where_an_environment_fails(odd, capsys, agent, what, reached):
    run = f"runs/odd-bad-{what}-v0_1"
    with pytest.raises(RuntimeError, match=f"{what} broke"):
        odd(f"{agent}-train", f"bad-{what}", "--timesteps", 50, "--save", "runs", *SMALL)
    told = f"the environment failed after {reached} steps; model saved: {run}/model.zip; --resume "
    assert told in capsys.readouterr().out
    tested = odd(f"{agent}-test", f"bad-{what}", "runs", "--episodes", 1)
    assert f"trained for {reached} steps" in tested.out
    checkpoint = Checkpoint(CheckpointFolder(Path(run, "checkpoints")).latest())
    assert checkpoint.moment.timesteps == reached
    # Its environment is a new one, which fails later than that.
    longer = odd(f"{agent}-train", "--resume", run)
    assert longer.code == 0
    assert f"going on after {reached} steps" in longer.out


@pytest.mark.parametrize(("every", "reached"), [(30, 30), (0, 50)], ids=["midway", "last"])
def test_what_was_learned_is_saved_where_an_evaluation_fails(odd, folder, capsys, every, reached):
    line = ("--timesteps", 50, *SMALL, "--eval-freq", every, "--save-freq", 0)
    with pytest.raises(RuntimeError, match="evaluation broke"):
        odd("sac-train", "bad-evaluation", *line)
    run = folder / "sac" / "odd-bad-evaluation-v0_1"
    assert f"the environment failed after {reached} steps; model saved" in capsys.readouterr().out
    assert (run / "model.zip").is_file()
    checkpoint = Checkpoint(CheckpointFolder(run / "checkpoints").latest())
    assert (checkpoint.moment.timesteps, checkpoint.owes_evaluation) == (reached, every > 0)


def test_a_training_that_cannot_begin_saves_nothing(odd, folder, monkeypatch):
    """Neither at its first reset, nor where it was to go on from a checkpoint."""
    line = ("sac-train", "bad-reset", "--timesteps", 20, "--save", "runs", *SMALL)
    assert odd(*line).code == 0
    model = folder / "runs" / "odd-bad-reset-v0_1" / "model.zip"
    saved = model.read_bytes()
    monkeypatch.setenv("ODD_BREAKS", "1")
    with pytest.raises(RuntimeError, match="reset broke"):
        odd("sac-train", "--resume", model.parent, "--timesteps", 40)
    assert model.read_bytes() == saved
    with pytest.raises(RuntimeError, match="reset broke"):
        odd(*line)
    assert not (folder / "runs" / "odd-bad-reset-v0_2" / "model.zip").exists()


def observing(space):
    class Env:
        observation_space = space
        action_space = spaces.Box(-1, 1, (2,))

    return Env()


BOX = spaces.Box(-1, 1, (2,))


@pytest.mark.parametrize(
    ("space", "what"),
    [
        (spaces.Discrete(6, start=2), "Discrete observations counted from 2"),
        (spaces.MultiDiscrete([3, 2], start=[0, 1]), "MultiDiscrete observations counted from 1"),
        (spaces.Dict({"a": spaces.Discrete(3, start=-1)}), "counted from -1 ('a')"),
        (
            spaces.MultiDiscrete([[3, 2], [3, 2]]),
            "observations of several dimensions",
        ),
        (spaces.Box(-1, 1, ()), "observations without dimensions"),
        (spaces.Dict({"a": BOX, "b": spaces.Box(-1, 1, ())}), "without dimensions ('b')"),
        (spaces.Tuple((BOX, BOX)), "Tuple observations"),
        (spaces.Dict({"a": spaces.Dict({"b": BOX})}), "a Dict within its observations ('a')"),
    ],
    ids=str,
)
def test_observations_that_sb3_does_not_take_are_refused(space, what):
    with pytest.raises(InputError) as caught:
        check_fit(find_agent("sac"), observing(space), "Odd-v0")
    assert str(caught.value).startswith("Odd-v0 has ")
    assert what in str(caught.value)
    assert "env_wrapper: gymnasium.wrappers.FlattenObservation" in str(caught.value)


class Missions(spaces.Space[str]):
    """As MiniGrid's: it does not say whether it can be flattened."""


@pytest.mark.parametrize(
    ("space", "what"),
    [
        (Missions(), "Missions observations"),
        (spaces.Dict({"a": BOX, "m": Missions()}), "Missions observations ('m')"),
    ],
    ids=["alone", "in a dict"],
)
def test_what_cannot_be_flattened_is_refused_without_that_advice(space, what):
    with pytest.raises(InputError) as caught:
        check_fit(find_agent("sac"), observing(space), "Odd-v0")
    assert str(caught.value) == f"Odd-v0 has {what}, which SB3 does not take"


class Counted(gym.Env):
    """Takes whole numbers, and notes them."""

    observation_space = BOX

    def __init__(self, low, high, dtype):
        self.action_space = spaces.Box(low, high, (2,), dtype)
        self.taken = []

    def reset(self, *, seed=None, options=None):
        return np.zeros(BOX.shape, np.float32), {}

    def step(self, action):
        self.taken.append(action)
        return np.zeros(BOX.shape, np.float32), 0.0, False, False, {}


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(-100, 100, np.int8), (-(2**15), 2**15 - 1, np.int16), (-(2**62), 2**62, np.int64)],
)
def test_actions_that_are_too_far_apart_for_their_dtype_are_refused(low, high, dtype):
    env = Counted(low, high, dtype)
    with pytest.raises(InputError) as caught:
        check_fit(find_agent("sac"), env, "Odd-v0")
    name = np.dtype(dtype).name
    assert str(caught.value).startswith(f"Odd-v0 has {name} actions from {low} to {high}: ")
    check_fit(find_agent("sac"), Counted(low // 2, high // 2, dtype), "Odd-v0")
    check_fit(find_agent("sac"), Counted(0, 255, np.uint8), "Odd-v0")
    check_fit(find_agent("sac"), env, "Odd-v0", trained=True)
