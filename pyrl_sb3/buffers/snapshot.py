"""What an `EpisodeStore` holds, as plain arrays by name, and back."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pyrl_sb3.buffers.actions import as_scaled
from pyrl_sb3.buffers.columns import EpisodeColumn, Field
from pyrl_sb3.buffers.ends import RUNNING
from pyrl_sb3.buffers.episodes import EpisodeStore
from pyrl_sb3.buffers.table import SPARE, Array, Ints, StartBits


class Layout(NamedTuple):
    """Names, shapes and dtypes of what is stored.

    Per step: `action`, `reward` and `observation/KEY`. Per episode: `last/KEY`, what was observed
    after its last step (or all along, for a key without a value per step), and `episode/FACT`.
    """

    steps: dict[str, Field]
    episodes: dict[str, Field]
    lead: dict[str, int]  # steps before the window that are also needed, by name

    def same(self, other: "Layout") -> bool:
        """Whether the other is equal and in the same order, which is that of the files."""
        mine, others = ([list(part.items()) for part in each] for each in (self, other))
        return mine == others

    def size(self, n_steps: int, n_episodes: int) -> int:
        """Bytes of so many transitions and episodes."""
        step = sum(field.n_bytes for field in self.steps.values())
        episode = sum(field.n_bytes for field in self.episodes.values())
        return n_steps * step + n_episodes * episode

    def lead_size(self, first: int, n_envs: int) -> int:
        """Bytes of the steps that are needed before the position `first`."""
        steps = (min(self.lead[name], first) * f.n_bytes for name, f in self.steps.items())
        return n_envs * sum(steps)


def rings(store: EpisodeStore) -> dict[str, Array]:
    """Views of the values per step; position and environment are in row
    `(position * n_envs + env) % len(ring)`.
    """
    views = {"action": store.actions, "reward": store.rewards}
    for column in store.columns:
        if not isinstance(column, EpisodeColumn):
            for key, span in column.spans.items():
                views[f"observation/{key}"] = column.ring[:, span]
    return views


def facts(store: EpisodeStore) -> dict[str, Array]:
    """Views of the values per episode, in the rows of the episode table."""
    fields = dict(store.table.fields)
    views = {}
    for column in store.columns:
        rows = fields.pop(column.name)
        views.update({f"last/{key}": rows[:, span] for key, span in column.spans.items()})
    return {**{f"episode/{name}": field for name, field in fields.items()}, **views}


def layout(store: EpisodeStore) -> Layout:
    """What this store holds."""
    steps, episodes = (
        {name: Field(view.shape[1:], view.dtype) for name, view in views.items()}
        for views in (rings(store), facts(store))
    )
    lead = {name: len(ring) // store.n_envs - store.slots for name, ring in rings(store).items()}
    return Layout(steps, episodes, lead)


def steps_of(store: EpisodeStore, first: int, past: int) -> dict[str, Array]:
    """Values of the positions `[first, past)`, `((past - first) * n_envs, ...)`."""
    return {name: _rows(store, ring, first, past) for name, ring in rings(store).items()}


def lead_of(store: EpisodeStore) -> dict[str, Array]:
    """Values of the steps before the window that are needed, as `steps_of`."""
    lead = layout(store).lead
    return {
        name: _rows(store, ring, store.first - min(lead[name], store.first), store.first)
        for name, ring in rings(store).items()
    }


def _rows(store: EpisodeStore, ring: Array, first: int, past: int) -> Array:
    return ring[np.arange(first * store.n_envs, past * store.n_envs) % len(ring)]


def episodes_of(store: EpisodeStore, low: Ints, high: Ints) -> dict[str, Array]:
    """Facts of the episodes `[low, high)` of each environment, one environment after another."""
    store.sync()
    rows = store.table.row(*_numbers(low, high))
    return {name: view[rows] for name, view in facts(store).items()}


def _numbers(low: Ints, high: Ints) -> tuple[Ints, Ints]:
    numbers = [np.arange(a, b) for a, b in zip(low, high, strict=True)]
    return np.concatenate(numbers), np.repeat(np.arange(len(low)), high - low)


def numbers_at(store: EpisodeStore, position: int) -> Ints:
    """The number of the episode at this stored position of each environment, `(n_envs,)`."""
    return store.bits.numbers(np.full(store.n_envs, position), store.table.envs)


def finished(store: EpisodeStore) -> Ints:
    """How many episodes of each environment have ended, `(n_envs,)`."""
    store.sync()
    if not store.now:
        return store.table.counts.copy()
    running = store.table.fields["end"][store.table.newest()] == RUNNING
    return store.table.counts - running


class Restorer:
    """Fills an empty store; afterwards its window is `[first, now)` of what was saved.

    :param shift: subtracted from all positions
    :param low: number of the first episode that will be given, `(n_envs,)`
    :param high: and of the first after those
    """

    def __init__(
        self, store: EpisodeStore, first: int, now: int, shift: int, low: Ints, high: Ints
    ) -> None:
        self.store, self.first, self.now, self.shift = store, first, now, shift
        self.low, self.high = low, high
        table = store.table
        table.counts, table.oldest = high.copy(), low.copy()
        table.rows = max(table.rows, int(np.max(high - low)) + 2 + SPARE)
        for name, field in table.fields.items():
            table.add_field(name, field.shape[1:], field.dtype)

    def put_steps(self, name: str, first: int, values: Array) -> None:
        """Store values of the steps from `first` on; those too old to be kept are not."""
        n_envs, ring = self.store.n_envs, rings(self.store)[name]
        past = first + len(values) // n_envs
        oldest = max(first, self.now - len(ring) // n_envs)
        if oldest < past:
            rows = np.arange((oldest - self.shift) * n_envs, (past - self.shift) * n_envs)
            values = values[(oldest - first) * n_envs :]
            ring[rows % len(ring)] = as_scaled(values, ring.dtype)  # where they are actions

    def put_episodes(self, low: Ints, high: Ints, values: Mapping[str, Array]) -> None:
        """Store facts of the episodes `[low, high)`."""
        rows = self.store.table.row(*_numbers(low, high))
        for name, view in facts(self.store).items():
            view[rows] = values[name]

    def finish(self) -> None:
        """Work out what is not saved.

        :raises ValueError: the episodes do not follow each other through the window
        """
        store, table = self.store, self.store.table
        store.now = self.now - self.shift
        for env in range(store.n_envs):
            numbers = np.arange(self.low[env], self.high[env])
            rows = table.row(numbers, np.full_like(numbers, env))
            starts = table.fields["start"][rows]
            kept = max(int(np.searchsorted(starts, self.first, "right")) - 1, 0)
            if not len(starts) or starts[kept] > self.first or starts[-1] >= self.now:
                raise ValueError("episodes are missing")
            if (np.diff(starts) <= 0).any() or (table.fields["end"][rows] & ~3).any():
                raise ValueError("the episodes contradict each other")
            table.oldest[env] += kept
            starts = np.maximum(starts[kept:] - self.shift, 0)
            table.fields["start"][rows[kept:]] = starts
            _set_bits(store.bits, env, store.first, store.now, starts, table.oldest[env])
        store._newest = newest = table.newest()
        store._ends[:] = table.fields["end"][newest]
        table.fields["start"][table.row(table.counts, table.envs)] = store.now
        last = np.full(store.n_envs, store.now - 1)
        store.bits.turn_to(store.now - 1)  # else `locate` would come there in steps of the ring
        where = store.locate(last, table.envs)
        for column in store.columns:
            column.turn_to(store.now - 1)
            column.pending[:] = column.read_next(last, where)


def _set_bits(
    bits: StartBits, env: int, first: int, now: int, starts: Ints, number: np.int64
) -> None:
    """Set the bits of one environment's episodes, of which the first has this number."""
    words = np.arange(first >> 6, (now - 1 >> 6) + 1)
    size = len(bits.words)
    bits.before[words % size, env] = number + np.searchsorted(starts, words * 64)
    starts = starts[starts >= words[0] * 64]
    ones = np.uint64(1) << (starts & 63).astype(np.uint64)
    np.bitwise_or.at(bits.words[:, env], (starts >> 6) % size, ones)
