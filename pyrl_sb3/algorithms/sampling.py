"""Drawing batches from SB3's replay buffer in less time."""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from pyrl_sb3.algorithms.acting import Array


def sample(buffer: ReplayBuffer, batch_size: int, env: VecNormalize | None) -> Any:
    """
    What ``buffer.sample(batch_size, env)`` returns, from the same random state.

    The plain buffer of SB3 is read here: rows of flat arrays, each copied once. All other buffers
    are asked.
    """
    other = getattr(buffer, "optimize_memory_usage", False) or "sample" in vars(buffer)
    if type(buffer) is not ReplayBuffer or other or env or buffer.device.type != "cpu":
        return buffer.sample(batch_size, env=env)
    size = buffer.buffer_size if buffer.full else buffer.pos
    rows = np.random.randint(0, size, batch_size)
    if buffer.n_envs > 1:
        rows = rows * buffer.n_envs + np.random.randint(0, buffer.n_envs, batch_size)
    end_for_good = _rows(buffer.dones, rows) * (1 - _rows(buffer.timeouts, rows))
    return ReplayBufferSamples(
        observations=_tensor(buffer.observations, rows),
        actions=_tensor(buffer.actions, rows),
        next_observations=_tensor(buffer.next_observations, rows),
        dones=th.from_numpy(end_for_good).unsqueeze(1),
        rewards=_tensor(buffer.rewards, rows).unsqueeze(1),
    )


def _rows(array: Array, rows: Array) -> Array:
    """Of ``(buffer_size, n_envs, *shape)``: ``(batch, *shape)``."""
    # Clipping is quicker than checking, and there is nothing to clip.
    return array.reshape(-1, *array.shape[2:]).take(rows, axis=0, mode="clip")


def _tensor(array: Array, rows: Array) -> th.Tensor:
    return th.from_numpy(_rows(array, rows))
