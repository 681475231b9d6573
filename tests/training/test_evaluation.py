"""Evaluations: what they count, when they are made, and what they leave as it is."""

import logging
import signal
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from pyrl_sb3.training.evaluation import Evaluation, PeriodicEvaluation, evaluate
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.run import train
from pyrl_sb3.training.signals import StopSignals


class Env(gym.Env):
    """Episodes of three steps; says of each step whether it is a success, by turns at the end."""

    observation_space = action_space = gym.spaces.Box(-1, 1, (1,))
    episodes, reward, tells = 0, 1.0, True

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        done = self.steps == 3
        self.episodes += done
        success = self.episodes % 2 == 1 if done else True
        info = {"is_success": success} if self.tells else {}
        return np.zeros(1, np.float32), self.reward, done, False, info


class Agent:
    def __init__(self, env):
        self.env, self.logger, self.num_timesteps = env, Logger(None, []), 0

    def predict(self, observation, **_):
        return np.zeros((len(observation), 1)), None

    def get_env(self):
        return self.env

    def get_vec_normalize_env(self):
        return None


@pytest.fixture
def env():
    return DummyVecEnv([lambda: Monitor(Env())])


def inner(env):
    return env.envs[0].unwrapped


def test_whole_episodes_are_scored_at_their_ends(env):
    found = evaluate(Agent(env), env, 3)
    assert (found.returns.tolist(), found.lengths.tolist()) == ([3, 3, 3], [3, 3, 3])
    assert found.successes.tolist() == [True, False, True]
    assert str(found) == "return 3.00 ± 0.00, success rate 0.67, length 3.0 steps"
    seen = []
    inner(env).tells = False
    found = evaluate(Agent(env), env, 2, seen.append)
    assert (found.successes, found.success_rate) == (None, None)
    assert seen == [0, 0, 0, 1, 1, 1], "episodes that had ended"
    assert str(found) == "return 3.00 ± 0.00, length 3.0 steps"


class Best(BaseCallback):
    def __init__(self):
        super().__init__()
        self.answers = [True, True, False]

    def _on_step(self):
        return self.answers[self.n_calls - 1]


@pytest.fixture
def periodic(env):
    records, signals = [], StopSignals()
    callback = PeriodicEvaluation(
        env,
        n_eval_episodes=2,
        eval_freq=10,
        callback_on_new_best=Best(),
        signals=signals,
        record=lambda steps, evaluation: records.append((steps, float(evaluation.returns.mean()))),
        verbose=0,
    )
    model = Agent(env)
    callback.init_callback(model)
    return SimpleNamespace(
        callback=callback, model=model, env=env, records=records, signals=signals
    )


def step(periodic, calls):
    for _ in range(calls):
        periodic.model.num_timesteps += 2
        goes_on = periodic.callback.on_step()
    return goes_on


def test_an_evaluation_is_made_every_so_many_calls_and_the_best_is_told(periodic, caplog):
    caplog.set_level(logging.INFO, "pyrl_sb3")
    assert step(periodic, 9)
    assert not periodic.records
    assert step(periodic, 1)
    assert periodic.records == [(20, 3.0)]
    assert caplog.messages[-1].startswith("evaluation after 20 steps: return 3.00 ± 0.00, success")
    log = periodic.model.logger.name_to_value
    assert not log  # it was dumped
    best = periodic.callback.callback_on_new_best
    for reward, calls, value, goes_on in ((1, 1, 3, True), (2, 2, 6, True), (3, 3, 9, False)):
        inner(periodic.env).reward = reward
        assert step(periodic, 10) == goes_on
        assert best.n_calls == calls
        assert periodic.callback.best_mean_reward == value
    assert [value for _, value in periodic.records] == [3, 3, 6, 9]
    inner(periodic.env).reward = 0
    assert step(periodic, 10)
    assert (periodic.callback.last_mean_reward, periodic.callback.best_mean_reward) == (0, 9)


def test_what_an_evaluation_logs(periodic):
    dumped = []
    logger = periodic.model.logger
    logger.dump = lambda step: dumped.append((step, dict(logger.name_to_value)))
    step(periodic, 10)
    assert dumped == [
        (
            20,
            {
                "eval/mean_reward": 3.0,
                "eval/mean_ep_length": 3.0,
                "eval/success_rate": 0.5,
                "time/total_timesteps": 20,
            },
        )
    ]
    assert logger.name_to_excluded["time/total_timesteps"] == ("tensorboard",)


def test_an_evaluation_that_a_signal_ends_is_made_when_the_training_goes_on(periodic):
    periodic.signals.received = signal.SIGINT
    assert not step(periodic, 10)
    assert (periodic.callback.owed, periodic.records) == (20, [])
    periodic.callback.on_training_end()
    assert periodic.callback.owed == 20
    periodic.signals.received = None
    periodic.model.num_timesteps = 50
    periodic.callback.on_rollout_start()
    assert (periodic.callback.owed, periodic.records) == (0, [(20, 3.0)])
    periodic.callback.on_rollout_start()
    periodic.callback.on_training_end()
    assert len(periodic.records) == 1


def test_an_evaluation_that_is_owed_is_made_at_the_end(periodic):
    periodic.callback.owed = 20
    periodic.callback.on_training_end()
    assert (periodic.callback.owed, periodic.records) == (0, [(20, 3.0)])


def test_the_share_of_successes():
    whole = np.ones(4)
    found = Evaluation(whole, whole.astype(int), np.array([True, False, True, True]))
    assert found.success_rate == 0.75


def all_callbacks(callback):
    for each in getattr(callback, "callbacks", ()):
        yield from all_callbacks(each)
    yield callback


class Look(BaseCallback):
    """Keeps what normalises, of the training and of the evaluations."""

    def _on_training_start(self):
        callbacks = all_callbacks(self.locals["callback"])
        (evaluation,) = (each for each in callbacks if isinstance(each, EvalCallback))
        self.found = [self.model.get_vec_normalize_env(), evaluation.eval_env]

    def _on_step(self):
        return False


def normalising(env):
    while not isinstance(env, VecNormalize):
        env = env.venv
    return env


def test_evaluations_neither_change_statistics_nor_scale_rewards(tmp_path):
    look = Look()
    small = (
        "policy_kwargs.net_arch=[4]",
        "normalize={clip_obs: 3}",
        "env_kwargs={max_episode_steps: 9}",
    )
    request = TrainingRequest(
        agent="sac",
        env_id="Pendulum-v1",
        timesteps=1,
        threads=1,
        save=tmp_path,
        overrides=small,
        eval_episodes=1,
    )
    train(request, [look])
    learning, evaluating = map(normalising, look.found)
    assert (learning.training, learning.norm_reward) == (True, True)
    assert (evaluating.training, evaluating.norm_reward) == (False, False)
    assert (
        (evaluating.gamma, evaluating.clip_obs) == (learning.gamma, learning.clip_obs) == (0.98, 3)
    )
