"""Environments that do less, or say it otherwise, than most."""

from collections import UserDict
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnvWrapper

from pyrl_sb3.report.curves import read_evaluations, read_training
from pyrl_sb3.training import fit
from pyrl_sb3.training.agents import find_agent
from pyrl_sb3.training.demos import _episodes, record
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.evaluation import evaluate
from pyrl_sb3.training.fit import GOAL_KEYS, check_new_goals
from pyrl_sb3.training.logs import add_evaluation
from pyrl_sb3.training.outermost import Outermost, _warn_once
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.resume import check_configs, resume
from pyrl_sb3.training.run import checked_experiment, train
from pyrl_sb3.training.trial import TrialRequest, try_out

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


said_by_all = {}


class OneInfo(gym.Wrapper):
    """Says success, at the end of each episode, in one and the same dictionary."""

    def __init__(self, env):
        super().__init__(env)
        self.said = said_by_all

    def step(self, action):
        *rest, self.said["success"], _ = self.env.step(action)
        return *rest, self.said["success"], self.said


class Rewarded(gym.Wrapper):
    def compute_reward(self, achieved, desired, info):
        return np.zeros(len(achieved))


class RewardedTogether(VecEnvWrapper):
    """Answers what the environments in it do not."""

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        return self.venv.step_wait()

    def env_method(self, name, *given, indices=None, **more):
        if name == "compute_reward":
            return [np.zeros(len(given[0]))]
        return self.venv.env_method(name, *given, indices=indices, **more)


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
    check_new_goals(find_agent("sac"), Odd(goal=True), ENV, {})
    check_new_goals(agent, gym.wrappers.TimeLimit(Rewarded(Odd(goal=True)), 9), ENV, {})


@pytest.mark.parametrize(
    "setting",
    [
        "replay_buffer_kwargs.n_sampled_goal=0",
        "replay_buffer_kwargs.goal_mix={real: 1}",
        f"vec_env_wrapper={__name__}.RewardedTogether",
    ],
    ids=lambda setting: setting.partition("=")[0].rpartition(".")[2],
)
def test_hindsight_that_asks_no_environment_for_rewards_trains(tmp_path, setting):
    settings = "env_kwargs.goal=true", "learning_starts=4", "batch_size=8", setting
    request = asked(tmp_path / "run", "her-sac", *settings, steps=20, trust=True)
    learned = Learned()
    train(request, [learned])
    assert learned.model._n_updates


def test_what_is_around_all_environments_and_computes_no_rewards_is_found_at_once(tmp_path):
    wrapped = "vec_env_wrapper=stable_baselines3.common.vec_env.VecCheckNan"
    settings = "env_kwargs.goal=true", wrapped
    with pytest.raises(InputError, match=r"^Odd-v0 has no compute_reward, which HER \+ SAC asks"):
        train(asked(tmp_path / "run", "her-sac", *settings))
    assert not (tmp_path / "run").exists()


def test_a_run_of_before_with_actions_that_are_too_far_apart_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(Odd, "action_space", spaces.Box(-100, 100, (1,), np.int8))
    run = tmp_path / "run"
    request = replace(asked(run, "sac"), save_freq=5)
    with pytest.raises(InputError, match="has int8 actions from -100 to 100"):
        train(request)
    with monkeypatch.context() as before:
        before.setattr(fit, "_check_range", lambda *_: None)
        train(request)
    check_configs(request, [run])
    assert resume(run, timesteps=20).timesteps == 20
    trial = TrialRequest(agent="sac", env_id=ENV, path=run, episodes=2)
    assert try_out(trial).lengths.tolist() == [LENGTH, LENGTH]


@pytest.mark.parametrize(
    ("success", "rate"),
    [
        (np.array([True, True]), 1.0),
        (np.array([1.0, 0.0]), 0.0),
        (np.array([[True]]), 1.0),
        (0.5, 0.5),
        (None, None),
        (np.nan, None),
        (np.array([True, np.nan]), None),
        ([True, None], None),
        ([True, False], 0.0),
        (Fraction(1, 2), 0.5),
        (np.array([True, True], object), 1.0),
        ("yes", None),
        ({"a": True}, None),
        ([[True], [True, False]], None),
        (1j, None),
    ],
    ids=[
        *("all", "one of two", "nested", "half", "none", "no number", "not all known"),
        *("one is None", "a list", "a fraction", "objects", "text", "a dict", "ragged", "complex"),
    ],
)
def test_success_may_be_said_in_parts_or_not_at_all(tmp_path, success, rate):
    env = make_vec_env(lambda: Outermost(Odd(success=[success])))
    model = SimpleNamespace(predict=lambda *seen, **options: (np.zeros((1, 1)), None))
    assert evaluate(model, env, 2).success_rate == rate
    ((episode, share),) = _episodes(env, lambda seen: np.zeros((1, 1), np.float32), 1)
    assert episode.success == (None if rate is None else bool(rate))
    assert share == rate


class Sometimes:
    """Success, step by step: from the fourth episode on it is not known."""

    def __init__(self):
        self.steps = 0

    def __getitem__(self, index):
        self.steps += 1
        return None if self.steps > 3 * LENGTH else True


def test_success_that_is_not_always_known_is_that_of_the_other_episodes(tmp_path):
    env = make_vec_env(lambda: Outermost(Odd(success=Sometimes())))
    model = SimpleNamespace(predict=lambda *seen, **options: (np.zeros((1, 1)), None))
    evaluations = [evaluate(model, env, 2) for _ in range(3)]
    successes = [each.successes for each in evaluations]
    assert (successes[0].tolist(), successes[0].dtype) == ([True, True], bool)
    assert successes[1].tolist() == pytest.approx([1, np.nan], nan_ok=True)
    assert successes[2] is None
    assert [each.success_rate for each in evaluations] == [1, 1, None]
    for order in (evaluations, evaluations[::-1]):
        (tmp_path / "evaluations.npz").unlink(missing_ok=True)
        for i, each in enumerate(order):
            add_evaluation(tmp_path / "evaluations.npz", i, each)
        rates = [np.nan if each.success_rate is None else each.success_rate for each in order]
        found = read_evaluations(tmp_path).successes
        assert found.tolist() == pytest.approx(rates, nan_ok=True)


@pytest.mark.parametrize(
    ("success", "known"),
    [("0.5", [0.5, 0.5]), ("null", []), (".nan", [])],
    ids=["half", "none", "no number"],
)
def test_success_is_counted_in_training_as_in_evaluations(tmp_path, success, known):
    learned, given = Learned(), f"env_kwargs.success=[{success}]"
    keys = "monitor_kwargs.info_keywords=[is_success]"
    train(replace(asked(tmp_path / "run", "sac", given, keys), eval_freq=5), [learned])
    assert [*learned.model.ep_success_buffer] == known
    for curve in (read_evaluations(tmp_path / "run"), read_training(tmp_path / "run")):
        assert (curve.successes is None) == (not known)
        assert not known or curve.successes.tolist() == known


@pytest.mark.parametrize("success", ["maybe", "{a: true}"], ids=["text", "a dict"])
def test_success_that_is_neither_true_nor_false_is_not_known_and_ends_no_training(
    tmp_path, success, caplog
):
    learned, given = Learned(), f"env_kwargs.success=[{success}]"
    _warn_once.cache_clear()
    train(replace(asked(tmp_path / "run", "sac", given), eval_freq=5), [learned])
    assert [*learned.model.ep_success_buffer] == []
    assert read_evaluations(tmp_path / "run").successes is None
    (warned,) = (line for line in caplog.messages if line.startswith("success in infos of Odd-v0 "))
    kind, _, rest = warned.removeprefix("success in infos of Odd-v0 is a ").partition(", ")
    assert kind == ("str" if success == "maybe" else "dict")
    assert rest == (
        "neither true nor false nor a number: its episodes count as those that do not say it"
    )


def test_what_an_environment_keeps_to_say_is_not_written_into(tmp_path):
    learned, wrapped = Learned(), f"env_wrapper={__name__}.OneInfo"
    train(replace(asked(tmp_path / "run", "sac", wrapped, trust=True), eval_freq=5), [learned])
    assert [*learned.model.ep_success_buffer] == [True, True]
    assert len(learned.model.ep_info_buffer) == 2
    assert read_evaluations(tmp_path / "run").successes.tolist() == [1, 1]
    assert said_by_all.keys() == {"success"}


class Attributes(dict):
    """An info that can be read as attributes too."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Uncopied(dict):
    def __reduce_ex__(self, protocol):
        raise TypeError("cannot be copied")


class Frozen(dict):
    def __copy__(self):
        return self


@pytest.mark.parametrize(
    ("kind", "copied"),
    [(dict, dict), (Attributes, Attributes), (Uncopied, dict), (Frozen, dict), (UserDict, dict)],
    ids=lambda kind: kind.__name__,
)
def test_infos_keep_their_class_where_that_can_be_copied(kind, copied):
    env = Odd()
    said = kind(success=True, distance=1.5)
    env.step = lambda action: (env.seen, 0.0, False, False, said)
    info = Outermost(env).step(None)[-1]
    assert (type(info), dict(info)) == (copied, {**said, "is_success": True})
    assert set(said) == {"success", "distance"}
    assert copied is dict or info.distance == 1.5


def test_recordings_count_success_as_evaluations_do(tmp_path):
    path = tmp_path / "run"
    train(asked(path, "sac", "env_kwargs.success=[0.5]"))
    found = record(ENV, str(path), tmp_path / "demos.npz", episodes=2)
    assert (found.success_rate, found.kept) == (0.5, 2)


def test_success_in_parts_is_one_in_training_too(tmp_path):
    learned = Learned()
    train(asked(tmp_path / "run", "sac", "env_kwargs.success=[[true, false]]"), [learned])
    assert [*learned.model.ep_success_buffer] == [False, False]
    env = Outermost(Odd(success=[np.array([True, True])]))
    env.reset()
    infos = [env.step(env.action_space.sample())[-1] for _ in range(LENGTH)]
    assert infos[-1] == {"is_success": True}
