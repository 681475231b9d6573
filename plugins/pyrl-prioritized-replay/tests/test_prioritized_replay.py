import pickle
import re
from copy import deepcopy
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from pyrl_prioritized_replay import (
    PrioritizedDictReplayBuffer,
    PrioritizedHerReplayBuffer,
    PrioritizedReplayBuffer,
)
from stable_baselines3.common.envs import BitFlippingEnv

from pyrl_sb3.algorithms import SAC, TD3
from pyrl_sb3.buffers import ReplayBuffer
from pyrl_sb3.plugins import get_plugin_manager
from pyrl_sb3.testing import ReplayBufferSuite


class TestPrioritized(ReplayBufferSuite):
    ref = "prioritized-replay/prioritized"


class TestPrioritizedHer(ReplayBufferSuite):
    ref = "prioritized-her"
    params = {"alpha": 0.9}  # noqa: RUF012


ACTIONS = spaces.Box(-1, 1, (1,), np.float32)


class Counting:
    """Steps of environments whose observation is the step's number times 10, plus their own."""

    def __init__(self, buffer):
        self.buffer, self.step = buffer, 0

    def add(self, count=1):
        envs = np.arange(self.buffer.n_envs)[:, None]
        for _ in range(count):
            now, after = 10.0 * self.step + envs, 10.0 * (self.step + 1) + envs
            zeros = np.zeros(len(envs))
            infos = [{}] * len(envs)
            self.buffer.add(now, after, np.zeros((len(envs), 1)), zeros, zeros, infos)
            self.step += 1


def counting(size, n_envs=1, **kwargs):
    space = spaces.Box(-np.inf, np.inf, (1,))
    buffer = PrioritizedReplayBuffer(size, space, ACTIONS, n_envs=n_envs, seed=0, **kwargs)
    return buffer, Counting(buffer)


def test_transitions_are_drawn_in_proportion_and_weights_undo_it():
    buffer, steps = counting(4, alpha=0.5, beta=1.0, epsilon=1e-12)
    steps.add(4)
    errors = np.array([1.0, 4.0, 9.0, 16.0])  # priorities 1, 2, 3, 4
    buffer.update_priorities(np.arange(4), errors)
    data = buffer.sample(10_000)
    counts = np.bincount(data.observations.flatten().long() // 10)
    # One draw from each of 10,000 shares: exact up to the shares at the borders.
    assert np.abs(counts - [1000, 2000, 3000, 4000]).max() <= 2
    expected = 1 / np.sqrt(errors[data.indices])
    assert data.weights.shape == (10_000, 1)
    assert data.weights.flatten().numpy() == pytest.approx(expected)


@pytest.mark.parametrize("n_envs", [1, 3])
def test_new_transitions_get_the_largest_priority_wherever_the_ring_stands(n_envs):
    buffer, steps = counting(4 * n_envs, n_envs=n_envs)
    steps.add(3)
    buffer.update_priorities(np.arange(3 * n_envs), np.full(3 * n_envs, 1e-9))
    steps.add(1)
    newest = buffer.sample(100).observations.flatten()
    assert set(newest.tolist()) == {30.0 + env for env in range(n_envs)}
    steps.add(6)
    seen = set(buffer.sample(500).observations.flatten().tolist())
    assert seen == {10.0 * step + env for step in (6, 7, 8, 9) for env in range(n_envs)}


@pytest.mark.parametrize("size", [1, 4])
def test_the_place_of_a_refused_transition_is_never_drawn(size):
    buffer, steps = counting(size)
    steps.add(5)
    wrong = np.zeros((1, 2))
    with pytest.raises(ValueError, match="'observation' has shape"):
        buffer.add(np.array([[50.0]]), wrong, np.zeros((1, 1)), np.zeros(1), np.zeros(1), [{}])
    if size == 1:
        with pytest.raises(RuntimeError, match="the replay buffer is empty"):
            buffer.sample(1)
    else:
        assert set(buffer.sample(100).observations.flatten().tolist()) == {20.0, 30.0, 40.0}


def test_indices_lead_back_to_the_same_transitions():
    buffer, steps = counting(6, n_envs=2)
    steps.add(5)
    data = buffer.sample(64)
    wanted = data.observations.flatten().numpy() == 31.0
    errors = np.where(wanted, 1e6, 1e-6)
    buffer.update_priorities(data.indices, errors)
    assert (buffer.sample(64).observations == 31.0).float().mean() > 0.95


def test_a_loaded_buffer_draws_what_was_loaded(tmp_path):
    saved, steps = counting(4)
    steps.add(3)
    saved.save(tmp_path)
    buffer, steps = counting(8)
    steps.add(8)
    buffer.update_priorities(np.arange(8), np.arange(8.0) ** 9)
    buffer.load(tmp_path)
    drawn = buffer.sample(300).observations.flatten().long() // 10
    assert np.bincount(drawn).tolist() == [100, 100, 100]


@pytest.mark.parametrize("n_envs", [1, 2])
def test_a_folder_keeps_priorities(tmp_path, n_envs):
    parameters = {"n_envs": n_envs, "beta": 0.0, "beta_batches": 4}
    (first, steps), (second, _) = (counting(8 * n_envs, **parameters) for _ in range(2))
    steps.add(11)  # the ring has gone round
    batch = first.sample(16)
    first.update_priorities(batch.indices, np.arange(16.0))
    first.save(tmp_path)
    second.load(tmp_path)
    one, two = first.get_extra_state(), second.get_extra_state()
    assert (two["batches"], two["largest"]) == (one["batches"], one["largest"])
    assert one["batches"] == 1
    assert one["largest"] > 5
    assert np.array_equal(two["priorities"], one["priorities"])
    for _ in range(3):
        one, two = first.sample(16), second.sample(16)
        assert all(np.array_equal(one[part], two[part]) for part in (0, 3, 6, 7))
    steps.add(1)
    with pytest.raises(ValueError, match=f"of {8 * n_envs} transitions"):
        counting(8 * n_envs, n_envs)[0].set_extra_state(first.get_extra_state())


def test_a_larger_buffer_takes_priorities_and_other_transitions_none(tmp_path):
    saved, steps = counting(8)
    steps.add(11)
    saved.update_priorities(np.arange(8), np.arange(8.0))
    saved.save(tmp_path)
    larger, (smaller, _), (dealt, _) = counting(20)[0], counting(4), counting(8, n_envs=2)
    larger.load(tmp_path)
    priorities = saved.get_extra_state()["priorities"]
    assert np.array_equal(larger.get_extra_state()["priorities"], priorities)
    for buffer in (smaller, dealt):
        with pytest.warns(UserWarning, match="such as priorities, is left out: it is of 8 steps"):
            buffer.load(tmp_path)
        assert (buffer.get_extra_state()["priorities"] == 1).all()


def test_a_uniform_buffer_reads_the_folder_of_a_prioritised_one(tmp_path):
    buffer, steps = counting(8)
    steps.add(5)
    buffer.save(tmp_path)
    uniform = ReplayBuffer(8, buffer.observation_space, ACTIONS)
    uniform.load(tmp_path)
    assert np.array_equal(uniform.observations, buffer.observations)


@pytest.mark.parametrize("cls", [PrioritizedReplayBuffer, PrioritizedHerReplayBuffer])
def test_a_model_goes_on_from_its_folder(tmp_path, cls):
    hindsight = cls is PrioritizedHerReplayBuffer
    policy = "MultiInputPolicy" if hindsight else "MlpPolicy"
    env = BitFlippingEnv(n_bits=4, continuous=True) if hindsight else "Pendulum-v1"
    first, second = (
        SAC(policy, env, replay_buffer_class=cls, buffer_size=50, train_freq=10, **small)
        for small in (deepcopy(SMALL), deepcopy(SMALL))  # the policy's are written to
    )
    first.learn(60)
    first.save_replay_buffer(tmp_path)
    second.load_replay_buffer(tmp_path)
    one, two = first.replay_buffer.sample(256), second.replay_buffer.sample(256)
    assert np.array_equal(one.indices, two.indices)
    assert np.array_equal(one.weights, two.weights)
    assert one.weights.min() < 0.9


def test_beta_rises_to_one():
    buffer, steps = counting(2, beta=0.0, beta_batches=2, alpha=1.0)
    steps.add(2)
    buffer.update_priorities(np.arange(2), np.array([1.0, 3.0]))
    smallest = [buffer.sample(100).weights.min().item() for _ in range(3)]
    assert smallest == pytest.approx([3**-0.5, 1 / 3, 1 / 3], rel=1e-4)


def test_order_of_a_batch_tells_nothing():
    # Hindsight relabels the last rows; a sorted batch would relabel only the last transitions.
    buffer, steps = counting(1000)
    steps.add(1000)
    drawn = buffer.sample(1000).observations.flatten().numpy()
    assert abs(np.corrcoef(drawn, np.arange(1000))[0, 1]) < 0.1


def test_pickled_buffer_continues():
    buffer, steps = counting(8)
    steps.add(5)
    buffer.update_priorities(np.arange(5), np.arange(5.0))
    twin = pickle.loads(pickle.dumps(buffer))
    one, other = buffer.sample(32), twin.sample(32)
    assert np.array_equal(one.indices, other.indices)
    assert np.array_equal(one.weights, other.weights)


def test_another_number_of_environments():
    buffer, steps = counting(12, n_envs=2)
    steps.add(6)
    buffer.change_n_envs(3)
    assert len(set(buffer.sample(500).observations.flatten().tolist())) >= 9


def test_reset_forgets_all(tmp_path):
    buffer, steps = counting(4, beta=0.0, beta_batches=2, alpha=1.0)
    steps.add(4)
    buffer.sample(4)
    buffer.update_priorities(np.arange(4), np.full(4, 1e4))
    plain = ReplayBuffer(4, buffer.observation_space, ACTIONS)
    Counting(plain).add(4)
    plain.save(tmp_path)
    buffer.load(tmp_path)  # where there are no priorities
    buffer.update_priorities([0], [3.0])
    assert buffer.get_extra_state()["largest"] == pytest.approx(3.0)  # not 1e4
    buffer.reset()
    steps.add(2)
    buffer.update_priorities([0], [3.0])
    assert buffer.sample(100).weights.min().item() == pytest.approx(3**-0.5, rel=1e-4)


def test_keywords_as_in_sb3():
    buffer, _ = counting(4)
    one = np.ones((1, 1))
    buffer.add(obs=one, next_obs=2 * one, action=one, reward=one[0], done=0 * one[0], infos=[{}])
    assert buffer.sample(1).next_observations.item() == 2


def test_an_empty_buffer_says_so():
    buffer, _ = counting(4)
    with pytest.raises(RuntimeError, match="the replay buffer is empty"):
        buffer.sample(1)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": 1.1}, "alpha must be between 0 and 1"),
        ({"beta": -0.1}, "beta must be between 0 and 1"),
        ({"epsilon": 0}, "must be positive"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        counting(4, **parameters)


def test_errors_must_be_finite():
    buffer, steps = counting(4)
    steps.add(2)
    with pytest.raises(ValueError, match="has training diverged"):
        buffer.update_priorities(np.arange(2), np.array([1.0, np.nan]))


SMALL = {"learning_starts": 20, "batch_size": 16, "policy_kwargs": {"net_arch": [8]}, "seed": 0}


@pytest.mark.parametrize("algorithm", [TD3, SAC])
def test_priorities_are_the_errors_of_the_critics(algorithm):
    model = algorithm(
        "MlpPolicy",
        gym.make("Pendulum-v1"),
        replay_buffer_class=PrioritizedReplayBuffer,
        replay_buffer_kwargs={"alpha": 1.0},
        buffer_size=100,
        train_freq=20,
        **SMALL,
    )
    model.learn(40)
    priorities = model.replay_buffer._tree.get(np.arange(40))
    learned = priorities != 1.0
    assert 5 <= learned.sum() <= 16
    assert (priorities[learned] > 0).all()


@pytest.mark.parametrize("cls", [PrioritizedDictReplayBuffer, PrioritizedHerReplayBuffer])
def test_dictionary_observations_and_hindsight(cls):
    env = BitFlippingEnv(n_bits=4, continuous=True)
    model = SAC(
        "MultiInputPolicy", env, replay_buffer_class=cls, buffer_size=100, train_freq=10, **SMALL
    )
    model.learn(60)
    data = model.replay_buffer.sample(8)
    assert data.weights.max() == 1
    assert set(data.observations) == {"observation", "achieved_goal", "desired_goal"}


def test_n_step_returns():
    buffer, steps = counting(20, n_steps=3, gamma=0.5)
    steps.add(10)
    data = buffer.sample(50)
    ahead = (data.next_observations - data.observations).flatten() / 10
    assert set(ahead.tolist()) == {1.0, 2.0, 3.0}
    assert data.discounts.flatten().tolist() == (0.5**ahead).tolist()


def test_found_by_name():
    manager = get_plugin_manager()
    assert manager.load("replay-buffer", "prioritized-her") is PrioritizedHerReplayBuffer
    assert manager.check_params("replay-buffer", "prioritized", {"alpha": 1, "seed": 3})
    assert "priority-updates" in manager.find("replay-buffer", "prioritized").spec.needs


def test_readme_example_runs():
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names = {}
    exec(example, names)
    assert isinstance(names["model"].replay_buffer, PrioritizedReplayBuffer)
