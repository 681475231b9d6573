"""Rounds in one process."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import pyrl_sb3
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.sync.state import AgentState, read_state
from pyrl_sb3.training.sync.strategies import Outcome
from pyrl_sb3.training.sync.trainer import AgentTrainer

SMALL = {"policy_kwargs": {"net_arch": [8]}, "learning_starts": 50, "batch_size": 16}


def short():
    return Monitor(gym.wrappers.TimeLimit(gym.make("Pendulum-v1").unwrapped, 30))


def make(algorithm=pyrl_sb3.TD3, copies=3, env=short, **kwargs):
    return AgentTrainer(algorithm, env, copies, **{**SMALL, **kwargs})


def arrays(model):
    return read_state(model).as_arrays()


def assert_equal(one, other):
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


@pytest.mark.parametrize("algorithm", [pyrl_sb3.TD3, stable_baselines3.SAC])
def test_after_a_round_all_are_the_mean_of_what_they_were(algorithm):
    trainer = make(algorithm)
    seen = []

    def noting(reports, own, memory):
        from pyrl_sb3.training.sync.strategies import mean

        seen.append({rank: each.state.weights for rank, each in reports.items()})
        return mean(reports, own, memory)

    trainer.strategy = noting
    trainer.run(2, 5)
    copies = seen[0]
    for name in copies[0]:
        before = [copies[rank][name] for rank in range(3)]
        expected = np.mean(before, axis=0, dtype=np.float64).astype(before[0].dtype)
        for model in (*trainer.models, trainer.master):
            np.testing.assert_array_equal(read_state(model).weights[name], expected)
    assert trainer.total_timesteps == 3 * 2 * 30
    name = "policy.critic.qf0.0.weight"
    assert not np.array_equal(copies[0][name], copies[1][name]), "they have learned the same"


def test_copies_begin_alike_and_see_different_things():
    trainer = make()
    assert_equal(arrays(trainer.models[0]), arrays(trainer.models[2]))
    trainer.run(1, 0)
    first = [model.replay_buffer.observations[:5].copy() for model in trainer.models]
    assert not np.array_equal(first[0], first[1])
    assert_equal(arrays(trainer.models[0]), arrays(trainer.models[2]))  # nobody has trained


def test_same_seeds_same_weights_whatever_else_draws():
    ends = []
    for disturbance in range(2):
        trainer = make(sync="elastic")
        for _ in range(3):
            np.random.random(disturbance)
            trainer.run(1, 4)
        ends.append(arrays(trainer.models[1]))
    assert_equal(*ends)
    other = make(sync="elastic", seed=9)
    for _ in range(3):
        other.run(1, 4)
    name = "weights/policy.actor.mu.0.weight"
    assert not np.array_equal(arrays(other.models[1])[name], ends[0][name])


def test_a_single_copy_is_a_training_of_its_own():
    trainer = make(copies=1)
    assert len(trainer.run(1, 3)) == 1
    assert_equal(arrays(trainer.models[0]), arrays(trainer.master))


def test_statistics_count_each_observation_once():
    trainer = make(env=lambda: VecNormalize(DummyVecEnv([short])))
    for round_ in (1, 2, 3):
        trainer.run(1, 0)
        # One observation of the first reset, then 30 in each copy's episode.
        for model in (*trainer.models, trainer.master):
            count = model.get_vec_normalize_env().obs_rms.count
            assert count == pytest.approx(1 + 3 * 30 * round_, abs=0.01)


def test_each_copy_has_noise_of_its_own():
    noises = [model.action_noise() for model in make(noise="ou_0.2").models]
    assert len({float(noise[0]) for noise in noises}) == 3


def test_returns_are_those_of_the_copies():
    scores = make().run(2, 0)
    assert len(set(scores)) == 3
    assert all(-600 < score < 0 for score in scores)


@pytest.mark.parametrize(
    ("problem", "call"),
    [
        ("no strategy 'mena'; there are mean", lambda: make(sync="mena")),
        ("n_seeds=0", lambda: make(copies=0)),
        ("n_seeds=2.5: must be a whole number", lambda: make(copies=2.5)),
        ("algorithm='td3': must be a class, such as", lambda: make("td3")),
        ("say noise='normal_0.1'", lambda: make(action_noise=None)),
        (
            "say noise='normal_0.1'",
            lambda: make(noise=NormalActionNoise(np.zeros(1), np.ones(1))),
        ),
        (
            "env makes 2 environments: .* of 1 environment",
            lambda: make(env=lambda: DummyVecEnv([short] * 2)),
        ),
        ("n_episodes=0", lambda: make().run(0, 1)),
        ("train_steps=0.5: must be a whole number, at least 0", lambda: make().run(1, 0.5)),
        ("env is a Monitor: .* give its id, or a function that makes", lambda: make(env=short())),
        ("PPO is no off-policy algorithm", lambda: AgentTrainer(PPO, short, 2)),
        *(
            (f"seed={seed}: must be a whole number, at least 0", partial(make, seed=seed))
            for seed in (None, True, -1, 0.5)
        ),
        *(
            (f"total_timesteps={steps!r}: must be a whole", partial(make, total_timesteps=steps))
            for steps in (-5, 0, True, float("nan"), "100")
        ),
    ],
)
def test_bad_input(problem, call):
    with pytest.raises(InputError, match=problem):
        call()


def test_whole_floats_and_what_makes_the_algorithm_will_do():
    trainer = AgentTrainer(partial(pyrl_sb3.TD3, gamma=0.9), short, 1.0, seed=3.0, **SMALL)
    assert (trainer.models[0].gamma, trainer.models[0].seed) == (0.9, 3)
    assert len(trainer.run(1.0, np.float32(2))) == 1


def test_copies_with_discrete_actions_take_turns_too():
    with pytest.raises(InputError, match="total_timesteps: needed, DQN explores less"):
        make(pyrl_sb3.DQN, copies=2, env="CartPole-v1")
    trainer = make(pyrl_sb3.DQN, copies=2, env="CartPole-v1", total_timesteps=500)
    before = arrays(trainer.master)
    trainer.run(5, 2)
    assert_equal(arrays(trainer.models[0]), arrays(trainer.master))
    assert any((array != before[name]).any() for name, array in arrays(trainer.master).items())
    with pytest.raises(InputError, match="none is for discrete actions"):
        make(pyrl_sb3.DQN, copies=2, env="CartPole-v1", noise="ou_0.2", total_timesteps=500)


class Uneven(gym.Wrapper):
    """Episodes of very different lengths."""

    def reset(self, **kwargs):
        found = self.env.reset(**kwargs)
        self.left = int(self.np_random.integers(5, 60))
        return found

    def step(self, action):
        *found, truncated, info = self.env.step(action)
        self.left -= 1
        return *found, truncated or self.left <= 0, info


@pytest.mark.parametrize("sync", ["mean", "best", "outer"])
@pytest.mark.parametrize("optimizer", [th.optim.RMSprop, th.optim.SGD])
def test_copies_begin_to_train_in_different_rounds_with_any_optimizer(optimizer, sync):
    given = {"optimizer_class": optimizer, "optimizer_kwargs": {"momentum": 0.9}, "net_arch": [8]}

    def uneven():
        return Monitor(Uneven(gym.make("Pendulum-v1").unwrapped))

    trainer = make(stable_baselines3.SAC, env=uneven, policy_kwargs=given, sync=sync)
    trained = set()
    for _ in range(4):
        trainer.run(1, 2)
        trained.add(tuple(model._n_updates > 0 for model in trainer.models))
    assert any(len(set(each)) == 2 for each in trained), "all begin in one round"
    assert all(np.isfinite(array).all() for array in arrays(trainer.master).values())


def test_schedules_stay_at_their_end_in_rounds_that_go_on_past_it():
    seen = []

    def rate(progress):
        seen.append(progress)
        return 1e-3 * progress + 1e-4

    trainer = make(copies=1, learning_rate=rate, total_timesteps=75)
    for _ in range(4):
        trainer.run(1, 1)
    group = trainer.models[0].critic.optimizer.param_groups[0]
    assert (trainer.total_timesteps, group["lr"]) == (120, 1e-4)
    assert set(seen) >= {1 - 60 / 75, 0.0}
    assert min(seen) == 0.0


def test_no_copy_is_changed_by_a_strategy_that_leaves_something_out():
    def careless(reports, own, memory):
        weights = {name: array + 1 for name, array in reports[own].state.weights.items()}
        state = AgentState(weights=weights, running={}, moments={}, counts={})
        return Outcome(state, state, {})

    trainer = make(copies=2, sync=careless)
    before = [arrays(model) for model in (*trainer.models, trainer.master)]
    with pytest.raises(InputError, match="strategy careless returns a state that lacks moments/"):
        trainer.run(1, 0)
    for model, there in zip((*trainer.models, trainer.master), before, strict=True):
        assert_equal(arrays(model), there)
