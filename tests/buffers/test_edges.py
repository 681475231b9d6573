"""Uncommon calls and environments, each of which once went wrong."""

import gc
import os
import pickle
import re
import shutil
import signal
import sys
import threading
import weakref
from copy import deepcopy
from functools import partial
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from pyrl_sb3.buffers import (
    DictReplayBuffer,
    HerReplayBuffer,
    ReplayBuffer,
    keep_raw_terminals,
    memory,
    stacks,
)
from pyrl_sb3.buffers.columns import EpisodeColumn
from pyrl_sb3.buffers.tap import RAW_TERMINAL

KEYS = ("observation", "achieved_goal", "desired_goal")
BOX = spaces.Box(-99, 99, (2,), np.float32)
ACTION = spaces.Box(-1, 1, (1,), np.float32)
ONE, THREE = (spaces.Box(-np.inf, np.inf, (n,), np.float32) for n in (1, 3))


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


class OneInformed(Reach):
    def compute_reward(self, achieved, desired, info):
        return -info["cost"] * np.linalg.norm(achieved - desired)


class BatchInformed(Reach):
    def compute_reward(self, achieved, desired, info):
        return -np.array([each["cost"] for each in info])


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("kind", [OneInformed, BatchInformed])
def test_rewards_that_go_by_infos_ask_for_them_to_be_stored(kind, n_envs):
    both = [her(DummyVecEnv([kind] * n_envs), copy_info_dict=known) for known in (False, True)]
    zeros, infos = {key: np.zeros((n_envs, 2), np.float32) for key in KEYS}, [{"cost": 1}] * n_envs
    for buffer in both:
        buffer.add(zeros, zeros, np.zeros((n_envs, 1)), *np.zeros((2, n_envs)), infos)
    with pytest.raises(KeyError, match=r"'cost'.*: set replay_buffer_kwargs\.copy_info_dict=true"):
        both[0].sample(8)
    both[1].sample(8)
    del both[1]._infos[0][0]["cost"]
    both[1]._infos[0][0]["other"] = 1
    with pytest.raises(KeyError) as caught:
        both[1].sample(99)
    assert caught.value.args == ("cost",)


class OwnTable(Reach):
    def compute_reward(self, achieved, desired, info):
        return {}["table"]


class Careful(Reach):
    def compute_reward(self, achieved, desired, info):
        infos = [info] if isinstance(info, dict) else info
        assert not any(infos)
        for each in infos:
            assert "cost" not in each
            assert each.get("cost") is None
            assert dict(each) == each == each.copy() == {}
        return super().compute_reward(achieved, desired, info)


def one_step(kind, **kwargs):
    buffer = her(DummyVecEnv([kind]), goal_mix={"final": 1}, **kwargs)
    step(buffer, (0, 1), (1, 1), cost=1)
    return buffer


@pytest.mark.parametrize("known", [False, True])
def test_what_is_not_looked_for_in_infos_is_no_matter_of_infos(known):
    with pytest.raises(KeyError) as caught:
        one_step(OwnTable, copy_info_dict=known).sample(8)
    assert caught.value.args == ("table",)
    assert len(one_step(Careful).sample(8).rewards) == 8


def test_infos_that_are_not_stored_are_empty_in_other_processes_too():
    infos = one_step(Reach)._infos_at(np.arange(3), SimpleNamespace())
    there = pickle.loads(pickle.dumps(infos))
    assert len(there) == len({id(each) for each in there}) == 3
    for each in (*there, pickle.loads(pickle.dumps(infos[0]))):
        assert each == {}
        with pytest.raises(KeyError, match=r"'cost'.*copy_info_dict=true"):
            each["cost"]


class Loops(Reach):
    """Of batches; of a single transition it takes the info, which is empty, for none at all."""

    def compute_reward(self, achieved, desired, info):
        return np.array([self.missing(*each) for each in zip(achieved, desired, info)])  # noqa: B905


def test_what_a_batch_fails_with_is_told():
    with pytest.raises(ValueError, match=r"^compute_reward gives") as caught:
        one_step(Loops).sample(8)
    assert "'Loops' object has no attribute 'missing'" in str(caught.value.__cause__)


class LoopsOverEnds(Reach):
    def compute_terminated(self, achieved, desired, info):
        return np.array([self.missing(*each) for each in zip(achieved, desired, info)])  # noqa: B905


def test_what_a_batch_of_ends_fails_with_is_told():
    with pytest.raises(ValueError, match=r"^compute_terminated gives") as caught:
        one_step(LoopsOverEnds).sample(8)
    assert "'LoopsOverEnds' object has no attribute 'missing'" in str(caught.value.__cause__)


def test_what_a_batch_fails_with_in_another_process_is_told_there(capfd):
    env = SubprocVecEnv([lambda: Monitor(Loops())], start_method="fork")
    try:
        buffer = her(env, goal_mix={"final": 1})
        step(buffer, (0, 1), (1, 1))
        with pytest.raises(ValueError, match=r"^compute_reward gives"):
            buffer.sample(8)
        assert env.get_attr("action_space") == [ACTION]
    finally:
        env.close()
    assert "'Loops' object has no attribute 'missing'" in capfd.readouterr().err


class TwoValues(Reach):
    def compute_reward(self, achieved, desired, info):
        assert achieved.ndim == 1
        return achieved - desired


class Ragged(Reach):
    n = 0

    def compute_reward(self, achieved, desired, info):
        self.n += 1
        return np.zeros(self.n % 3)


@pytest.mark.parametrize(("kind", "shape"), [(TwoValues, "(2,)"), (Ragged, "(0,) and (2,)")])
@pytest.mark.parametrize("known", [False, True])
def test_rewards_of_another_number_are_named(kind, shape, known):
    with pytest.raises(ValueError, match=r"^compute_reward gives") as caught:
        one_step(kind, copy_info_dict=known).sample(8)
    said = "neither one number for each transition of a batch, nor one for a single transition"
    assert str(caught.value) == f"compute_reward gives {said}, but arrays of shape {shape}"


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


@pytest.mark.parametrize("n_steps", [1, 2])
def test_what_is_achieved_once_per_episode_becomes_goals(n_steps):
    class Still(HerReplayBuffer):
        once = ("achieved_goal", "desired_goal")

    env, given = DummyVecEnv([Reach]), {"goal_mix": {"final": 1}, "n_steps": n_steps}
    buffer = Still(10, env.observation_space, ACTION, env=env, **given)
    for number in range(4):
        achieved = {"achieved_goal": np.full((1, 2), number // 2, np.float32)}
        both = ({**seen(n, 9), **achieved} for n in (number, number + 1))
        infos = [{"TimeLimit.truncated": True}]
        buffer.add(*both, np.zeros((1, 1)), np.zeros(1), np.array([number % 2 == 1]), infos)
    assert everything(buffer).observations["desired_goal"][:, 0].tolist() == [0, 0, 1, 1]


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


def test_an_environment_of_as_many_copies_deals_nothing_out():
    buffer = her(DummyVecEnv([Reach]))
    step(buffer, (0, 1), (1, 1))
    store = buffer.store
    buffer.set_env(DummyVecEnv([Reach]))
    assert buffer.store is store, "so a save goes on where the last one was"


def test_files_go_with_what_they_stored(tmp_path, mapped_files):
    buffer = DictReplayBuffer(50, Reach.observation_space, ACTION, storage="memmap", path=tmp_path)
    counts = []
    for i in range(3):
        step(buffer, (i, 0), (i + 1, 0))
        buffer.save(tmp_path / "saved")
        counts.append(len(mapped_files(tmp_path)))
        buffer.reset()
    buffer.load(tmp_path / "saved")
    buffer.load(tmp_path / "saved")
    counts.append(len(mapped_files(tmp_path)))
    assert counts[0] > 0
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


def numbers(*values):
    return np.array(values, np.float32)[:, None]


def plain(size=10, n_envs=1, **kwargs):
    return ReplayBuffer(size, ONE, ACTION, n_envs=n_envs, seed=0, **kwargs)


def walk(buffer, number, done=False, reward=None):
    n = buffer.n_envs
    infos = [{"TimeLimit.truncated": False, "number": number}] * n
    reward = np.full(n, number, np.float32) if reward is None else reward
    before, after = (np.full((n, 1), x, np.float32) for x in (number, number + 1))
    buffer.add(before, after, np.zeros((n, 1)), reward, np.full(n, done), infos)


def everything(buffer):
    positions = np.arange(buffer.store.first, buffer.store.now)
    return buffer.sample_at(positions, np.zeros(len(positions), int))


def numbers_of_infos(buffer):
    positions = range(buffer.store.first, buffer.store.now)
    return [buffer._infos[t % buffer.buffer_size][0].get("number") for t in positions]


@pytest.mark.parametrize("size", [10, 4])
def test_an_addition_that_is_refused_leaves_what_is_there(size):
    buffer = plain(size)
    for number in (0, 1, 2, 3):
        walk(buffer, number, number == 2)
    for _ in range(2):
        with pytest.raises(ValueError):
            walk(buffer, 100, reward=np.ones(3))
    kept = everything(buffer)
    expected = [0, 1, 2, 3] if size == 10 else [1, 2, 3]
    assert kept.observations.ravel().tolist() == expected
    assert kept.next_observations.ravel().tolist() == [x + 1 for x in expected]
    for number in (10, 11, 12, 13):
        walk(buffer, number, number == 12)
    found = everything(buffer)
    expected = [*([0, 1, 2, 3] if size == 10 else []), 10, 11, 12, 13]
    assert found.observations.ravel().tolist() == expected
    assert found.next_observations.ravel().tolist() == [x + 1 for x in expected]
    assert found.dones.ravel().tolist() == [x in (2, 12) for x in expected]


def ends(buffer):
    """What SB3's arrays say of the steps of the first environment."""
    n = buffer.size()
    assert buffer.dones[n:].sum() == 0
    return buffer.dones[:n, 0].tolist(), buffer.timeouts[:n, 0].tolist()


def test_an_unannounced_reset_is_a_timeout_in_sb3s_arrays():
    buffer = plain()
    for number in (0, 1, 7, 8):
        walk(buffer, number)
    assert ends(buffer) == ([0, 1, 0, 0],) * 2


def test_a_cut_is_a_timeout_whatever_is_observed_after_it():
    buffer = her(DummyVecEnv([Reach]))
    step(buffer, (0, 5), (1, 5))
    buffer.truncate_last_trajectory()
    step(buffer, (1, 5), (2, 5))  # as if the episode went on
    assert ends(buffer) == ([1, 0],) * 2


def test_an_addition_that_is_refused_after_a_reset_ends_no_episode():
    buffer = plain()
    for number in (0, 1):
        walk(buffer, number)
    with pytest.raises(ValueError, match="broadcast"):
        walk(buffer, 7, reward=np.ones(3))
    assert ends(buffer) == ([0, 0],) * 2
    walk(buffer, 2)  # the episode goes on
    assert ends(buffer) == ([0, 0, 0],) * 2


def test_an_addition_that_is_refused_leaves_the_goals():
    buffer = her(DummyVecEnv([Reach]), goal_mix={"real": 1})
    step(buffer, (0, 5), (1, 5))
    rest = np.zeros((1, 1)), np.ones(3), np.zeros(1, bool), [{}]
    with pytest.raises(ValueError, match="broadcast"):
        buffer.add(seen(7, 6), seen(8, 6), *rest)
    step(buffer, (7, 6), (8, 6))
    assert everything(buffer).observations["desired_goal"][:, 0].tolist() == [5, 6]
    assert isinstance(buffer.store.column("desired_goal"), EpisodeColumn), "still once per episode"


def test_an_addition_that_is_refused_leaves_the_infos():
    buffer = her(DummyVecEnv([Reach]), 3, copy_info_dict=True)
    for number in range(4):
        step(buffer, (number, 1), (number + 1, 1), number=number)
    with pytest.raises(TypeError, match="cannot pickle"):
        step(buffer, (4, 1), (5, 1), number=4, lock=threading.Lock())
    four = seen(4, 1), seen(5, 1)
    with pytest.raises(ValueError, match="reshape"):
        buffer.add(*four, np.zeros((1, 7)), np.zeros(1), np.zeros(1, bool), [{"number": 4}])
    assert buffer.store.now == 4
    assert numbers_of_infos(buffer) == [1, 2, 3]
    wrong = {**four[1], "observation": numbers(1)}
    with pytest.raises(ValueError, match="'observation' has shape"):
        buffer.add(four[0], wrong, [[0]], [0], [False], [{"number": 4}])
    assert numbers_of_infos(buffer) == [2, 3]
    step(buffer, (4, 1), (5, 1), number=4)
    assert numbers_of_infos(buffer) == [2, 3, 4]


def test_nothing_is_left_where_the_only_step_was_to_be_overwritten(tmp_path):
    buffer, again = (ReplayBuffer(2, THREE, ACTION, n_envs=2, frame_stack=3) for _ in "ab")
    stacks = [np.array([[n, n + 1, n + 2]] * 2, np.float32) for n in range(4)]
    rest = np.zeros((2, 1)), np.zeros(2), np.zeros(2, bool), [{}, {}]
    buffer.add(*stacks[:2], *rest)
    with pytest.raises(ValueError, match="is no stack"):
        buffer.add(stacks[1], stacks[3], *rest)
    buffer.save(tmp_path / "b")
    again.load(tmp_path / "b")
    dealt = deepcopy(buffer)
    dealt.change_n_envs(1)
    for empty in (buffer, again, dealt):
        with pytest.raises(RuntimeError, match="the replay buffer is empty"):
            empty.sample(2)
    for other in (buffer, again):
        other.add(*stacks[1:3], *rest)
        other.save(tmp_path / "b")
    other = ReplayBuffer(2, THREE, ACTION, n_envs=2, frame_stack=3)
    other.load(tmp_path / "b")
    assert other.sample(5).observations.tolist() == [[1, 2, 3]] * 5


@pytest.mark.parametrize("shape", [(2, 1), (1, 3), (3,), ()])
def test_actions_of_another_shape_are_refused(shape):
    buffer = ReplayBuffer(10, ONE, spaces.Box(-1, 1, (3,)), n_envs=2)
    both = numbers(0, 0), numbers(1, 1)
    with pytest.raises(ValueError, match="reshape"):
        buffer.add(*both, np.ones(shape), np.zeros(2), np.zeros(2, bool), [{}, {}])
    assert buffer.size() == 0


@pytest.mark.parametrize("n_infos", [0, 1, 3])
def test_infos_of_another_number_change_nothing(n_infos):
    buffer = plain(20, n_envs=2)
    walk(buffer, 0)
    both = numbers(1, 1), numbers(2, 2)
    with pytest.raises(ValueError, match=f"{n_infos} infos for 2 environments"):
        buffer.add(*both, np.zeros((2, 1)), np.zeros(2), np.zeros(2, bool), [{}] * n_infos)
    walk(buffer, 1)
    assert buffer.n_envs == 2
    assert buffer.store.table.counts.tolist() == [1, 1], "the episodes go on"


class StopHereError(BaseException):
    pass


def interrupted(call, moment):
    """Call, and raise at that line of the buffers' modules; whether it was reached."""
    lines = 0

    def trace(frame, event, arg):
        nonlocal lines
        if "pyrl_sb3/buffers" not in frame.f_code.co_filename or undoing(frame):
            return None
        if event == "line":
            lines += 1
            if lines == moment:
                raise StopHereError
        return trace

    def undoing(frame):
        return frame.f_code.co_name in ("_go_back", "go_back", "clear")

    sys.settrace(trace)
    try:
        call()
    except StopHereError:
        return True
    finally:
        sys.settrace(None)
    return False


@pytest.mark.parametrize(
    "kind",
    ["plain", "stack", "her", "her whose goals change", "her, changed by the step", "her, infos"],
)
@pytest.mark.parametrize("full", [False, True])
def test_a_buffer_survives_an_interruption_at_any_line(kind, full, tmp_path):
    moment, goes_on, size = 0, True, 6 if full else 40
    known, within = kind == "her, infos", kind == "her, changed by the step"
    per = 3 if kind == "her whose goals change" else 4

    def goal(number):
        return 5 + (number > 10) if within else number // per

    def add(buffer, number):
        if kind == "plain":
            walk(buffer, number, number % 4 == 3)
        elif kind == "stack":
            before, after = (
                np.array([[n, n + 1, n + 2]], np.float32) for n in (number, number + 1)
            )
            done, infos = np.array([number % 4 == 3]), [{"TimeLimit.truncated": False}]
            buffer.add(before, after, np.zeros((1, 1)), np.array([number]), done, infos)
        else:
            before, after = goal(number), goal(number + within)
            step(buffer, (number, before), (number + 1, after), number % 4 == 3, number=number)

    while goes_on:
        moment += 1
        if kind == "plain":
            buffer = plain(size)
        elif kind == "stack":
            buffer = ReplayBuffer(size, THREE, ACTION, frame_stack=3, seed=0)
        else:
            buffer = her(DummyVecEnv([Reach]), size, n_sampled_goal=0, copy_info_dict=known)
        for number in range(10):
            add(buffer, number)
        goes_on = interrupted(partial(add, buffer, 10), moment)
        now = buffer.store.now
        assert (buffer.pos, buffer.full) == (now % size, now >= size), moment
        assert not known or numbers_of_infos(buffer) == [*range(buffer.store.first, now)], moment
        for number in range(10 if buffer.store.now == 10 else 11, 14):
            add(buffer, number)
        found = everything(buffer)
        expected = np.arange(max(14 - size, 0), 14)
        assert not known or numbers_of_infos(buffer) == expected.tolist(), moment
        seen = found.observations, found.next_observations
        if kind.startswith("her"):
            seen = [each["observation"] for each in seen]
            goals = found.observations["desired_goal"][:, 0]
            assert goals.tolist() == [goal(number) for number in expected], moment
        assert seen[0][:, 0].tolist() == expected.tolist(), moment
        assert seen[1][:, 0].tolist() == (expected + 1).tolist(), moment
        assert found.dones.ravel().tolist() == (expected % 4 == 3).tolist(), moment
    assert moment > 40  # Pythons differ in what is a line: 50 to 70
    buffer.save(tmp_path / "b")
    buffer.load(tmp_path / "b")


@pytest.mark.parametrize("full", [False, True])
def test_stacks_survive_an_interruption_at_any_line_of_the_step_that_tells_their_axis(
    full, monkeypatch
):
    monkeypatch.setattr(stacks, "_CHUNK_BYTES", 300)  # three steps
    rows, columns = np.indices((4, 6))
    frames, size = columns // 3, 4 if full else 40

    def stack(number):  # 2 frames, up to the fifth along both axes
        values = number + frames
        return (values + np.where(values < 6, rows // 2, 0))[None].astype(np.float32)

    def add(buffer, number):
        done, infos = np.array([number == 2]), [{"TimeLimit.truncated": False}]
        steps = stack(number), stack(number + 1)
        buffer.add(*steps, np.zeros((1, 1)), np.array([number]), done, infos)

    filled = ReplayBuffer(size, spaces.Box(0, 99, (4, 6)), ACTION, frame_stack=2, seed=0)
    for number in range(5):
        add(filled, number)
    moment, goes_on = 0, True
    while goes_on:
        moment += 1
        buffer = deepcopy(filled)
        goes_on = interrupted(partial(add, buffer, 5), moment)
        for number in range(buffer.store.now, 8):
            add(buffer, number)
        found, expected = everything(buffer), range(max(8 - size, 0), 8)
        befores, afters = (np.concatenate([stack(n + i) for n in expected]) for i in (0, 1))
        assert np.array_equal(found.observations, befores), moment
        assert np.array_equal(found.next_observations, afters), moment
    assert buffer.store.columns[0].axis == 1
    assert moment > 150


def test_a_change_of_environments_survives_an_interruption_at_any_line():
    moment, goes_on = 0, True
    while goes_on:
        moment += 1
        buffer = plain(2)
        buffer.copy_info_dict = True
        for number in range(3):
            walk(buffer, number, number == 1)
        goes_on = interrupted(partial(buffer.change_n_envs, 2), moment)
        shape = (buffer.n_envs, buffer.buffer_size, buffer.store.n_envs, buffer.store.slots)
        assert shape in [(1, 2, 1, 2), (2, 1, 2, 1)], moment
        infos = [[info["number"] for info in row] for row in buffer._infos]
        assert infos == buffer.rewards.tolist(), moment
        assert sorted(buffer.rewards.ravel().tolist()) == [1, 2], moment
    assert moment > 50


def test_changes_of_the_number_of_environments_that_fail_lose_nothing(monkeypatch):
    buffer = plain(10)
    for number in range(5):
        walk(buffer, number)
    with pytest.raises(ValueError, match="n_envs=0: choose at least 1"):
        buffer.change_n_envs(0)
    with monkeypatch.context() as patch:
        patch.setattr(type(buffer), "new_store", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            buffer.change_n_envs(2)
    assert (buffer.n_envs, buffer.buffer_size, buffer.size()) == (1, 10, 5)
    assert everything(buffer).rewards.ravel().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("steps", [0, 5])
def test_capacity_does_not_shrink_with_the_number_of_environments(steps):
    buffer = plain(10)
    for number in range(steps):
        walk(buffer, number)
    for n_envs in (3, 1, 4, 1, 7, 1):
        buffer.change_n_envs(n_envs)
        assert buffer.buffer_size == 10 // n_envs
    assert buffer.buffer_size == 10


def test_running_episodes_are_cut_when_environments_change():
    buffer = plain(20, n_envs=2, n_steps=5, gamma=1.0)
    for s in range(2):
        none, rewards = np.zeros(2, bool), np.array([1, 100])
        buffer.add(numbers(s, 2 + s), numbers(s + 1, 3 + s), numbers(0, 0), rewards, none, [{}, {}])
    buffer.change_n_envs(1)
    assert everything(buffer).rewards.ravel().tolist() == [2, 1, 200, 100]


def test_returns_ignore_infinite_rewards_of_other_episodes():
    buffer = plain(10, n_steps=3)
    for number in range(3):
        walk(buffer, number, number == 2, np.array([np.inf if number == 2 else 1.0]))
    for number in range(9, 11):
        walk(buffer, number, number == 10, np.array([1.0]))
    found = everything(buffer).rewards.ravel()
    assert found[:3].tolist() == [np.inf] * 3
    assert found[3] == pytest.approx(1.99)


@pytest.mark.parametrize(("n_steps", "expected"), [(1, 4), (2, 4 + 0.5 * 5)])
def test_rewards_are_normalised_once(n_steps, expected):
    buffer = plain(50, n_steps=n_steps, gamma=0.5)
    for number in range(10):
        walk(buffer, number)
    env = VecNormalize(DummyVecEnv([Reach]), norm_obs=False)
    env.ret_rms.var = np.array(16.0)
    batch = buffer.sample_at(np.array([4]), np.array([0]), env)
    assert batch.rewards.item() == pytest.approx(expected / 4, rel=1e-4)


def test_observations_may_be_empty():
    nothing = spaces.Box(-1, 1, (0,), np.float32)
    z = np.zeros((1, 0), np.float32)
    rest = np.zeros((1, 1)), np.zeros(1), np.zeros(1, bool), [{}]
    buffer = ReplayBuffer(4, nothing, ACTION, seed=0)
    buffer.add(z, z, *rest)
    assert buffer.sample(3).observations.shape == (3, 0)
    buffer = DictReplayBuffer(4, spaces.Dict(a=nothing, b=ONE), ACTION, seed=0)
    buffer.add({"a": z, "b": numbers(1)}, {"a": z, "b": numbers(2)}, *rest)
    assert buffer.sample(3).next_observations["b"].tolist() == [[2]] * 3


def test_infos_are_kept_as_they_were_added():
    buffer = her(DummyVecEnv([Reach]), copy_info_dict=True)
    mutable = np.zeros(2)
    step(buffer, (0, 1), (1, 1), extra=mutable)
    mutable[:] = 7
    assert buffer._infos[0][0]["extra"].tolist() == [0, 0]


def test_a_memmap_folder_that_was_deleted_is_made_anew(tmp_path):
    path = tmp_path / "m"
    buffer = plain(10, storage="memmap", path=path)
    walk(buffer, 1)
    shutil.rmtree(path)
    buffer.reset()
    walk(buffer, 2)
    assert everything(buffer).rewards.tolist() == [[2]]
    goals = her(DummyVecEnv([Reach]), storage="memmap", path=path)
    step(goals, (0, 1), (1, 1))
    shutil.rmtree(path)
    step(goals, (1, 2), (2, 2))  # the goal changes: another file
    assert everything(goals).observations["desired_goal"][:, 0].tolist() == [1, 2]


@pytest.mark.parametrize("size", [10**13, 10**18, 10**30])
@pytest.mark.filterwarnings("ignore:the full replay buffer")
def test_memory_that_there_is_not_is_asked_back_from_buffer_size(size):
    buffer = ReplayBuffer(size, BOX, ACTION)
    with pytest.raises(MemoryError, match=r"replay buffer: no memory for .* GB: .* buffer_size"):
        buffer.add(*np.zeros((2, 1, 2)), np.zeros((1, 1)), np.zeros(1), np.zeros(1), [{}])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_half_precision_is_advised_where_there_is_something_to_halve(dtype, monkeypatch):
    monkeypatch.setattr(memory, "memory_limit", lambda: (2**30, "the machine's memory"))
    images = spaces.Box(0, 255, (1000, 1000), dtype)
    with pytest.warns(UserWarning, match="the full replay buffer will take .* buffer_size") as told:
        buffer = ReplayBuffer(10**7, images, ACTION)
    with pytest.raises(MemoryError, match="buffer_size") as caught:
        # More than processes may address.
        buffer._allocate((2**50,), np.dtype(dtype))
    for said in (str(told[0].message), str(caught.value)):
        assert ("dtype='float16'" in said) == (dtype == np.float32)


@pytest.mark.parametrize("size", [10**15, 10**30])
@pytest.mark.filterwarnings("ignore:the full replay buffer")
def test_a_disk_without_the_room_for_memory_maps_is_named(size, tmp_path):
    buffer = plain(size, storage="memmap", path=tmp_path)
    with pytest.raises(OSError, match=r"replay buffer: no room for .* GB on the disk") as caught:
        walk(buffer, 0)
    assert caught.value.filename == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_memory_maps_take_their_room_on_the_disk_at_once(tmp_path, mapped_files):
    buffer = plain(100_000, storage="memmap", path=tmp_path)
    walk(buffer, 0)
    taken = sum(file.st_blocks * 512 for file in mapped_files(tmp_path))
    assert taken >= 12 * 100_000


def test_a_process_that_is_killed_leaves_no_file_behind(tmp_path):
    if not (child := os.fork()):
        buffer = plain(10, storage="memmap", path=tmp_path)
        walk(buffer, 1)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_a_fork_leaves_the_files_of_its_parent(tmp_path, mapped_files):
    buffer = plain(10, storage="memmap", path=tmp_path)
    walk(buffer, 1)
    files = mapped_files(tmp_path)
    assert files
    if not (child := os.fork()):
        del buffer
        gc.collect()
        weakref.finalize._exitfunc()
        os._exit(0)
    os.waitpid(child, 0)
    assert [file.st_ino for file in mapped_files(tmp_path)] == [file.st_ino for file in files]
    assert everything(buffer).rewards.tolist() == [[1]]


def test_rows_stay_within_a_turn_of_the_ring():
    stacks = ReplayBuffer(5, THREE, ACTION, frame_stack=3, seed=0)
    for n in range(40):
        before, after = (np.array([[x, x + 1, x + 2]], np.float32) for x in (n, n + 1))
        stacks.add(before, after, np.zeros((1, 1)), np.zeros(1), np.zeros(1, bool), [{}])
    column = stacks.store.columns[0]
    assert 0 <= 39 - column._turn < len(column.ring)
    unequal = plain(6, n_envs=2)
    for n in range(200):  # the first environment never ends, the second always does
        both = numbers(n, n), numbers(n + 1, n + 1), numbers(0, 0)
        unequal.add(
            *both, np.zeros(2), np.array([False, True]), [{}, {"TimeLimit.truncated": True}]
        )
    store = unequal.store
    rows = store.locate(np.full(2, store.now - 1), np.arange(2)).rows
    assert (np.abs(rows) < 2 * len(store.table.fields["start"])).all()


@pytest.mark.parametrize("n_envs", [1, 2])
def test_rows_of_forgotten_episodes_are_used_again(n_envs):
    buffer, rows = plain(20 * n_envs, n_envs), []
    for number in range(200):
        walk(buffer, number, done=True)
        rows.append(buffer.store.table.rows)
    assert rows[-1] == rows[50] < 2 * 20 + 16


def test_infos_stay_with_their_steps_when_fewer_fit():
    buffer = her(DummyVecEnv([Reach] * 4), 2, copy_info_dict=True, n_sampled_goal=0)
    four = seen(0, 1), seen(1, 1)
    before, after = ({k: np.repeat(v, 4, axis=0) for k, v in obs.items()} for obs in four)
    infos = [{"TimeLimit.truncated": True, "env": e} for e in range(4)]
    buffer.add(before, after, np.zeros((4, 1)), np.arange(4.0), np.ones(4, bool), infos)
    buffer.set_env(DummyVecEnv([Reach]))
    rewards = buffer.rewards.ravel().tolist()
    assert len(rewards) == 2
    assert [info[0]["env"] for info in buffer._infos] == rewards


@pytest.mark.parametrize("base", [ReplayBuffer, DictReplayBuffer, HerReplayBuffer])
@pytest.mark.parametrize("name", ["_get_samples", "_sample_goals"])
def test_what_sampling_would_not_call_cannot_be_overridden(base, name):
    said = f"Clipped.{name} would never be called: override sample_at"
    methods = {name: lambda self, *_: None, "__module__": __name__}
    with pytest.raises(TypeError, match=re.escape(said)):
        type("Clipped", (base,), methods)
    mixin = type("Mixin", (), methods)
    with pytest.raises(TypeError, match=re.escape(said)):
        type("Clipped", (mixin, base), {"__module__": __name__})
    for may_call_it in ("sample", "sample_at"):
        type("Own", (base,), {**methods, may_call_it: lambda self, *_: None})
    type("Plain", (base,), {"__module__": __name__})
    # A base whose sampling does not know it; and one whose does.
    sampling = {"sample_at": base.sample_at, "__module__": __name__}
    with pytest.raises(TypeError, match=re.escape(said)):
        type("Clipped", (type("Base", (base,), sampling),), methods)
    calls = {"sample": lambda self, n: getattr(self, name)(n), "__module__": __name__}
    calls["sample"].__code__ = calls["sample"].__code__.replace(co_names=(name,))
    type("Clipped", (type("Base", (base,), calls),), methods)
