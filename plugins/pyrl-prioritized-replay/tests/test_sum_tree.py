import numpy as np
import pytest
from pyrl_prioritized_replay.sum_tree import SumTree


def test_tree_against_running_sums():
    rng = np.random.default_rng(0)
    for size in (1, 2, 5, 64, 100):
        tree, weights = SumTree(size), np.zeros(size)
        for _ in range(5):
            indices = rng.integers(size, size=7)
            values = rng.random(7) * (rng.random(7) < 0.7)
            tree.set(indices, values)
            for index, value in zip(indices, values, strict=True):
                weights[index] = value
        assert tree.total == pytest.approx(weights.sum())
        assert np.array_equal(tree.get(np.arange(size)), weights)
        if tree.total:
            sums = rng.random(500) * tree.total
            expected = np.searchsorted(weights.cumsum(), sums, side="right")
            assert np.array_equal(tree.find(sums), expected)


def test_rounding_never_finds_what_weighs_nothing():
    tree = SumTree(8)
    tree.set(np.arange(3), np.array([0.1, 0.2, 0.3]))
    assert tree.find(np.array([tree.total, np.nextafter(tree.total, 9)])).tolist() == [2, 2]
