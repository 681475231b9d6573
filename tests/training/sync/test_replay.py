"""Transitions that copies give to each other: which buffers can, and copies that are not alike."""

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

import pyrl_sb3
from pyrl_sb3.envs.bit_flipping import BitFlipping
from pyrl_sb3.testing.lockstep import Lockstep
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.sync.callback import SeedSyncCallback
from pyrl_sb3.training.sync.job import SyncPlan, synchronised


class Numbered(gym.Env):
    """Shows the copy and the step; never ends; the reward is 1 in the first copy, else 100."""

    observation_space = gym.spaces.Box(-1e6, 1e6, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, copy):
        self.copy = copy

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.array([self.copy, 0], np.float32), {}

    def step(self, action):
        self.time += 1
        seen = np.array([self.copy, self.time], np.float32)
        return seen, 100.0**self.copy, False, False, {}


def make(copy, env=None, **kwargs):
    return stable_baselines3.SAC(
        "MlpPolicy",
        env or Numbered(copy),
        seed=copy,
        policy_kwargs={"net_arch": [4]},
        learning_starts=1000,
        buffer_size=500,
        **kwargs,
    )


def train_two(steps=40, more=lambda rank: [], **kwargs):
    def train(group):
        model = make(group.rank, **kwargs)
        sync = SeedSyncCallback(interval=10, group=group, share_replay=True)
        model.learn(steps, [sync, *more(group.rank)])
        return model

    return Lockstep(2).run([train] * 2)


class Stop(BaseCallback):
    def __init__(self, at):
        super().__init__()
        self.at = at

    def _on_step(self):
        return self.num_timesteps < self.at


@pytest.mark.parametrize(
    ("problem", "kwargs"),
    [
        (r"NStepReplayBuffer cannot share; pyrl_sb3\.ReplayBuffer can", {"n_steps": 3}),
        (
            r"optimize_memory_usage cannot share; pyrl_sb3\.ReplayBuffer can",
            {
                "optimize_memory_usage": True,
                "replay_buffer_kwargs": {"handle_timeout_termination": False},
            },
        ),
    ],
)
def test_buffers_that_would_put_steps_of_different_copies_together_are_refused(problem, kwargs):
    with pytest.raises(InputError, match=problem):
        train_two(**kwargs)


def test_ours_sums_no_rewards_of_different_copies():
    ours = {
        "replay_buffer_class": pyrl_sb3.ReplayBuffer,
        "replay_buffer_kwargs": {"n_steps": 3, "gamma": 1.0},
    }
    buffer = train_two(**ours)[0].replay_buffer
    at = np.arange(buffer.pos)
    batch = buffer.sample_at(at, np.zeros_like(at))
    before, after = np.asarray(batch.observations), np.asarray(batch.next_observations)
    np.testing.assert_array_equal(before[:, 0], after[:, 0])
    taken = after[:, 1] - before[:, 1]
    assert set(taken) <= {1, 2, 3}
    np.testing.assert_allclose(np.asarray(batch.rewards)[:, 0], taken * 100.0 ** before[:, 0])


class Fuelled(BitFlipping):
    """Rewards are by the fuel that is left, which infos say; copies have their own."""

    def __init__(self, fuel):
        super().__init__(3)
        self.fuel = fuel

    def step(self, action):
        *seen, info = super().step(action)
        return *seen, {**info, "fuel": self.fuel}

    def compute_reward(self, achieved_goal, desired_goal, info):
        return np.array([each["fuel"] for each in info], np.float32)


def train_with_infos(*fuels):
    def train(group):
        model = pyrl_sb3.DQN(
            "MultiInputPolicy",
            Fuelled(fuels[group.rank]),
            learning_starts=1000,
            replay_buffer_class=pyrl_sb3.HerReplayBuffer,
            replay_buffer_kwargs={"copy_info_dict": True},
            buffer_size=100,
            policy_kwargs={"net_arch": [4]},
        )
        sync = SeedSyncCallback(interval=10, group=group, share_replay=True)
        model.learn(20, sync)
        return model.replay_buffer

    return Lockstep(2).run([train] * 2)


def test_rewards_for_new_goals_are_computed_of_the_infos_that_came_with_the_steps():
    for buffer in train_with_infos(np.float32(1), np.array(7)):
        rewards = np.asarray(buffer.sample(200).rewards)
        assert set(rewards[:, 0]) >= {1, 7}


def test_infos_that_cannot_be_sent_are_named():
    with pytest.raises(InputError, match="share_replay: the info 'fuel' cannot be saved"):
        train_with_infos(object(), object())


@pytest.mark.parametrize("stock", [True, False])
def test_the_command_line_refuses_them_before_anything_begins(stock, tmp_path):
    asked = {"agent": "sac", "env_id": "Pendulum-v1", "timesteps": 100, "stock": stock}
    request = TrainingRequest(**asked, overrides=("n_steps=3",))
    plan = SyncPlan(name="mean", params={"share_replay": True})
    with pytest.raises(InputError, match=r"NStepReplayBuffer cannot share.*--buffer uniform"):
        synchronised(request, (0, 1), plan, tmp_path)
    synchronised(request, (0, 1), SyncPlan(name="mean"), tmp_path)


@pytest.mark.parametrize("at", [10, 11, 15])
def test_a_copy_that_is_stopped_gives_what_it_has(at):
    stopped, other = train_two(more=lambda rank: [] if rank else [Stop(at)])
    assert (stopped.num_timesteps, other.num_timesteps) == (at, 40)
    # SB3 keeps neither the step that a callback ends the training at, nor a synchronisation's own
    # before it; whoever has gone misses what the other does later.
    assert other.replay_buffer.pos == at - 1 + 40
    assert stopped.replay_buffer.pos == at - 1 + 19


def test_copies_with_different_numbers_of_environments_cannot_share():
    def train(group):
        env = DummyVecEnv([lambda: Numbered(group.rank)] * (1 + group.rank))
        sync = SeedSyncCallback(interval=10, group=group, share_replay=True)
        make(group.rank, env).learn(40, sync)

    with pytest.raises(InputError, match="copies have 1 and 2 environments; let all have 1"):
        Lockstep(2).run([train] * 2)


def test_copies_taking_turns_must_exchange_the_same_arrays():
    def differ(group):
        group.all_gather({"a": np.zeros(1 + group.rank)})

    with pytest.raises(ValueError, match="the copies exchange different arrays"):
        Lockstep(2).run([differ] * 2)
