"""Moving episodes from one store to another."""

import numpy as np

from pyrl_sb3.buffers.ends import CUT, RUNNING
from pyrl_sb3.buffers.episodes import EpisodeStore
from pyrl_sb3.buffers.infos import Infos
from pyrl_sb3.buffers.stacks import turn_like
from pyrl_sb3.buffers.table import Array, Ints

CHUNK = 1024


def deal(source: EpisodeStore, n_envs: int) -> tuple[Ints, Ints, Array]:
    """Spread the stored episodes, oldest first, over `n_envs` columns of equal length.

    An episode is split only where a column is full, and at most `n_envs - 1` of the oldest
    transitions are left out.

    :return: positions, environments and whether an episode is over here, each `(length, n_envs)`
    """
    positions, envs = source.transitions(source.first, source.now)
    where = source.locate(positions, envs)
    # By episode: episodes ordered by their last step, steps in order within.
    order = np.lexsort((positions, envs, where.lasts))
    order = order[len(order) % n_envs :]
    edges = np.flatnonzero(np.diff(where.rows[order])) + 1
    length = len(order) // n_envs
    if not length:
        none = np.zeros((0, n_envs), np.int64)
        return none, none, none.astype(bool)
    columns: list[list[Array]] = [[] for _ in range(n_envs)]
    filled = np.zeros(n_envs, np.int64)
    for episode in np.split(order, edges):
        rest = episode
        while len(rest):
            column = int(np.argmin(filled))
            piece, rest = np.split(rest, [length - filled[column]])
            columns[column].append(piece)
            filled[column] += len(piece)
    dealt = np.stack([np.concatenate(column) for column in columns], axis=1)
    episodes = where.rows[dealt]
    last = np.append(episodes[1:] != episodes[:-1], [[True] * n_envs], axis=0)
    return positions[dealt], envs[dealt], last


def transfer(source: EpisodeStore, target: EpisodeStore, infos: Infos) -> Infos:
    """Add to `target`, which is empty, what `source` holds.

    With another number of environments running episodes are cut, and all dealt out anew; with fewer
    slots the newest are what remains.

    :param infos: of the steps in the window of `source`, oldest first, or none
    :return: those of `target`, likewise
    """
    turn_like(target.columns, source.table.fields)
    n_envs = target.n_envs
    if source.n_envs == n_envs:
        every = source.transitions(source.first, source.now)
        positions, envs = (each.reshape(-1, n_envs) for each in every)
        cuts = np.zeros_like(positions, bool)
    else:
        positions, envs, cuts = deal(source, n_envs)
    for begin in range(0, len(positions), CHUNK):
        chunk = slice(begin, begin + CHUNK)
        where = source.locate(positions[chunk].ravel(), envs[chunk].ravel())
        obs, next_obs = source.read(where, where.positions)
        slots = source.slot(where.positions, where.envs)
        ends = np.where(where.positions == where.lasts, source.ends(where), RUNNING)
        ends = np.where(cuts[chunk].ravel() & (ends == RUNNING), CUT, ends)
        for row in range(0, len(slots), n_envs):
            rows = slice(row, row + n_envs)
            target.add(
                {key: value[rows] for key, value in obs.items()},
                {key: value[rows] for key, value in next_obs.items()},
                source.actions[slots[rows]],
                source.rewards[slots[rows]],
                ends[rows],
            )
    if not infos:
        return []
    steps, owners = positions[-target.slots :] - source.first, envs[-target.slots :]
    return [
        [infos[step][env] for step, env in zip(*row, strict=True)]
        for row in zip(steps.tolist(), owners.tolist(), strict=True)
    ]
