"""What is left of a training in which a callback, an evaluation or a gradient step fails."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch as th

from pyrl_sb3.buffers.header import read_header
from pyrl_sb3.plugins import get_plugin_manager
from pyrl_sb3.training.checkpoint import Checkpoint
from pyrl_sb3.training.checkpoint_folder import CheckpointFolder
from pyrl_sb3.training.failures import is_finite
from pyrl_sb3.training.logs import evaluation_tables
from pyrl_sb3.training.models import set_threads

SMALL = ("--eval-episodes", 1, "--seed", 1, "--threads", 1, "--timesteps", 60, "--eval-freq", 20)
SMALL = (*SMALL, "--set", "policy_kwargs.net_arch=[4]", "--set", "learning_starts=25")
PLUGIN = """
import signal
import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import FlattenExtractor
from pyrl_sb3 import ReplayBuffer
from pyrl_sb3.plugins import CallbackSpec, EnvironmentSpec, ReplayBufferSpec, hookimpl
from pyrl_sb3.plugins import FeaturesExtractorSpec

class Odd(gym.Env):
    observation_space = action_space = gym.spaces.Box(-1, 1, (1,))
    steps, training = 0, True

    def __init__(self, nan_at=None, render_mode=None):
        self.nan_at = nan_at

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        nan = not self.training and self.steps == self.nan_at
        observation = np.full(1, np.nan if nan else 0.5, np.float32)
        return observation, 1.0, self.steps % 10 == 0, False, {}

class Versioned(FlattenExtractor):
    def get_extra_state(self):
        return {"version": 2}

    def set_extra_state(self, state):
        pass

class Failing(BaseCallback):
    def __init__(self, at="training_end", at_call=40):
        super().__init__()
        self.at, self.at_call, self.has_failed = at, at_call, False

    def fail(self, at):
        if self.at == at and self.n_calls == self.at_call and not self.has_failed:
            self.has_failed = True
            raise ConnectionError("server away")

    def _on_rollout_start(self):
        self.fail("rollout_start")

    def _on_step(self):
        self.fail("step")
        return True

    def _on_rollout_end(self):
        self.fail("rollout_end")

    def _on_training_end(self):
        self.fail("training_end")

class Stopping(BaseCallback):
    def _on_step(self):
        if self.n_calls == 40:
            signal.raise_signal(signal.SIGTERM)
        return True

class Ending(BaseCallback):
    def _on_step(self):
        return self.n_calls != 40

class Diverging(BaseCallback):
    def __init__(self, statistics=False):
        super().__init__()
        self.statistics = statistics

    def _on_step(self):
        if self.n_calls == 40 and self.statistics:
            self.model.get_vec_normalize_env().obs_rms.mean[:] = np.nan
        elif self.n_calls == 40:
            for each in self.model.policy.parameters():
                each.data.fill_(float("nan"))
        return True

class Buffer(ReplayBuffer):
    def sample(self, *args, **kwargs):
        if self.size() == 40:
            raise KeyError("no such row")
        return super().sample(*args, **kwargs)

class Unreadable(ReplayBuffer):
    def sample(self, *args, **kwargs):
        raise KeyError("no such row")

class Remembering(ReplayBuffer):
    def __init__(self, *args, what="object", **kwargs):
        super().__init__(*args, **kwargs)
        self.what = what

    def get_extra_state(self):
        if self.what == "raises":
            raise KeyError("nothing remembered")
        generator, item = np.random.default_rng(0), object()
        found = {"object": item, "generator": generator, "key": {(item,): 1}}[self.what]
        return {"n": 1, "told": [np.ones(2), {"it": found}]}

    def set_extra_state(self, state):
        pass

@hookimpl
def pyrl_environments():
    yield EnvironmentSpec(name="odd", target=Odd)

@hookimpl
def pyrl_features_extractors():
    yield FeaturesExtractorSpec(name="versioned", target=Versioned)

@hookimpl
def pyrl_callbacks():
    yield CallbackSpec(name="ending", target=Ending)
    yield CallbackSpec(name="stopping", target=Stopping)
    yield CallbackSpec(name="failing", target=Failing)
    yield CallbackSpec(name="diverging", target=Diverging)

@hookimpl
def pyrl_replay_buffers():
    yield ReplayBufferSpec(name="failing", target=Buffer)
    yield ReplayBufferSpec(name="unreadable", target=Unreadable)
    yield ReplayBufferSpec(name="remembering", target=Remembering)
"""
RUN = Path("sac", "odd-odd-v0_1")


@pytest.fixture
def odd(pyrl, folder, monkeypatch):
    """Run a command with the plugin."""
    for name in ("PYRL_DISABLE_PLUGINS", "PYRL_PLUGIN_MODULES", "PYRL_LOAD_PLUGINS"):
        monkeypatch.setenv(name, "")
    (folder / "odd.py").write_text(PLUGIN)

    def call(*line, **settings):
        given = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        return pyrl("-p", "odd.py", *line, *given)

    yield call
    get_plugin_manager.cache_clear()
    set_threads(1)


def latest():
    return Checkpoint(CheckpointFolder(RUN / "checkpoints").latest())


def stored(checkpoint):
    """The number of transitions in it."""
    return read_header(checkpoint.folder / "replay_buffer").now


@pytest.mark.parametrize(
    ("at", "calls", "extra"),
    [
        ("step", 40, {}),
        ("step", 39, {"train_freq": 7}),
        ("rollout_start", 40, {}),
        ("rollout_end", 40, {}),
        ("training_end", 60, {}),
    ],
    ids=["at a step", "within a rollout", "before a rollout", "after a rollout", "at the end"],
)
def test_what_was_learned_is_saved_where_a_callback_fails(odd, capsys, at, calls, extra):
    failing = f"{{failing: {{at: {at}, at_call: {calls}}}}}"
    with pytest.raises(ConnectionError, match="server away"):
        odd("sac-train", "odd", *SMALL, callback=failing, **extra)
    told = f"the callback Failing failed after {calls} steps; model saved: {RUN}/model.zip; "
    assert f"{told}--resume {RUN} goes on" in capsys.readouterr().out
    assert f"trained for {calls} steps" in odd("sac-test", "odd", "--episodes", 1).out
    assert latest().moment.timesteps == calls
    assert stored(latest()) == calls
    longer = odd("sac-train", "--resume", RUN)
    assert longer.code == 0
    assert "trained for 60 steps" in odd("sac-test", "odd", "--episodes", 1).out
    # No other callback has missed the step: evaluations come when they would have come.
    steps = evaluation_tables(RUN / "evaluations.npz")["timesteps"]
    assert steps.tolist() == [20, 40, 60]


@pytest.mark.parametrize("at", ["step", "training_end"])
def test_a_run_that_a_callback_ended_is_at_its_end_where_another_fails(odd, capsys, at):
    callbacks = f"[{{failing: {{at: {at}}}}}, ending]"
    with pytest.raises(ConnectionError, match="server away"):
        odd("sac-train", "odd", *SMALL, callback=callbacks)
    told = f"the callback Failing failed after 40 steps; model saved: {RUN}/model.zip; "
    assert f"{told}the callback Ending ended the training after 40 of 60" in capsys.readouterr().out
    again = odd("sac-train", "--resume", RUN)
    assert again.code == 0
    assert "a callback ended it after 40 of its 60 steps" in again.out + again.err
    assert latest().moment.timesteps == 40


def test_policies_with_states_that_are_no_tensors_are_saved_too(odd):
    extractor = {"policy_kwargs.features_extractor_class": "odd/versioned"}
    with pytest.raises(ConnectionError, match="server away"):
        odd("sac-train", "odd", *SMALL, callback="{failing: {at: step}}", **extractor)
    assert latest().moment.timesteps == 40
    assert odd("sac-test", "odd", "--episodes", 1, "--trust").code == 0


@pytest.mark.parametrize(
    ("state", "finite"),
    [
        ({"w": th.zeros(2).to_sparse(), "ids": th.zeros(2, dtype=th.int8)}, True),
        ({"a._extra_state": {"best": None}, "_extra_state": th.tensor(-th.inf)}, True),
        ({"a._extra_state": "text", "w": th.tensor([0, th.nan])}, False),
    ],
    ids=["kinds of tensors", "extra states", "nan"],
)
def test_what_a_policy_keeps_besides_weights_does_not_count(state, finite):
    policy = SimpleNamespace(state_dict=lambda: state)
    model = SimpleNamespace(policy=policy, get_vec_normalize_env=lambda: None)
    assert is_finite(model) is finite


@pytest.mark.parametrize(
    ("every", "reached", "settings", "then"),
    [
        (40, 40, {}, "goes on"),
        (0, 60, {}, "evaluates it"),
        (0, 40, {"callback": "ending"}, "evaluates it"),
    ],
    ids=["midway", "last", "last of a run that was ended"],
)
def test_nan_in_an_evaluation_costs_nothing_of_the_training(odd, every, reached, settings, then):
    line = (*SMALL, "--eval-freq", every, "--save-freq", 0)
    outcome = odd("sac-train", "odd", *line, **{"env_kwargs.nan_at": 5}, **settings)
    assert outcome.code == 1
    told = f"an evaluation failed after {reached} steps; model saved: {RUN}/model.zip; --resume "
    assert f"{told}{RUN} {then}\n" in outcome.out
    (said,) = outcome.err.splitlines()
    assert said.startswith("pyrl: an action is NaN: ")
    assert said.endswith(f"; the last checkpoint is {RUN}/checkpoints/step_{reached}")
    assert (latest().moment.timesteps, latest().owes_evaluation) == (reached, every > 0)


@pytest.mark.parametrize(
    "settings",
    [
        {"callback": "diverging"},
        {"callback": "{diverging: {statistics: true}}", "normalize": "true"},
    ],
    ids=["weights", "statistics"],
)
def test_a_model_that_is_nan_is_not_saved_where_an_evaluation_finds_it(odd, settings):
    outcome = odd("sac-train", "odd", *SMALL, "--save-freq", 30, **settings)
    assert (outcome.code, "saved" in outcome.out) == (1, False)
    (said,) = outcome.err.splitlines()
    assert said.endswith(f"; the last checkpoint is {RUN}/checkpoints/step_30")
    assert not (RUN / "model.zip").exists()


@pytest.mark.parametrize("every", [30, 0])
def test_nothing_is_saved_of_a_gradient_step_that_fails(odd, capsys, every):
    with pytest.raises(KeyError, match="no such row"):
        odd("sac-train", "odd", *SMALL, "--save-freq", every, replay_buffer_class="odd/failing")
    last = f"the last checkpoint is {RUN}/checkpoints/step_30" if every else "there is no chec"
    told = f"the training failed after 40 steps, and nothing is saved of it; {last}"
    assert told in capsys.readouterr().out
    assert not (RUN / "model.zip").exists()
    assert (RUN / "checkpoints").exists() == bool(every)


def test_one_step_is_counted_as_one(odd, capsys):
    with pytest.raises(KeyError, match="no such row"):
        odd("sac-train", "odd", *SMALL, learning_starts=0, replay_buffer_class="odd/unreadable")
    assert "the training failed after 1 step, and nothing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("object", "['told'][1]['it'] is of type object"),
        ("generator", "['told'][1]['it'] is of type Generator"),
        ("key", "['told'][1]['it'] has a key of type tuple"),
    ],
)
def test_what_a_buffer_tells_that_no_checkpoint_keeps_is_named_and_the_model_saved(odd, what, told):
    line = ("sac-train", "odd", *SMALL, "--save-freq", 30, "--buffer", "remembering")
    outcome = odd(*line, **{"replay_buffer_kwargs.what": what})
    assert outcome.code == 2
    expected = f"pyrl: Remembering.get_extra_state(){told}, which no checkpoint keeps: give numbers"
    assert outcome.err.startswith(expected)
    assert len(outcome.err.splitlines()) == 1
    saved = f"a checkpoint failed after 30 steps; model saved: {RUN}/model.zip; there is no checkp"
    assert saved in outcome.out
    assert "trained for 30 steps" in odd("sac-test", "odd", "--episodes", 1).out


def test_the_model_is_saved_where_a_buffer_raises_as_a_checkpoint_is_taken(odd, capsys):
    line = ("sac-train", "odd", *SMALL, "--save-freq", 30, "--buffer", "remembering")
    with pytest.raises(KeyError, match="nothing remembered"):
        odd(*line, **{"replay_buffer_kwargs.what": "raises"})
    assert "a checkpoint failed after 30 steps; model saved" in capsys.readouterr().out
    assert "trained for 30 steps" in odd("sac-test", "odd", "--episodes", 1).out


def test_a_stopped_run_saves_its_model_where_it_can_take_no_checkpoint(odd):
    callback = "{stopping: {}}"
    outcome = odd("sac-train", "odd", *SMALL, "--buffer", "remembering", callback=callback)
    assert outcome.code == 2
    assert "Remembering.get_extra_state()" in outcome.err
    assert f"model saved: {RUN}/model.zip" in outcome.out
    assert "trained for 40 steps" in odd("sac-test", "odd", "--episodes", 1).out
