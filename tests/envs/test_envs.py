"""Bit-flipping and the maze: their rules, their rewards for any goal, their names."""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gym_check_env
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import SubprocVecEnv

from pyrl_sb3.envs.bit_flipping import BitFlipping
from pyrl_sb3.envs.grid_maze import GridMaze
from pyrl_sb3.plugins import environment_spec, get_plugin_manager
from pyrl_sb3.training.environments import env_spec
from pyrl_sb3.training.errors import InputError

ENVS = {"BitFlipping-v0": BitFlipping, "GridMaze-v0": GridMaze}


@pytest.mark.parametrize("cls", ENVS.values())
def test_both_checkers_pass(cls: Any) -> None:
    check_env(cls(), skip_render_check=True)
    gym_check_env(cls(), skip_render_check=True)


def test_flipping_the_bits_that_differ_reaches_the_goal() -> None:
    env = BitFlipping(6)
    observation, _ = env.reset(seed=3)
    differing = np.flatnonzero(observation["observation"] != observation["desired_goal"])
    assert 0 < len(differing) <= 6
    for i, bit in enumerate(differing, 1):
        observation, reward, terminated, truncated, info = env.step(bit)
        last = i == len(differing)
        assert (reward, terminated, info["is_success"]) == (float(last) - 1, last, last)
        assert not truncated
    np.testing.assert_array_equal(observation["achieved_goal"], observation["desired_goal"])


def test_an_episode_of_bits_is_as_long_as_the_row() -> None:
    env = BitFlipping(5)
    env.reset(seed=0)
    env._goal = 1 - env._bits  # one flip back and forth never gets there
    ends = [env.step(0)[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]


@pytest.mark.parametrize("seed", range(8))
def test_all_cells_of_a_maze_are_joined_by_one_path(seed: int) -> None:
    env = GridMaze(5, maze_seed=seed)
    assert env.doors.sum() == 2 * (25 - 1)  # a tree, each door seen from both sides
    reached, ways = {(0, 0)}, [(0, 0)]
    steps = [(-1, 0), (0, 1), (1, 0), (0, -1)]
    while ways:
        row, column = ways.pop()
        for move in np.flatnonzero(env.doors[row, column]):
            cell = row + steps[move][0], column + steps[move][1]
            assert env.doors[cell[0], cell[1], (move + 2) % 4]
            if cell not in reached:
                reached.add(cell)
                ways.append(cell)
    assert len(reached) == 25


def test_walls_stop_a_step_and_the_goal_ends_it() -> None:
    env = GridMaze(4, max_steps=9)
    env.reset(seed=0)
    for move in range(4):
        env._cell, env._goal = np.array([1, 1]), np.array([3, 3])
        here = env.step(move)[0]["observation"]
        assert (here != [1, 1]).any() == env.doors[1, 1, move]
    (move, *_) = np.flatnonzero(env.doors[1, 1])
    env._cell = np.array([1, 1])
    env._goal = env.step(move)[0]["observation"].astype(int)
    env._cell = np.array([1, 1])
    assert env.step(move)[1:3] == (0.0, True)


@pytest.mark.parametrize("cls", ENVS.values())
def test_rewards_of_many_goals_at_once(cls: Any) -> None:
    env = cls()
    achieved = np.stack([env.observation_space["achieved_goal"].sample() for _ in range(6)]).round()
    desired = achieved.copy()
    desired[3:, 0] = 1 - desired[3:, 0]
    rewards = env.compute_reward(achieved, desired, [{}] * 6)
    np.testing.assert_array_equal(rewards, [0, 0, 0, -1, -1, -1])
    assert rewards.dtype == np.float32
    ended = env.compute_terminated(achieved, desired, [{}] * 6)
    np.testing.assert_array_equal(ended, [True] * 3 + [False] * 3)
    assert env.compute_reward(achieved[0], desired[0], {}) == 0


@pytest.mark.parametrize("cls", ENVS.values())
def test_the_seed_decides(cls: Any) -> None:
    one, two = (cls().reset(seed=5)[0] for _ in range(2))
    other = cls().reset(seed=6)[0]
    assert all(np.array_equal(one[key], two[key]) for key in one)
    assert any(not np.array_equal(one[key], other[key]) for key in one)


def test_pictures_in_letters() -> None:
    env = GridMaze(2, render_mode="ansi")
    env._cell, env._goal = np.array([0, 0]), np.array([1, 1])
    picture = env.render()
    assert picture is not None
    assert picture.splitlines()[0] == "+--+--+"
    assert (picture.count("A"), picture.count("G")) == (1, 1)
    bits = BitFlipping(3, render_mode="ansi")
    assert bits.render() == "000\n111"


def test_sizes_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="n_bits=0"):
        BitFlipping(0)
    with pytest.raises(ValueError, match="max_steps=-3: must be at least 1"):
        GridMaze(3, max_steps=-3)
    with pytest.raises(ValueError, match="size=1"):
        GridMaze(1)


@pytest.mark.parametrize("name", ["BitFlipping-v0", "bit-flipping", "pyrl/bit-flipping-v0"])
def test_the_names_of_an_environment(name: str) -> None:
    spec = env_spec(name)
    assert spec.id == "BitFlipping-v0"
    assert isinstance(gym.make(spec, n_bits=3).unwrapped, BitFlipping)
    assert spec.id not in gym.registry


def test_a_misspelt_name() -> None:
    with pytest.raises(InputError, match=r"did you mean 'BitFlipping-v0'|BitFlipping-v0"):
        env_spec("BitFliping-v0")


def test_worker_processes_have_them() -> None:
    spec = environment_spec(get_plugin_manager(), "bit-flipping", n_bits=4)
    env = SubprocVecEnv([partial(gym.make, spec)] * 2, start_method="fork")
    try:
        observations = env.reset()
        assert observations["observation"].shape == (2, 4)
        goals = np.zeros((3, 4))
        rewards = env.env_method("compute_reward", goals, goals, [{}] * 3, indices=[1])[0]
        np.testing.assert_array_equal(rewards, [0, 0, 0])
    finally:
        env.close()


def test_an_episode_begins_away_from_the_goal_and_ends_by_the_size_of_the_maze() -> None:
    for cls in ENVS.values():
        assert cls().reset(seed=0)[1] == {"is_success": False}
    assert GridMaze(3).max_steps == 36
    env = GridMaze(3, max_steps=2)
    env.reset(seed=0)
    env._cell, env._goal = np.array([0, 0]), np.array([9, 9])
    assert [env.step(0)[2:4] for _ in range(2)] == [(False, False), (False, True)]
    assert GridMaze(3).render() is None
    assert BitFlipping(3).render() is None
