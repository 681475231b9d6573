"""A sum tree that is read and written in batches."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class SumTree:
    """
    Non-negative weights, drawn from in proportion; O(log size) numpy calls for any batch.

    :param size: Number of weights, all zero at first.
    """

    def __init__(self, size: int) -> None:
        self.depth = max(size - 1, 0).bit_length()
        self.leaves = 1 << self.depth
        # Node i has the children 2i and 2i+1; the weights are the last half.
        self.nodes = np.zeros(2 * self.leaves)

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self.nodes[1])

    def get(self, indices: Array) -> Array:
        """The weights at `indices`."""
        return self.nodes[self.leaves + indices]

    def set(self, indices: Array, weights: Array | float) -> None:
        """Change the weights at `indices`; where one is named twice, its last weight counts."""
        nodes = self.leaves + np.asarray(indices)
        self.nodes[nodes] = weights
        for _ in range(self.depth):
            nodes = np.unique(nodes >> 1)
            self.nodes[nodes] = self.nodes[2 * nodes] + self.nodes[2 * nodes + 1]

    def find(self, sums: Array) -> Array:
        """For each of `sums`, in [0, total), the first index whose running sum exceeds it."""
        nodes = np.ones(len(sums), np.int64)
        rest = np.array(sums, np.float64)
        for _ in range(self.depth):
            nodes *= 2
            left = self.nodes[nodes]
            # Rounding must not lead into a part that weighs nothing.
            right = (rest >= left) & (self.nodes[nodes + 1] > 0)
            rest -= np.where(right, left, 0)
            nodes += right
        return nodes - self.leaves
