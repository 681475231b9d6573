"""Rewards over several steps."""

from typing import NamedTuple

import numpy as np

from pyrl_sb3.buffers.columns import Where
from pyrl_sb3.buffers.episodes import EpisodeStore
from pyrl_sb3.buffers.table import Array, Ints


class Segment(NamedTuple):
    """Steps from a transition on, within its episode; fields have shape `(batch, n_steps)`."""

    positions: Ints
    valid: Array  # bool: false beyond the episode
    rewards: Array
    dones: Array  # bool: the step ended its episode for good


def segment_from(store: EpisodeStore, where: Where, n_steps: int, final: Array) -> Segment:
    """Steps as they were stored; `final` says by end code whether nothing comes after an end."""
    positions, lasts = where.positions[:, None] + np.arange(n_steps), where.lasts[:, None]
    valid, positions = positions <= lasts, np.minimum(positions, lasts)
    rewards = store.rewards_of(positions, where.envs[:, None])
    ended = final.take(store.ends(where))[:, None]
    return Segment(positions, valid, rewards, ended & (positions == lasts))


def one_step(store: EpisodeStore, where: Where, final: Array) -> tuple[Array, Array]:
    """The same of one step: rewards and dones `(batch,)`."""
    rewards = store.rewards_at(where)
    ended = final.take(store.ends(where))
    ended &= where.positions + 1 == where.stops
    return rewards, ended


def fold(segment: Segment, gamma: float) -> tuple[Array, Array, Ints, Array]:
    """Sums discounted rewards up to the first end: `R = sum_{j<m} gamma^j r_j`.

    :return: rewards `(batch, 1)`, dones `(batch, 1)`, position of the last step `(batch,)`, and
        the discount `gamma^m` of what follows `(batch, 1)`; Sutton and Barto 2018, eq. 7.1
    """
    over = np.cumsum(segment.dones, axis=1) - segment.dones > 0  # an earlier step was the last
    valid = segment.valid & ~over
    n_steps = valid.shape[1]
    powers = np.float32(gamma) ** np.arange(n_steps + 1, dtype=np.float32)
    # Not multiplied by 0: what is not valid may be infinite.
    rewards = (np.where(valid, segment.rewards, 0) * powers[:n_steps]).sum(axis=1, keepdims=True)
    lengths = valid.sum(axis=1, keepdims=True)
    dones = np.take_along_axis(segment.dones, lengths - 1, axis=1)
    finals = np.take_along_axis(segment.positions, lengths - 1, axis=1)[:, 0]
    return rewards.astype(np.float32), dones, finals, powers[lengths]
