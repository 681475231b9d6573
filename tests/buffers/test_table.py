"""The table of episodes: how far it grows, how often it is copied, and what that takes."""

import pickle
import tracemalloc

import numpy as np
import pytest
from gymnasium import spaces

from pyrl_sb3.buffers import ReplayBuffer, table

INFO = [{"TimeLimit.truncated": False}]
ACTION = spaces.Box(-1, 1, (1,))


class Walk:
    """Episodes of any length in a buffer; observations count up, so that each is another."""

    def __init__(self, slots, n_envs=1, width=1):
        shape = (width,)
        self.buffer = ReplayBuffer(
            slots * n_envs, spaces.Box(-1, 1, shape), ACTION, n_envs=n_envs, seed=0
        )
        self.n_envs, self.shape, self.number = n_envs, shape, 0
        self.rows = [self.table.rows]  # every size that the table has had

    @property
    def table(self):
        return self.buffer.store.table

    @property
    def held(self):
        """Bytes of all arrays."""
        store = self.buffer.store
        column = store.columns[0]
        arrays = [store.actions, store.rewards, store.bits.words, store.bits.before, column.ring]
        return sum(array.nbytes for array in [*arrays, *store.table.fields.values()])

    def episode(self, length):
        n = self.n_envs
        for step in range(length):
            before, after = (
                np.full((n, *self.shape), self.number + i, np.float32) for i in range(2)
            )
            done = np.full(n, step == length - 1)
            self.buffer.add(before, after, np.zeros((n, 1)), np.zeros(n), done, INFO * n)
            self.number += 1
        self.number += 1
        if self.table.rows != self.rows[-1]:
            self.rows.append(self.table.rows)

    def steps(self, n, length):
        for _ in range(n // length):
            self.episode(length)


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_the_table_is_copied_a_few_times_however_short_episodes_are(n_envs, length):
    walk = Walk(4000, n_envs)
    walk.steps(9000, length)
    assert len(walk.rows) <= 12, walk.rows
    assert walk.rows[-1] <= 4000 / length + 2 * np.sqrt(4000 / length) + 20


def test_the_table_of_longer_episodes_is_hardly_larger_than_it_must_be():
    walk = Walk(50_000)
    walk.steps(80_000, 50)
    assert len(walk.rows) <= 9, walk.rows
    assert 1000 < walk.rows[-1] <= 1000 + 2 * np.sqrt(1000) + 20


def test_episodes_of_random_lengths_seldom_ask_for_another_copy():
    rng, walk = np.random.default_rng(0), Walk(20_000)
    for length in rng.geometric(1 / 8, 5000).tolist():
        walk.episode(length)
    assert len(walk.rows) <= 11, walk.rows
    assert walk.rows[-1] < 1.1 * 20_000 / 8


def test_episodes_that_become_shorter_in_a_full_buffer_cost_few_copies():
    walk = Walk(3000)
    walk.steps(4000, 500)
    walk.steps(4000, 1)
    assert len(walk.rows) <= 16, walk.rows


def test_episodes_that_become_longer_do_not_make_the_table_large():
    walk = Walk(20_000)
    walk.steps(500, 5)
    walk.steps(30_000, 500)
    assert walk.rows[-1] <= 300


def test_no_table_has_many_more_rows_than_the_buffer_has_steps():
    walk = Walk(3000)
    walk.steps(4000, 1)
    assert walk.rows[-1] <= 3018
    forgotten = []
    for _ in range(1000):
        walk.episode(1)
        forgotten.append(walk.table.oldest.item(0))
    assert len(set(forgotten)) <= 1000 / 15  # which takes longer than a step otherwise does


def test_growing_takes_little_more_memory_than_what_is_held_then():
    walk = Walk(3000, width=200)
    tracemalloc.start()
    try:
        walk.steps(7000, 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.25 * walk.held


def test_a_pickle_has_no_rows_of_episodes_to_come():
    walk = Walk(3000, n_envs=2, width=200)
    walk.steps(1700, 1)
    content = pickle.dumps(walk.buffer)
    assert len(content) < 1.05 * 1700 * 2 * 2 * 800
    again = pickle.loads(content)
    assert np.array_equal(again.next_observations, walk.buffer.next_observations)
    walk.buffer = again
    walk.steps(3000, 1)
    assert walk.table.rows <= 3018
    positions = np.arange(again.store.first, again.store.now)
    batch = again.sample_at(positions, np.ones(len(positions), np.int64))
    assert (batch.next_observations - batch.observations == 1).all()


@pytest.mark.parametrize("n_envs", [1, 2])
def test_where_there_is_no_memory_to_grow_what_is_stored_stays(monkeypatch, n_envs):
    walk = Walk(100, n_envs)
    walk.steps(15, 1)
    made = []

    def zeros(*args):
        made.append(args)
        if len(made) == 3:
            raise MemoryError
        return np.empty(*args)

    with monkeypatch.context() as patch:
        patch.setattr(table.np, "zeros", zeros)
        with pytest.raises(MemoryError):
            walk.steps(100, 1)
    assert walk.rows == [16]
    stored = walk.buffer.store.now
    walk.steps(50, 1)
    assert len(walk.rows) > 2
    positions = np.arange(stored + 50)
    batch = walk.buffer.sample_at(positions, np.full(len(positions), n_envs - 1))
    assert (batch.next_observations - batch.observations == 1).all()
    assert (batch.dones == 1).all()


def test_infos_are_copies_even_of_what_they_hold():
    buffer = ReplayBuffer(4, spaces.Box(-1, 1, (1,)), ACTION, n_envs=2)
    buffer.copy_info_dict = True
    inner = [1]
    infos = [{"number": 3, "list": inner, "array": np.zeros(1)}, {"list": inner}]
    one = np.zeros((2, 1), np.float32)
    buffer.add(one, one + 1, one, np.zeros(2), np.zeros(2, bool), infos)
    inner.append(2)
    infos[0]["array"][:] = 5
    infos[0]["number"] = 4
    (first, second), *_ = buffer._infos
    assert (first["number"], first["list"], first["array"].tolist()) == (3, [1], [0])
    assert second["list"] is first["list"]
