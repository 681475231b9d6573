"""Environments that do less, or say it otherwise, than most."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from pyrl_sb3.training.agents import find_agent
from pyrl_sb3.training.demos import _episodes
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.evaluation import evaluate
from pyrl_sb3.training.fit import GOAL_KEYS, check_new_goals
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.run import checked_experiment, train

ENV, LENGTH = "Odd-v0", 4


class Odd(gym.Env):
    """Counts its steps in one and the same array, in episodes of four."""

    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, goal=False, success=None):
        self.seen, self.goal, self.success = np.zeros(1, np.float32), goal, success
        one = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.observation_space = spaces.Dict(dict.fromkeys(GOAL_KEYS, one)) if goal else one

    def _observe(self):
        return dict.fromkeys(GOAL_KEYS, self.seen) if self.goal else self.seen

    def reset(self, *, seed=None, options=None):
        self.seen[:] = 0
        return self._observe(), {}

    def step(self, action):
        self.seen += 1
        info = {} if self.success is None else {"is_success": self.success[0]}
        return self._observe(), 0.0, False, self.seen[0] == LENGTH, info


class Rewarded(gym.Wrapper):
    def compute_reward(self, achieved, desired, info):
        return np.zeros(len(achieved))


@pytest.fixture(autouse=True)
def _registered():
    gym.register(ENV, Odd, disable_env_checker=True)
    yield
    del gym.registry[ENV]


class Learned(BaseCallback):
    """Has the model."""

    keeps_state = False

    def _on_step(self):
        return True


def asked(folder, agent, *settings, steps=10, **more):
    given = {"agent": agent, "env_id": ENV, "folder": folder, "timesteps": steps, "seed": 0}
    small = ("policy_kwargs.net_arch=[4]", f"learning_starts={steps}", "buffer_size=100")
    rest = {"save_freq": 0, "eval_freq": 0, "eval_episodes": 1, "threads": 1}
    return TrainingRequest(**given, **rest, overrides=(*small, *settings), **more)


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("goal", [False, True], ids=["array", "dict"])
def test_an_episodes_last_observation_outlives_the_reset(tmp_path, goal, n_envs):
    settings = ("env_kwargs.goal=true",) if goal else ()
    request = asked(tmp_path / "run", "sac", *settings, steps=4 * n_envs * LENGTH, n_envs=n_envs)
    learned = Learned()
    train(request, [learned])
    after = learned.model.replay_buffer.next_observations
    for values in after.values() if goal else [after]:
        assert values[: 4 * LENGTH, :, 0].T.tolist() == [4 * [1, 2, 3, 4]] * n_envs


def test_hindsight_without_rewards_for_new_goals_is_refused(tmp_path):
    agent, request = find_agent("her-sac"), asked(tmp_path, "her-sac", "env_kwargs.goal=true")
    with pytest.raises(InputError) as caught:
        checked_experiment(agent, request)
    said = "Odd-v0 has no compute_reward, which HER + SAC asks for the rewards of new goals; "
    assert str(caught.value) == f"{said}without hindsight use sac"
    check_new_goals(find_agent("sac"), Odd(goal=True), ENV)
    check_new_goals(agent, gym.wrappers.TimeLimit(Rewarded(Odd(goal=True)), 9), ENV)


@pytest.mark.parametrize(
    ("success", "rate"),
    [
        (np.array([True, True]), 1.0),
        (np.array([1.0, 0.0]), 0.0),
        (np.array([[True]]), 1.0),
        (None, None),
    ],
    ids=["all", "one of two", "nested", "none"],
)
def test_success_may_be_said_in_parts_or_not_at_all(success, rate):
    env = make_vec_env(lambda: Odd(success=[success]))
    model = SimpleNamespace(predict=lambda *seen, **options: (np.zeros((1, 1)), None))
    assert evaluate(model, env, 2).success_rate == rate
    (episode,) = _episodes(env, lambda seen: np.zeros((1, 1), np.float32), 1)
    assert episode.success == rate
