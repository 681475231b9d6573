"""Replay buffers in checkpoints: those of this package, and those of SB3."""

import os
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer as TheirHerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer as TheirDictReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer as TheirReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv

from pyrl_sb3.buffers import HerReplayBuffer, ReplayBuffer
from pyrl_sb3.training.kept import check_buffer, end_episodes, load_buffer, save_buffer
from pyrl_sb3.training.state import StateError
from pyrl_sb3.training.state_files import read_tree, write_tree

BOX, ACTIONS = spaces.Box(-9, 9, (2,)), spaces.Box(-1, 1, (1,))
GOALS = spaces.Dict(dict.fromkeys(("achieved_goal", "desired_goal", "observation"), BOX))


class Goals(gym.Env):
    observation_space, action_space = GOALS, ACTIONS

    def compute_reward(self, achieved, desired, info):
        return -np.linalg.norm(achieved - desired, axis=-1)


def observation(t):
    return {key: np.full((1, 2), t + i / 4) for i, key in enumerate(GOALS.spaces)}


def made(kind):
    """One of SB3's, and what makes a transition for it."""
    if kind is TheirReplayBuffer:
        return kind(8, BOX, ACTIONS), lambda t: np.full((1, 2), t)
    more = {"env": DummyVecEnv([Goals])} if kind is TheirHerReplayBuffer else {}
    return kind(8, GOALS, ACTIONS, **more), observation


def fill(buffer, of, first, last, end=4):
    for t in range(first, last):
        done = np.array([t % end == end - 1])
        buffer.add(
            of(t),
            of(t + 1),
            np.full((1, 1), t / 8),
            np.array([t]),
            done,
            [{"TimeLimit.truncated": False}],
        )


def state_of(buffer):
    """All arrays, also those by key, and how far the buffer is filled."""
    found = {"pos": buffer.pos, "full": buffer.full}
    for name, value in vars(buffer).items():
        if isinstance(value, np.ndarray):
            found[name] = value
        elif name in ("observations", "next_observations"):
            found |= {f"{name} {key}": each for key, each in value.items()}
    return found


@pytest.mark.parametrize("kind", [TheirReplayBuffer, TheirDictReplayBuffer, TheirHerReplayBuffer])
@pytest.mark.parametrize("steps", [5, 11])
def test_buffers_of_sb3_come_back_with_room_for_more(tmp_path, kind, steps):
    buffer, of = made(kind)
    fill(buffer, of, 0, steps)
    tree = save_buffer(buffer, tmp_path / "buffer", None)
    assert not (tmp_path / "buffer").exists()
    rows = min(steps, 8)
    kept = tree["observations"]["$dict"][0][1] if "$dict" in tree["observations"] else None
    assert len(tree["observations"] if kept is None else kept) == rows
    write_tree(tree, tmp_path, "state")
    tree = read_tree(tmp_path, "state")
    check_buffer(tmp_path / "buffer", tree)
    again, _ = made(kind)
    load_buffer(again, tmp_path / "buffer", tree)
    for each in (buffer, again):
        fill(each, of, steps, steps + 6)
    new, old = state_of(again), state_of(buffer)
    assert new.keys() == old.keys()
    for name, value in old.items():
        assert np.array_equal(new[name], value), name
    np.random.seed(0)
    first = buffer.sample(4)
    np.random.seed(0)
    assert np.array_equal(first.rewards, again.sample(4).rewards)


def test_a_reset_ends_the_episodes_of_all_buffers():
    buffer, of = made(TheirHerReplayBuffer)
    fill(buffer, of, 0, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        end_episodes(buffer)
    assert buffer.ep_length[:6, 0].tolist() == [4, 4, 4, 4, 2, 2]
    own = ReplayBuffer(8, BOX, ACTIONS, n_envs=1)
    fill(own, lambda t: np.full((1, 2), t), 0, 2)
    end_episodes(own)
    assert own.timeouts[:2, 0].tolist() == [0, 1]
    end_episodes(None)
    end_episodes(made(TheirReplayBuffer)[0])


def test_after_a_reset_it_is_found_out_anew_what_an_environment_takes():
    """As in a training that is resumed: `compute_reward` may draw from what the steps draw from."""
    calls = []

    class Counting(Goals):
        def compute_reward(self, achieved, desired, info):
            calls.append(len(achieved))
            return super().compute_reward(achieved, desired, info)

    buffer = HerReplayBuffer(8, GOALS, ACTIONS, DummyVecEnv([Counting]))
    fill(buffer, observation, 0, 8)
    asked = []
    for _ in range(2):
        for _ in range(2):
            calls.clear()
            buffer.sample(64)
            asked.append(len(calls))
        end_episodes(buffer)
    first, later, again, after = asked
    assert first == again > later == after > 0


def own(steps):
    buffer = ReplayBuffer(8, BOX, ACTIONS, n_envs=1)
    fill(buffer, lambda t: np.full((1, 2), t), 0, steps)
    return buffer


@pytest.mark.parametrize("links", [True, False])
def test_what_has_not_changed_is_linked_where_that_can_be(tmp_path, monkeypatch, links):
    def fail(*_):
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(os, "link", fail)
    buffer = own(5)
    save_buffer(buffer, tmp_path / "one", None)
    assert save_buffer(buffer, tmp_path / "two", tmp_path / "one") is None
    one, two = ({p.stat().st_ino for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert bool(one & two) == links
    again = own(0)
    load_buffer(again, tmp_path / "two", None)
    assert np.array_equal(again.observations[:5], buffer.observations[:5])


def test_a_buffer_that_saves_itself_does_so_and_what_it_cannot_save_is_said(tmp_path):
    class Odd(ReplayBuffer):
        def save(self, folder):
            if self.odd:
                raise ValueError("this is odd")
            super().save(folder)

    buffer = Odd(8, BOX, ACTIONS, n_envs=1)
    buffer.odd = False
    save_buffer(buffer, tmp_path / "one", None)
    check_buffer(tmp_path / "one", None)
    buffer.odd = True
    with pytest.raises(StateError, match=r"^this is odd$"):
        save_buffer(buffer, tmp_path / "two", None)


def test_a_damaged_file_is_noticed_before_anything_is_changed(tmp_path):
    save_buffer(own(5), tmp_path / "one", None)
    check_buffer(tmp_path / "one", None)
    path = max((tmp_path / "one").iterdir(), key=lambda each: each.stat().st_size)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError):
        check_buffer(tmp_path / "one", None)


class Late(TheirReplayBuffer):
    """Has arrays that there are none of until something is added."""

    def add(self, *args):
        super().add(*args)
        self.late, self.later = np.arange(3), {"a": np.arange(2), "b": 1}


def test_what_a_buffer_gets_only_later_comes_back_too(tmp_path):
    buffer, again = (Late(8, BOX, ACTIONS) for _ in range(2))
    fill(buffer, lambda t: np.full((1, 2), t), 0, 2)
    load_buffer(again, tmp_path / "none", save_buffer(buffer, tmp_path / "none", None))
    assert again.late.tolist() == [0, 1, 2]
    assert (again.later["a"].tolist(), again.later["b"]) == ([0, 1], 1)
    assert again.observations.shape == buffer.observations.shape
