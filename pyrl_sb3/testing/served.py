"""Whether an algorithm does with prioritised replay buffers what it says that it does."""

from collections.abc import Collection
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch as th

from pyrl_sb3.buffers import ReplayBuffer
from pyrl_sb3.testing.agents import AgentCase, same_state
from pyrl_sb3.testing.require import require
from pyrl_sb3.training.sync.state import read_state


class Weighing(ReplayBuffer):
    """Gives some transitions more weight than others, and counts the errors that it is told."""

    def __init__(self, *args: Any, spread: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.spread, self.told = spread, 0

    def sample_at(self, *args: Any, **kwargs: Any) -> Any:
        batch = super().sample_at(*args, **kwargs)
        size = len(batch.rewards)
        weights = 1 + self.spread * th.linspace(0, 1, size)[:, None]
        return SimpleNamespace(**batch._asdict(), weights=weights, indices=np.arange(size))

    def update_priorities(self, indices: Any, td_errors: Any) -> None:
        self.told += len(np.ravel(td_errors))


def check_serves(case: AgentCase, serves: Collection[str]) -> None:
    """
    Check those of the needs of replay buffers that an algorithm says it serves.

    :param serves: as in its `AlgorithmSpec`
    :raises AssertionError: naming one that it does not
    """
    if not {"priority-updates", "importance-weights"} & set(serves):
        return
    even, uneven = (_trained(case, spread) for spread in (0.0, 1.0))
    if "priority-updates" in serves:
        problem = "serves priority-updates, but never calls update_priorities"
        require(even.replay_buffer.told > 0, problem)
    if "importance-weights" in serves:
        problem = "serves importance-weights, but weights of a batch change nothing"
        require(not same_state(read_state(even), read_state(uneven)), problem)


def _trained(case: AgentCase, spread: float) -> Any:
    buffer = {"replay_buffer_class": Weighing, "replay_buffer_kwargs": {"spread": spread}}
    return replace(case, params={**case.params, **buffer}).trained()
