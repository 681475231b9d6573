"""Prioritised versions of pyrl-sb3's replay buffers."""

from typing import Any, NamedTuple

import numpy as np
import torch as th
from numpy.typing import NDArray

from pyrl_prioritized_replay.sum_tree import SumTree
from pyrl_sb3.buffers import DictReplayBuffer, HerReplayBuffer, ReplayBuffer

Array = NDArray[Any]


class PrioritizedSamples(NamedTuple):
    """SB3's samples, and which transitions they are.

    :param weights: importance-sampling weights, ``(batch, 1)``, the largest is 1
    :param indices: what `update_priorities` takes, ``(batch,)``
    """

    observations: Any
    actions: th.Tensor
    next_observations: Any
    dones: th.Tensor
    rewards: th.Tensor
    discounts: th.Tensor | None
    weights: th.Tensor
    indices: Array


class Prioritized:
    """Prioritised replay (Schaul 2015, https://arxiv.org/abs/1511.05952), proportional variant;
    mixed in before a replay buffer of pyrl-sb3.

    Transition i is drawn with probability p_i / sum p, p = (|TD error| + epsilon)**alpha, one from
    each of `batch_size` equal shares of that sum. A new one gets the largest p so far.

    Deviations: weights are divided by the largest of the batch, not of the buffer; the priority of
    a transition under hindsight is that of the goal it was last learned with.

    :param alpha: 0 draws uniformly, 1 in proportion to the error
    :param beta: exponent of the weights at first, 1 corrects the bias wholly
    :param beta_batches: number of batches over which it rises to 1, linearly
    :param epsilon: keeps every transition in play
    :raises ValueError: for a parameter out of range

    Others: see the replay buffer.
    """

    def __init__(
        self,
        *args: Any,
        alpha: float = 0.6,
        beta: float = 0.4,
        beta_batches: int = 100_000,
        epsilon: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be between 0 and 1, not {value!r}")
        if not (epsilon > 0 and beta_batches > 0):
            raise ValueError("epsilon and beta_batches must be positive")
        self.alpha, self.epsilon = alpha, epsilon
        self.beta, self.beta_batches = beta, beta_batches
        self._batches = 0
        self._forget_priorities()
        super().__init__(*args, **kwargs)

    def _forget_priorities(self) -> None:
        self._largest = 1.0
        self._tree: SumTree | None = None

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._batches = 0
        self._forget_priorities()

    def add(self, *args: Any, **kwargs: Any) -> None:
        """As in the replay buffer; the transitions are to be drawn soon."""
        super().add(*args, **kwargs)
        envs = np.arange(self.n_envs)
        self._priorities.set(self.store.slot(np.array(self.store.now - 1), envs), self._largest)

    def change_n_envs(self, *args: Any, **kwargs: Any) -> None:
        """As in the replay buffer; what was learned about priorities is forgotten."""
        super().change_n_envs(*args, **kwargs)
        self._forget_priorities()

    def adopt(self, *args: Any, **kwargs: Any) -> None:
        """As in the replay buffer; what was learned about priorities is forgotten."""
        super().adopt(*args, **kwargs)
        self._forget_priorities()

    @property
    def _priorities(self) -> SumTree:
        if self._tree is None:
            self._tree = SumTree(self.buffer_size * self.n_envs)
            stored = min(self.store.now, self.buffer_size) * self.n_envs
            self._tree.set(np.arange(stored), self._largest)
        return self._tree

    def _draw(self, batch_size: int) -> tuple[Array, Array]:
        """Positions and environments, each from its share of the priorities, in random order."""
        if self.store.now == self.store.first:
            raise RuntimeError("the replay buffer is empty: add a transition before sampling")
        self._batches += 1
        tree = self._priorities
        shares = (self.rng.permutation(batch_size) + self.rng.random(batch_size)) / batch_size
        slots, envs = np.divmod(tree.find(shares * tree.total), self.n_envs)
        newest = self.store.now - 1
        positions = newest - (newest - slots) % self.buffer_size
        # The oldest step is gone where one was refused that was to take its place.
        return np.maximum(positions, self.store.first), envs

    def sample_at(self, positions: Array, envs: Array, env: Any = None) -> PrioritizedSamples:
        """As in the replay buffer, with weights and indices."""
        data = super().sample_at(positions, envs, env)
        indices = self.store.slot(positions, envs)
        progress = min(self._batches / self.beta_batches, 1)
        beta = self.beta + (1 - self.beta) * progress
        weights = self._priorities.get(indices) ** -beta
        column = (weights / weights.max()).astype(np.float32)[:, None]
        return PrioritizedSamples(*data, self.to_torch(column), indices)

    def get_extra_state(self) -> dict[str, Any]:
        """What a saved buffer keeps besides the transitions; priorities as `(steps, n_envs)`."""
        return {
            "batches": self._batches,
            "largest": self._largest,
            "priorities": self._priorities.get(self._slots()),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on with it, when the transitions are back.

        :raises ValueError: there are others
        """
        slots, priorities = self._slots(), state["priorities"]
        if priorities.shape != slots.shape:
            raise ValueError(f"priorities of {priorities.size} transitions, not {slots.size}")
        self._batches, self._largest = state["batches"], state["largest"]
        self._tree = None
        self._priorities.set(slots.ravel(), priorities.ravel())

    def _slots(self) -> Array:
        steps = np.arange(self.store.first, self.store.now)[:, None]
        return self.store.slot(steps, np.arange(self.n_envs))

    def update_priorities(self, indices: Array, td_errors: Array) -> None:
        """Set the priorities of sampled transitions.

        :param indices: those of the sample, ``(batch,)``
        :param td_errors: how wrong the critic was about each, ``(batch,)``
        :raises ValueError: errors that are not finite
        """
        if not np.isfinite(td_errors).all():
            raise ValueError("TD errors are not finite; has training diverged?")
        priorities = (np.abs(td_errors).astype(np.float64) + self.epsilon) ** self.alpha
        self._largest = max(self._largest, float(priorities.max()))
        self._priorities.set(indices, priorities)


class PrioritizedReplayBuffer(Prioritized, ReplayBuffer):
    """`Prioritized` for array observations."""


class PrioritizedDictReplayBuffer(Prioritized, DictReplayBuffer):
    """`Prioritized` for dictionary observations."""


class PrioritizedHerReplayBuffer(Prioritized, HerReplayBuffer):
    """`Prioritized` with hindsight."""
