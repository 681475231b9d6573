"""Agents with discrete actions: what fits them, their configs, exact resume, trying them out."""

import re
import signal
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
import yaml
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.save_util import load_from_zip_file

from pyrl_sb3.training.agents import AGENTS
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.fit import check_fit
from pyrl_sb3.training.hyperparams import packaged_config
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.resume import resume
from pyrl_sb3.training.run import train
from pyrl_sb3.training.trial import TrialRequest, try_out

DISCRETE = [agent.name for agent in AGENTS.values() if agent.discrete]
TASKS = ("CartPole-v1", "LunarLander-v3", "Acrobot-v1", "MountainCar-v0", "BitFlipping-v0")


class Nothing(gym.Env[Any, Any]):
    def __init__(self, actions: spaces.Space[Any], goal: bool = False) -> None:
        box = spaces.Box(-1, 1, (2,), np.float32)
        names = ("observation", "achieved_goal", "desired_goal")
        self.observation_space = spaces.Dict(dict.fromkeys(names, box)) if goal else box
        self.action_space = actions


BOX, TWO = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)
MISFITS = [
    ("sac", TWO, False, "Discrete actions: SAC needs .*; dqn, qrdqn and sac-discrete fit"),
    ("her-td3", TWO, True, "Discrete .*; her-dqn, her-qrdqn and her-sac-discrete fit"),
    ("dqn", BOX, False, "continuous .*: DQN needs Discrete ones; sac, td3, ddpg, tqc and crossq"),
    ("her-sac-discrete", BOX, True, "HER \\+ discrete SAC .*; her-sac, .* and her-crossq fit"),
    ("qrdqn", spaces.MultiDiscrete([2, 3]), False, "MultiDiscrete .*QR-DQN needs Discrete .*PPO"),
    ("sac", spaces.MultiBinary(3), False, "MultiBinary .*PPO and A2C of stable-baselines3 fit"),
    ("sac", spaces.Dict({"a": BOX}), False, "has Dict actions: SAC needs .*ones$"),
    ("dqn", spaces.Tuple((TWO, BOX)), False, "has Tuple actions: DQN needs Discrete ones$"),
    ("dqn", spaces.Discrete(2, start=1), False, "counts its actions from 1"),
    ("her-dqn", TWO, False, "has no goal: .*use dqn"),
]


@pytest.mark.parametrize(("agent", "actions", "goal", "message"), MISFITS)
def test_what_does_not_fit_and_what_would(
    agent: str, actions: Any, goal: bool, message: str
) -> None:
    with pytest.raises(InputError) as error:
        check_fit(AGENTS[agent], Nothing(actions, goal), "Env-v0")
    assert re.search(message, str(error.value)), str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("agent", DISCRETE)
def test_what_fits(agent: str) -> None:
    check_fit(AGENTS[agent], Nothing(TWO, goal=True), "Env-v0")


@pytest.mark.parametrize("name", DISCRETE)
def test_the_packaged_configs_have_entries(name: str) -> None:
    tasks = ("BitFlipping-v0", "GridMaze-v0") if name.startswith("her-") else TASKS
    assert set(tasks) <= yaml.safe_load(packaged_config(name).read_text()).keys()


def test_discrete_sac_is_not_in_sb3(tmp_path: Any) -> None:
    request = TrainingRequest(
        agent="sac-discrete", env_id="CartPole-v1", stock=True, save=tmp_path / "runs"
    )
    with pytest.raises(InputError, match="--stock: SB3 has no discrete SAC"):
        train(request)
    assert not (tmp_path / "runs").exists()


def test_discrete_actions_take_no_noise(tmp_path: Any) -> None:
    request = TrainingRequest(
        agent="sac-discrete", env_id="CartPole-v1", noise="normal_0.1", save=tmp_path / "runs"
    )
    with pytest.raises(InputError, match="explores without action noise"):
        train(request)


class Stop(BaseCallback):
    keeps_state = False

    def _on_step(self) -> bool:
        if self.num_timesteps == 70:
            signal.raise_signal(signal.SIGTERM)
        return True


SMALL = (
    *("policy_kwargs.net_arch=[8]", "learning_starts=10", "batch_size=16", "train_freq=4"),
    *(
        "gradient_steps=2",
        "target_update_interval=12",
        "buffer_size=1000",
        "env_kwargs={n_bits: 4}",
    ),
)


@pytest.fixture
def threads() -> Any:
    before = th.get_num_threads()
    yield
    th.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("agent", ["her-dqn", "her-qrdqn", "her-sac-discrete"])
def test_a_stopped_run_ends_as_one_that_was_not(agent: str, tmp_path: Any) -> None:
    whole = TrainingRequest(
        agent=agent,
        env_id="BitFlipping-v0",
        timesteps=120,
        seed=1,
        eval_episodes=2,
        eval_freq=0,
        threads=1,
        overrides=SMALL,
        save=tmp_path / "whole",
        save_freq=30,
    )
    expected = train(whole)
    stopped = train(TrainingRequest(**{**vars(whole), "save": tmp_path / "parts"}), [Stop()])
    assert stopped.stopped_by
    kept = sorted((stopped.folder / "checkpoints").iterdir())
    # As if it had been killed: only the regular checkpoint is there.
    for checkpoint in kept:
        if int(checkpoint.name.removeprefix("step_")) >= 70:
            for file in sorted(checkpoint.rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() else file.unlink()
            checkpoint.rmdir()
    result = resume(stopped.folder)
    assert result.timesteps == expected.timesteps == 120
    (data, weights, _), (other, others, _) = (
        load_from_zip_file(each.model) for each in (expected, result)
    )
    th.testing.assert_close(others, weights, rtol=0, atol=0)
    names = {"exploration_rate", "_n_calls", "_n_updates", "_current_progress_remaining"}
    for name in names & data.keys():
        assert other[name] == data[name]
    trial = TrialRequest(agent=agent, env_id="bit-flipping", path=result.folder, episodes=3)
    assert try_out(trial).lengths.shape == (3,)
