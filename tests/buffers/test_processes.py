"""Environments in processes of their own."""

import multiprocessing
import pickle
import sys
import warnings
from contextlib import closing

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from pyrl_sb3.buffers import HerReplayBuffer
from pyrl_sb3.buffers.relabel import GoalOracle

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # tests cannot be imported
KEYS = ("observation", "achieved_goal", "desired_goal")


class Walk(gym.Env):
    """Walks from 0 by its actions for 5 steps; `observation` says whose walk it is."""

    observation_space = spaces.Dict(dict.fromkeys(KEYS, spaces.Box(-np.inf, np.inf, (1,))))
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, owner):
        self.owner = owner

    def observe(self):
        values = (self.owner, self.place, self.goal)
        return {k: np.array([v], np.float32) for k, v in zip(KEYS, values, strict=True)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.place, self.goal = 0, 0.0, self.np_random.normal()
        return self.observe(), {}

    def step(self, action):
        self.steps += 1
        self.place += float(action[0])
        obs = self.observe()
        reward = self.compute_reward(obs["achieved_goal"], obs["desired_goal"], {})
        return obs, float(reward), False, self.steps == 5, {}

    def compute_reward(self, achieved, desired, info):
        return (100 * self.owner + achieved - desired)[..., 0]


class FussyWalk(Walk):
    """The same, one transition at a time, and nothing else."""

    def compute_reward(self, achieved, desired, info):
        if achieved.shape != (1,):
            raise TypeError("one at a time, please")
        return super().compute_reward(achieved, desired, info)


class SlowWalk(Walk):
    """Answers for its part of a batch, four rows, when the other environment is asked too."""

    def __init__(self, owner, both_asked):
        super().__init__(owner)
        self.both_asked = both_asked

    def compute_reward(self, achieved, desired, info):
        if len(achieved) == 4:
            self.both_asked.wait(timeout=20)
        return super().compute_reward(achieved, desired, info)


def subprocesses(*make):
    return closing(SubprocVecEnv(list(make), start_method="fork"))


def test_training_with_the_owners_rewards():
    make = [lambda i=i: Monitor(Walk(i)) for i in range(2)]
    with subprocesses(*make) as processes:
        env = VecNormalize(processes, norm_reward=False)
        model = SAC(
            "MultiInputPolicy",
            env,
            replay_buffer_class=HerReplayBuffer,
            replay_buffer_kwargs={"goal_mix": {"episode": 1}},
            learning_starts=20,
            batch_size=16,
            policy_kwargs={"net_arch": [8]},
            device="cpu",
            seed=0,
        )
        model.learn(80)
        buffer = model.replay_buffer
        raw, normal = buffer.sample(200), buffer.sample(200, env=env)
    assert model._n_updates > 0
    assert buffer.size() == 40
    assert buffer._oracle._batched == {"compute_reward": True}
    achieved = raw.next_observations["achieved_goal"]
    owner = raw.observations["observation"]
    assert set(owner.flatten().tolist()) == {0, 1}
    expected = 100 * owner + achieved - raw.observations["desired_goal"]
    assert (raw.rewards - expected).abs().max() < 1e-4
    # Whose walk it is has a mean of 1/2 and a deviation of 1/2.
    assert set(normal.observations["observation"].flatten().round().tolist()) == {-1, 1}


def test_an_exception_in_trying_a_batch_ends_no_process():
    make = [lambda: Monitor(FussyWalk(0)), lambda: FussyWalk(1), lambda: Monitor(Walk(2))]
    achieved, desired = np.arange(4, dtype=np.float32)[:, None], np.ones((4, 1), np.float32)
    with subprocesses(*make) as env:
        for owner, batched in enumerate((False, False, True)):
            oracle = GoalOracle(env)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                for _ in range(2):
                    asked = achieved, desired, [{}] * 4, np.full(4, owner)
                    rewards = oracle.rewards(*asked)
                    assert rewards.tolist() == [100 * owner + i - 1 for i in range(4)]
            assert oracle._batched == {"compute_reward": batched}
            assert ["wrapper" in str(each.message) for each in caught] == [True] * (owner == 1)
        assert all(process.is_alive() for process in env.processes)


def test_processes_compute_their_rewards_at_the_same_time():
    fork = multiprocessing.get_context("fork")
    both_asked = fork.Barrier(2)
    make = [lambda i=i: Monitor(SlowWalk(i, both_asked)) for i in range(2)]
    achieved, desired = np.arange(8, dtype=np.float32)[:, None], np.zeros((8, 1), np.float32)
    owners = np.array([1, 0, 0, 1, 1, 0, 1, 0])
    with closing(SubprocVecEnv(make, start_method="fork")) as env:
        infos = [{"row": row} for row in range(8)]
        rewards = GoalOracle(env).rewards(achieved, desired, infos, owners)
    assert rewards.tolist() == (100 * owners + np.arange(8)).tolist()


@pytest.mark.parametrize("kind", [DummyVecEnv, SubprocVecEnv])
def test_where_all_rewards_are_the_same_the_first_environment_computes_them(kind):
    make = [lambda i=i: Monitor(Walk(i)) for i in range(2)]
    given = {"start_method": "fork"} if kind is SubprocVecEnv else {}
    with closing(kind(make, **given)) as env:
        args = 40, env.observation_space, env.action_space, env, "cpu", 2
        kwargs = {"goal_mix": {"episode": 1}, "seed": 0}
        own = HerReplayBuffer(*args, **kwargs)
        same = HerReplayBuffer(*args, **kwargs, same_rewards=True)
        observations = env.reset()
        for _ in range(20):
            actions = np.array([[0.5], [-1.0]])
            following, rewards, dones, infos = env.step(actions)
            for buffer in (own, same):
                buffer.add(observations, following, actions, rewards, dones, infos)
            observations = following
        ours, theirs = own.sample(100), same.sample(100)
        again = pickle.loads(pickle.dumps(same))
        again.set_env(env)
        third = again.sample(50)
    owner = ours.observations["observation"]
    assert set(owner.flatten().tolist()) == {0, 1}
    assert (ours.observations["desired_goal"] == theirs.observations["desired_goal"]).all()
    assert (ours.rewards - theirs.rewards - 100 * owner).abs().max() < 1e-4
    assert third.rewards.abs().max() < 50
