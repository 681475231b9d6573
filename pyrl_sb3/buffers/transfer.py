"""Moving episodes from one store to another."""

from collections.abc import Callable

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
    positions = np.repeat(np.arange(source.first, source.now), source.n_envs)
    envs = np.tile(np.arange(source.n_envs), source.now - source.first)
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


def transfer(
    source: EpisodeStore,
    target: EpisodeStore,
    each: Callable[[Ints, Ints], None] = lambda positions, envs: None,
) -> None:
    """Add to `target` what `source` holds.

    With another number of environments running episodes are cut, and all dealt out anew; with fewer
    slots the newest are what remains.

    :param each: called with the positions and environments `(n_envs,)` in `source` of every step
    """
    if not target.now:
        turn_like(target.columns, source.table.fields)
    if source.n_envs == target.n_envs:
        steps = np.arange(source.first, source.now)[:, None]
        positions = np.repeat(steps, source.n_envs, axis=1)
        envs = np.tile(np.arange(source.n_envs), (len(steps), 1))
        cuts = np.zeros_like(positions, bool)
    else:
        positions, envs, cuts = deal(source, target.n_envs)
    for chunk in np.split(np.arange(len(positions)), range(CHUNK, len(positions), CHUNK)):
        where = source.locate(positions[chunk].ravel(), envs[chunk].ravel())
        obs, next_obs = source.read(where, where.positions)
        slots = source.slot(where.positions, where.envs)
        ends = np.where(where.positions == where.lasts, source.ends(where), RUNNING)
        ends = np.where(cuts[chunk].ravel() & (ends == RUNNING), CUT, ends)
        for i in range(len(chunk)):
            rows = slice(i * target.n_envs, (i + 1) * target.n_envs)
            each(where.positions[rows], where.envs[rows])
            target.add(
                {key: value[rows] for key, value in obs.items()},
                {key: value[rows] for key, value in next_obs.items()},
                source.actions[slots[rows]],
                source.rewards[slots[rows]],
                ends[rows],
            )


def transfer_infos(infos: Infos, source: EpisodeStore, target: EpisodeStore) -> Infos:
    """`transfer`, and the infos of the steps that are added to `target`.

    :param infos: of the steps in the window of `source`, oldest first, or none
    :return: those of `target`, likewise
    """
    rows: Infos = []

    def each(positions: Ints, envs: Ints) -> None:
        if infos:
            steps = (positions - source.first).tolist()
            rows.append([infos[t][e] for t, e in zip(steps, envs.tolist(), strict=True)])

    transfer(source, target, each)
    return rows[-target.slots :]
