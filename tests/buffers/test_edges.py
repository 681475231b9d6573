"""Uncommon calls and environments, each of which once went wrong."""

import pickle
from copy import deepcopy

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from pyrl_sb3.buffers import DictReplayBuffer, HerReplayBuffer, keep_raw_terminals
from pyrl_sb3.buffers.tap import RAW_TERMINAL

KEYS = ("observation", "achieved_goal", "desired_goal")
BOX = spaces.Box(-99, 99, (2,), np.float32)
ACTION = spaces.Box(-1, 1, (1,), np.float32)


class Reach(gym.Env):
    """Ends where a goal is reached."""

    observation_space = spaces.Dict(dict.fromkeys(KEYS, BOX))
    action_space = ACTION

    def reset(self, *, seed=None, options=None):
        return {key: np.zeros(2, np.float32) for key in KEYS}, {}

    def compute_reward(self, achieved, desired, info):
        return -np.linalg.norm(achieved - desired, axis=-1)

    def compute_terminated(self, achieved, desired, info):
        return np.linalg.norm(achieved - desired, axis=-1) < 0.5


def her(env, size=100, **kwargs):
    space, n_envs = env.observation_space, env.num_envs
    return HerReplayBuffer(size, space, env.action_space, env=env, n_envs=n_envs, seed=0, **kwargs)


def seen(number, goal):
    both = np.full((1, 2), number, np.float32)
    desired = np.full((1, 2), goal, np.float32)
    return {"observation": both, "achieved_goal": both, "desired_goal": desired}


def step(buffer, before, after, done=False, truncated=False, **info):
    """`before` and `after` are a number for the state and one for the goal."""
    infos = [{"TimeLimit.truncated": truncated, **info}]
    action, reward = np.zeros((1, 1), np.float32), np.zeros(1, np.float32)
    buffer.add(seen(*before), seen(*after), action, reward, np.array([done or truncated]), infos)


class OneAsked(Reach):
    def compute_terminated(self, achieved, desired, info):
        return bool(np.linalg.norm(achieved - desired) < 0.5) and info["ok"]


class BatchAsked(Reach):
    def compute_terminated(self, achieved, desired, info):
        ok = np.array([each["ok"] for each in info])
        return super().compute_terminated(achieved, desired, info) & ok


@pytest.mark.parametrize("kind", [OneAsked, BatchAsked])
def test_compute_terminated_is_given_the_infos(kind):
    buffer = her(DummyVecEnv([kind]), copy_info_dict=True, goal_mix={"final": 1})
    for i in range(4):
        step(buffer, (i, -1), (i + 1, -1), truncated=i == 3, ok=i < 3)
    for i in range(4):
        step(buffer, (9 * i, -1), (9 * i + 9, -1), truncated=i == 3, ok=True)
    dones = buffer.sample_at(np.arange(8), np.zeros(8, int)).dones
    assert dones.flatten().tolist() == [0, 0, 0, 0, 0, 0, 0, 1]


def test_a_buffer_without_infos_leaves_those_of_a_folder(tmp_path):
    env = DummyVecEnv([Reach])
    with_infos, without = her(env, 6, copy_info_dict=True), her(env, 6)
    for i in range(6):
        step(with_infos, (i, 0), (i + 1, 0), number=i)
    with_infos.save(tmp_path / "folder")
    without.load(tmp_path / "folder")
    for i in range(6, 10):
        step(without, (i, 0), (i + 1, 0), number=i)
    assert len(without.sample(50).rewards) == 50
    assert not without._infos


def test_a_goal_may_change_back_in_the_first_step():
    buffer = her(DummyVecEnv([Reach]), goal_mix={"real": 1})
    step(buffer, (0, 1), (1, 1))
    step(buffer, (1, 1), (2, 1), truncated=True)
    step(buffer, (10, 2), (11, 1))
    step(buffer, (11, 1), (12, 1))
    batch = buffer.sample_at(np.arange(4), np.zeros(4, int))
    assert batch.observations["desired_goal"][:, 0].tolist() == [1, 1, 2, 1]
    assert batch.next_observations["desired_goal"][:, 0].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("n_envs", [(1, 2), (2, 1)])
def test_an_environment_met_in_sample_is_met_before_rows_are_drawn(n_envs):
    envs = [VecNormalize(DummyVecEnv([Reach] * n), norm_obs=False) for n in n_envs]
    buffer = her(envs[0], goal_mix={"real": 1})
    n = n_envs[0]
    for i in range(40):
        obs = {key: np.full((n, 2), i + 1, np.float32) for key in KEYS}
        then = {key: np.full((n, 2), i + 2, np.float32) for key in KEYS}
        done = np.full(n, i % 10 == 9)
        infos = [{"TimeLimit.truncated": True}] * n
        buffer.add(obs, then, np.full((n, 1), i + 1), np.zeros(n), done, infos)
    numbers = set(buffer.sample(2000, env=envs[1]).actions.flatten().tolist())
    assert numbers == set(range(1, 41))


def test_sample_at_takes_the_rewards_of_the_environment_it_is_given():
    class Seven(Reach):
        def compute_reward(self, achieved, desired, info):
            return np.full(len(achieved), 7.0)

    buffer = her(DummyVecEnv([Reach]), goal_mix={"final": 1})
    step(buffer, (0, 1), (1, 1))
    other = VecNormalize(DummyVecEnv([Seven]), norm_obs=False, norm_reward=False)
    assert buffer.sample_at(np.zeros(1, int), np.zeros(1, int), other).rewards.tolist() == [[7.0]]
    two = VecNormalize(DummyVecEnv([Seven] * 2), norm_obs=False)
    with pytest.raises(ValueError, match="positions of 1 environments, not of 2"):
        buffer.sample_at(np.zeros(1, int), np.zeros(1, int), two)


def test_files_go_with_what_they_stored(tmp_path):
    buffer = DictReplayBuffer(50, Reach.observation_space, ACTION, storage="memmap", path=tmp_path)
    counts = []
    for i in range(3):
        step(buffer, (i, 0), (i + 1, 0))
        buffer.save(tmp_path / "saved")
        counts.append(len(list(tmp_path.glob("buffer-*/*"))))
        buffer.reset()
    buffer.load(tmp_path / "saved")
    buffer.load(tmp_path / "saved")
    counts.append(len(list(tmp_path.glob("buffer-*/*"))))
    assert counts == [counts[0]] * 4


def test_stacks_of_nothing():
    space = spaces.Dict(image=spaces.Box(0, 255, (3, 4, 4), np.uint8))
    buffer = DictReplayBuffer(30, space, ACTION, frame_stack={"image": 3})
    assert buffer.observations["image"].shape == (30, 1, 3, 4, 4)
    image = {"image": np.zeros((1, 3, 4, 4), np.uint8)}
    buffer.add(image, image, np.zeros((1, 1)), np.zeros(1), np.array([False]), [{}])
    buffer.change_n_envs(2)
    assert buffer.size() == 0


def test_an_end_that_also_changes_the_goal_was_caused_by_the_goal_before():
    buffer = her(DummyVecEnv([Reach]), goal_mix={"episode": 1})
    step(buffer, (0, 2), (1, 2))
    step(buffer, (1, 2), (2, 7), done=True)
    batch = buffer.sample_at(np.ones(50, int), np.zeros(50, int))
    reached = batch.observations["desired_goal"][:, :1] == 2
    assert reached.any()
    assert not reached.all()
    assert (batch.dones.bool() == reached).all()


def test_what_is_added_may_be_lists():
    buffer = her(DummyVecEnv([Reach]))
    obs = {key: [[0.0, 1.0]] for key in KEYS}
    buffer.add(obs, obs, [[0.5]], [1.0], [True], [{"TimeLimit.truncated": False}])
    assert buffer.sample(1).dones.tolist() == [[1.0]]


def test_observations_of_another_shape_are_refused():
    buffer = her(DummyVecEnv([Reach] * 2))
    obs = {key: np.zeros((2, 2)) for key in KEYS}
    wrong = {**obs, "observation": np.zeros(2)}
    with pytest.raises(ValueError, match=r"'observation' has shape \(2,\) instead of \(2, 2\)"):
        buffer.add(wrong, obs, np.zeros((2, 1)), np.zeros(2), np.zeros(2, bool), [{}, {}])


@pytest.mark.parametrize("n_envs", [1, 2])
def test_a_reward_of_one_transition_may_be_an_array(n_envs):
    class Single(Reach):
        def compute_reward(self, achieved, desired, info):
            return np.array([float(achieved[0] - desired[0])])

        def compute_terminated(self, achieved, desired, info):
            return np.array([bool(achieved[0] == desired[0])])

    buffer = her(DummyVecEnv([Single] * n_envs), goal_mix={"final": 1})
    obs = [{key: np.full((n_envs, 2), x) for key in KEYS} for x in (0, 1, 2)]
    for i in range(2):
        done = np.full(n_envs, i == 1)
        infos = [{"TimeLimit.truncated": True}] * n_envs
        buffer.add(obs[i], obs[i + 1], np.zeros((n_envs, 1)), np.zeros(n_envs), done, infos)
    batch = buffer.sample_at(np.array([0, 1]), np.zeros(2, int))
    assert batch.rewards.flatten().tolist() == [-1, 0]
    assert batch.dones.flatten().tolist() == [0, 1]


class Counter(Reach):
    steps = 0

    def step(self, action):
        self.steps += 1
        return self.reset()[0], 0.0, self.steps % 2 == 0, False, {}


@pytest.mark.parametrize("copied", [deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_of_an_environment_step_themselves(copied):
    inner = DummyVecEnv([Counter])
    keep_raw_terminals(VecNormalize(inner))
    other = copied(inner)
    other.reset()
    other.step(np.zeros((1, 1), np.float32))
    assert [venv.envs[0].steps for venv in (inner, other)] == [0, 1]
    keep_raw_terminals(VecNormalize(other))
    assert RAW_TERMINAL in other.step(np.zeros((1, 1), np.float32))[3][0]
