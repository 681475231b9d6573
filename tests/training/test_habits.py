"""Requests and functions take what scripts for SB3 have at hand."""

from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    StopTrainingOnMaxEpisodes,
)
from stable_baselines3.common.noise import NormalActionNoise

import pyrl_sb3
from pyrl_sb3.training.checkpoints import Checkpoints
from pyrl_sb3.training.demos import record
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.facts import read_facts
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.resume import resume
from pyrl_sb3.training.run import train
from pyrl_sb3.training.trial import TrialRequest, try_out

CONFIG = """
default: {policy: MlpPolicy, buffer_size: 300, learning_starts: 50, policy_kwargs: {net_arch: [4]}}
"""


@pytest.fixture
def asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yml").write_text(CONFIG)
    return TrainingRequest(
        agent="td3",
        env_id="Pendulum-v1",
        config="c.yml",
        save="runs",
        timesteps=60,
        seed=0,
        eval_episodes=1,
        threads=1,
    )


def typed(request):
    return [(type(value), value) for value in vars(request).values()]


@pytest.mark.parametrize("number", [float, np.float32, np.int64, np.uint8])
def test_numbers_and_flags_of_other_types(asked, number):
    names = ("timesteps", "seed", "n_envs", "eval_freq", "eval_episodes", "threads", "save_freq")
    plain = replace(asked, **dict.fromkeys([*names, "keep_last"], 3), exact=False, device="cpu")
    same = replace(
        asked,
        **{name: number(3) for name in [*names, "keep_last"]},
        exact=np.bool_(False),
        device=th.device("cpu"),
    )
    assert typed(same) == typed(plain)


def test_runs_go_on_that_were_asked_for_in_floats(asked):
    request = replace(
        asked,
        timesteps=6e1,
        seed=np.arange(5)[3],
        eval_freq=3e1,
        save_freq=2e1,
        keep_last=2.0,
        n_envs=np.int64(2),
        threads=1.0,
        exact=np.bool_(False),
        device=th.device("cpu"),
    )
    run = train(request).folder
    assert "timesteps: 60\n" in (run / "run.yml").read_text()
    assert read_facts(run).request.seed == 3
    again = {"threads": 1.0, "keep_last": np.float32(3), "device": th.device("cpu")}
    assert resume(run, timesteps=np.int64(80), **again).timesteps == 80
    assert resume(run, timesteps=1e2).timesteps == 100
    trial = TrialRequest(
        agent="td3", env_id="Pendulum-v1", path=run, episodes=1.0, seed=np.int64(2)
    )
    assert len(try_out(trial).returns) == 1
    assert record("Pendulum-v1", run, "demos.npz", episodes=np.int64(1), seed=1.0).kept == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timesteps", 100.5),
        ("seed", np.float64(0.1)),
        ("n_envs", "2"),
        ("eval_episodes", None),
        ("save_freq", float("inf")),
        ("keep_last", float("nan")),
        ("threads", True),
    ],
    ids=str,
)
def test_what_is_not_whole_is_named(asked, name, value):
    with pytest.raises(InputError, match=rf"^--{name.replace('_', '-')} .*whole number$"):
        replace(asked, **{name: value})


def test_flags_that_are_none_are_named(asked):
    with pytest.raises(InputError, match=r"^--exact 'no': must be true or false$"):
        replace(asked, exact="no")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("agent", pyrl_sb3.TD3),
        ("env_id", gym.spaces.Discrete(2)),
        ("noise", NormalActionNoise(np.zeros(1), np.ones(1))),
        ("buffer", pyrl_sb3.HerReplayBuffer),
        ("overrides", ["gamma=0.9", 1]),
        ("overrides", None),
        ("config", {"gamma": 0.9}),
        ("save", 3),
    ],
    ids=["agent", "env_id", "noise", "buffer", "overrides", "no overrides", "config", "save"],
)
def test_what_is_no_text_and_no_path_is_named(asked, name, value):
    what = "a path" if name in ("config", "save") else "text"
    with pytest.raises(InputError, match=rf"^{name}=.*: must be {what}$"):
        replace(asked, **{name: value})


def test_text_of_numpy_is_text(asked):
    same = replace(asked, agent=np.str_("td3"), overrides=np.array(["gamma=0.9"]))
    assert typed(same) == typed(replace(asked, overrides=["gamma=0.9"]))


def test_one_override_by_itself_is_one(asked):
    assert replace(asked, overrides="gamma=0.9").overrides == ("gamma=0.9",)
    assert replace(asked, overrides=["gamma=0.9", "tau=1"]).overrides == ("gamma=0.9", "tau=1")


def test_what_is_not_whole_is_named_elsewhere(asked):
    run = train(asked).folder
    before = (run / "run.yml").read_text()
    trial = {"agent": "td3", "env_id": "Pendulum-v1", "path": run}
    with pytest.raises(InputError, match=r"^--timesteps 80\.5: must be a whole number$"):
        resume(run, timesteps=80.5)
    with pytest.raises(InputError, match=r"^--seed None: must be a whole number$"):
        TrialRequest(**trial, seed=None)
    with pytest.raises(InputError, match=r"^--episodes 1\.5: must be a whole number$"):
        record("Pendulum-v1", run, "demos.npz", episodes=1.5)
    with pytest.raises(InputError, match=r"^--episodes None: must be a whole number$"):
        record("Pendulum-v1", run, "demos.npz", episodes=None)
    with pytest.raises(InputError, match=r"^--seed None: must be a whole number$"):
        record("Pendulum-v1", run, "demos.npz", episodes=1, seed=None)
    with pytest.raises(InputError, match=r"^no device '0'; there are auto, cpu"):
        resume(run, timesteps=80, device=0)
    assert (run / "run.yml").read_text() == before
    assert not Path("demos.npz").exists()


class Counting(BaseCallback):
    def __init__(self):
        super().__init__()
        self.steps = 0

    def _on_step(self):
        self.steps += 1
        return True


def test_callbacks_are_given_as_to_learn(asked):
    called = []
    each = [Counting() for _ in range(5)]

    def function(local_variables, global_variables):
        called.append(local_variables["self"].num_timesteps)
        return True

    train(asked, None)
    train(asked, each[0])
    train(asked, [each[1], function])
    train(asked, CallbackList(each[2:4]))
    train(asked, (each[4],))
    assert [one.steps for one in each] == [60] * 5
    run = train(asked, function).folder
    assert called == [*range(1, 61)] * 2
    resume(run, timesteps=70, callbacks=function)
    resume(run, timesteps=80, callbacks=each[0])
    resume(run, timesteps=90, callbacks=[CallbackList([function])])
    resume(run, timesteps=95, callbacks=None)
    assert called[120:] == [*range(61, 71), *range(81, 91)]
    assert each[0].steps == 70


@pytest.mark.parametrize("within", [list, CallbackList])
def test_what_fails_in_a_list_is_named(asked, within, caplog):
    def fails(local_variables, global_variables):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        train(asked, within([Counting(), fails]))
    assert "the callback fails failed after 1 step; model saved" in caplog.text


def test_functions_end_trainings(asked):
    result = train(asked, lambda local_variables, _: local_variables["self"].num_timesteps < 10)
    assert result.timesteps == 10


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (StopTrainingOnMaxEpisodes, r"StopTrainingOnMaxEpisodes is a class: .*"),
        ([StopTrainingOnMaxEpisodes], r"StopTrainingOnMaxEpisodes is a class: .*"),
        (3, r"3 is no callback: .*"),
        ("progress", r"'progress' is no callback: .*"),
        ([None], r"None is no callback: .*"),
        ([CallbackList([None])], r"None is no callback: .*"),
    ],
    ids=["class", "classes", "number", "text", "nothing", "nothing in a list"],
)
def test_what_is_no_callback_is_named_and_leaves_nothing(asked, given, message):
    with pytest.raises(InputError, match=f"^callbacks: {message}$"):
        train(asked, given)
    assert not Path("runs").exists()
    run = train(asked).folder
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=f"^callbacks: {message}$"):
        resume(run, timesteps=70, callbacks=given)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("save_freq", [0, None])
def test_checkpoints_that_are_only_asked_for(tmp_path, save_freq):
    model = pyrl_sb3.TD3("MlpPolicy", "Pendulum-v1", learning_starts=100, buffer_size=100)
    checkpoints = Checkpoints(tmp_path / "checkpoints", save_freq=save_freq)
    model.learn(20, callback=checkpoints)
    assert checkpoints.folder.by_steps() == {}
    checkpoints.take()
    assert list(checkpoints.folder.by_steps()) == [20]


def test_checkpoints_take_numbers_of_other_types(tmp_path):
    model = pyrl_sb3.TD3("MlpPolicy", "Pendulum-v1", learning_starts=100, buffer_size=100)
    checkpoints = Checkpoints(tmp_path, save_freq=np.int64(10), keep_last=2.0, by_steps=True)
    model.learn(50, callback=checkpoints)
    assert list(checkpoints.folder.by_steps()) == [30, 40]
    for wrong, message in (
        ({"save_freq": 0.5}, r"^--save-freq 0\.5: must be a whole number$"),
        ({"keep_last": 0}, "^--keep-last 0: must be at least 1$"),
        ({"keep_last": None}, "^--keep-last None: must be a whole number$"),
    ):
        with pytest.raises(InputError, match=message):
            Checkpoints(tmp_path, **wrong)
