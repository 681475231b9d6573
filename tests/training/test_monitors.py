"""The steps at the ends of training episodes, where checkpoints cut others."""

import json

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback

from pyrl_sb3.report.curves import read_episodes, read_training
from pyrl_sb3.report.groups import read_groups
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.monitors import continued_monitor, new_monitor
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.resume import resume
from pyrl_sb3.training.run import train

ENV = "UnevenEpisodes-v0"


class Uneven(gym.Env):
    """Episodes of 5 to 30 steps."""

    observation_space = action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(5, 30))
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.zeros(1, np.float32), 1.0, False, self.left == 0, {"height": 3}


class Ends(BaseCallback):
    """Notes the steps at which episodes end."""

    keeps_state = False

    def __init__(self):
        super().__init__()
        self.at = []

    def _on_step(self):
        self.at += [self.num_timesteps] * int(self.locals["dones"].sum())
        return True


@pytest.fixture(autouse=True)
def _registered():
    gym.register(ENV, Uneven)
    yield
    del gym.registry[ENV]


def asked(folder, steps, **more):
    given = {"agent": "td3", "env_id": ENV, "folder": folder, "timesteps": steps, "n_envs": 3}
    settings = ("learning_starts=10000", "policy_kwargs.net_arch=[4]", *more.pop("settings", ()))
    rest = {"seed": 0, "save_freq": 60, "eval_freq": 0, "eval_episodes": 1, "threads": 1}
    return TrainingRequest(**given, **rest, overrides=settings, **more)


@pytest.mark.parametrize("settings", [(), ("monitor_kwargs.info_keywords=['height']",)])
def test_episodes_that_checkpoints_cut_are_counted_in_steps(tmp_path, settings):
    run, ends = tmp_path / "run", Ends()
    train(asked(run, 300, settings=settings), [ends])
    assert read_training(run).steps.tolist() == ends.at
    resume(run, timesteps=600, callbacks=[ends])
    found = read_training(run)
    assert found.steps.tolist() == ends.at
    assert ends.at[-1] > 500
    assert found.returns.sum() < 550, "no episode was cut"


@pytest.mark.parametrize("log", [True, False])
def test_what_infos_lack_is_named_as_the_setting(tmp_path, log):
    monitor = new_monitor(Uneven(), str(tmp_path / "0") if log else None, info_keywords=("depth",))
    monitor.reset(seed=0)
    monitor.env.left = 1
    with pytest.raises(InputError, match=r"monitor_kwargs\.info_keywords: .* without 'depth'"):
        monitor.step(None)
    monitor.close()


def episode(monitor, steps):
    monitor.reset(seed=0)
    monitor.env.left = steps
    for _ in range(steps):
        monitor.step(None)
    monitor.close()


def column(path, name):
    names, *rows = (line.split(",") for line in path.read_text().splitlines()[1:])
    return [row[names.index(name)] for row in rows]


def test_a_log_that_goes_on_keeps_its_clock_its_steps_and_its_rows(tmp_path):
    path = tmp_path / "0.monitor.csv"
    episode(new_monitor(Uneven(), str(tmp_path / "0")), 4)
    start = json.loads(path.read_text().splitlines()[0].lstrip("#"))["t_start"]
    before = path.read_bytes()
    again = continued_monitor(Uneven(), str(tmp_path / "0"), 10)
    assert (again.t_start, again.total_steps) == (start, 10)
    episode(again, 3)
    assert path.read_bytes().startswith(before)
    assert column(path, "env_steps") == ["4", "13"]
    assert column(path, "l") == ["4", "3"]


@pytest.mark.parametrize("log", [True, False])
def test_where_there_is_no_log_to_go_on_with_one_is_begun_if_it_is_wanted(
    tmp_path, monkeypatch, log
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "None.monitor.csv").write_text("somebody's")
    monitor = continued_monitor(Uneven(), str(tmp_path / "0") if log else None, 10)
    assert monitor.total_steps == 10
    episode(monitor, 3)
    assert (tmp_path / "0.monitor.csv").exists() == log
    if log:
        assert column(tmp_path / "0.monitor.csv", "env_steps") == ["13"]


def steps(run, number):
    return [each.steps for each in read_episodes(run / f"{number}.monitor.csv", 3)]


def test_logs_that_were_begun_without_the_steps_go_on_without(tmp_path):
    run = tmp_path / "run"
    train(asked(run, 300))
    for file in run.glob("*.monitor.csv"):
        first, names, *rows = file.read_bytes().decode().splitlines()
        # As long as it was: checkpoints know that.
        first, names = first + " " * len(",env_steps"), names.removesuffix(",env_steps")
        rows = [row.rpartition(",")[0].ljust(len(row), "0") for row in rows]
        text = "\r\n".join([names, *rows, ""])
        file.write_bytes(f"{first}\n{text}".encode())
    before = [steps(run, i) for i in range(3)]
    resume(run, timesteps=600)
    for i, rows in enumerate(before):
        after = steps(run, i)
        assert after[: len(rows)] == rows
        assert len(after) > len(rows)


def test_seconds_are_those_of_the_step(tmp_path):
    run = tmp_path / "run"
    train(asked(run, 300))
    log = "#{}\nr,l,t,env_steps\n0,10,2.0,10\n0,10,6.0,50\n"  # 30 steps were cut between them
    for i in range(3):
        (run / f"{i}.monitor.csv").write_text(log)
    np.savez(run / "evaluations.npz", timesteps=[30, 90, 150], results=np.zeros((3, 1)))
    (group,) = read_groups([run])
    assert group.seconds[ENV][0].tolist() == [2.0, 4.0, 6.0]
