"""Saving replay buffers to folders."""

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from pyrl_sb3.buffers.episodes import EpisodeStore
from pyrl_sb3.buffers.header import File, Header, Shard, little_endian, new_extra_name, new_name
from pyrl_sb3.buffers.infos import encode, encode_extra
from pyrl_sb3.buffers.shards import (
    check_files,
    commit,
    open_to_write,
    remove_leftovers,
    sync_folder,
    write_file,
)
from pyrl_sb3.buffers.snapshot import episodes_of, finished, layout, lead_of, numbers_at, steps_of
from pyrl_sb3.buffers.table import Array, Ints

if TYPE_CHECKING:
    from pyrl_sb3.buffers.replay import ReplayBuffer

SHARD_BYTES = 2**24  # larger saves are split: a shard is held in memory as a whole
SMALL = 2**20
MANY_SMALL = 32


class Lineage:
    """Which saved states a store continues; copies of a store, also in a forked process, do not.

    `ids[id]` is the position up to which the store has the history of the saved store `id`.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.own = uuid.uuid4().hex
        self.ids = {self.own: 2**62}

    def continues(self, saved: Header) -> bool:
        """Whether everything saved there happened in this store too."""
        return saved.now <= self.ids.get(saved.id, -1)


_LINEAGES: "WeakKeyDictionary[EpisodeStore, Lineage]" = WeakKeyDictionary()


def lineage(store: EpisodeStore) -> Lineage:
    """The lineage of a store."""
    known = _LINEAGES.get(store)
    if known is None or known.pid != os.getpid():
        known = _LINEAGES[store] = Lineage()
    return known


def save(buffer: "ReplayBuffer", path: str | Path, *, with_extra: bool = True) -> None:
    """Write what a buffer holds to a folder; see `ReplayBuffer.save`.

    :param with_extra: False where somebody else keeps its extra state
    """
    folder = Path(path)
    saved = open_to_write(folder)
    try:
        header = _write(folder, saved, buffer, with_extra)
        commit(folder, header)
    except OSError as error:
        remove_leftovers(folder, saved)
        raise OSError(
            error.errno,
            f"the replay buffer was not saved ({error.strerror}); what was saved before is intact",
            str(folder),
        ) from error
    sync_folder(folder)
    remove_leftovers(folder, header)


def _write(folder: Path, saved: Header | None, buffer: "ReplayBuffer", with_extra: bool) -> Header:
    """Write the files that `saved` does not have; the new header."""
    store = buffer.store
    what, known, own = layout(store), buffer.copy_info_dict, lineage(store)
    # Before anything is written: it may be what cannot be.
    extra = _extra(buffer) if with_extra else None
    kept: list[Shard] = []
    if store.now > store.first:
        same = saved and saved.layout.same(what) and saved.has_infos == known
        continues = saved is not None and own.continues(saved)
        if saved and not continues:
            check_files(folder, saved)  # what is damaged is left for somebody to look at
        if saved and same and continues and _is_whole(folder, saved):
            kept, first, low = _kept(saved, store)
        else:
            first, low = store.first, numbers_at(store, store.first)
        for past, high in _edges(store, first, what.size(1, 0)):
            if past > first or (high > low).any():
                kept.append(_write_shard(folder, buffer, (first, past), (low, high)))
            first, low = past, high
    now, low, high = store.now, finished(store), store.table.counts
    return Header(
        id=own.own,
        n_envs=store.n_envs,
        first=store.first,
        now=now,
        layout=what,
        has_infos=known,
        rng=json.loads(json.dumps(buffer.rng.bit_generator.state, default=np.ndarray.tolist)),
        shards=kept,
        tip=_write_shard(folder, buffer, (now, now), (low, high), lead_of(store)),
        extra=None if extra is None else _write_extra(folder, extra),
    )


def _extra(buffer: "ReplayBuffer") -> bytes | None:
    """What a buffer knows besides transitions, if it has a way to tell and anything to tell."""
    state = buffer.get_extra_state() if hasattr(buffer, "get_extra_state") else None
    return None if state is None else encode_extra(state)


def _write_extra(folder: Path, content: bytes) -> File:
    name = new_extra_name()
    return File(name, *write_file(folder / name, [content]))


def _is_whole(folder: Path, saved: Header) -> bool:
    """Whether the files that may stay are there; otherwise all is written again."""
    try:
        check_files(folder, saved)
    except ValueError:
        return False
    return True


def _kept(saved: Header, store: EpisodeStore) -> tuple[list[Shard], int, Ints]:
    """Shards that stay, and the position and episodes that the first new one begins with."""
    n_kept = len(saved.shards)
    while n_kept and saved.shards[n_kept - 1].size < SMALL:
        n_kept -= 1
    if len(saved.shards) - n_kept < MANY_SMALL:
        n_kept = len(saved.shards)
    kept = [shard for shard in saved.shards[:n_kept] if shard.past > store.first]
    follows = saved.parts[n_kept]
    low = np.maximum(follows.low, numbers_at(store, store.first))
    return kept, max(follows.first, store.first), low


def _edges(store: EpisodeStore, first: int, step_bytes: int) -> Iterator[tuple[int, Ints]]:
    """Where new shards end: position and first episode beyond."""
    length = max(SHARD_BYTES // (step_bytes * store.n_envs), 1)
    for past in range(first + length, store.now, length):
        yield past, numbers_at(store, past)
    yield store.now, finished(store)


def _write_shard(
    folder: Path,
    buffer: "ReplayBuffer",
    steps: tuple[int, int],
    episodes: tuple[Ints, Ints],
    lead: dict[str, Array] | None = None,
) -> Shard:
    (first, past), (low, high), store = steps, episodes, buffer.store
    values = [steps_of(store, first, past) if lead is None else lead, episodes_of(store, low, high)]
    chunks: list[memoryview | bytes] = [
        np.ascontiguousarray(array, little_endian(array.dtype)).reshape(-1).view(np.uint8).data
        for some in values
        for array in some.values()
    ]
    if buffer.copy_info_dict:
        infos = buffer._infos
        chunks.append(encode([infos[t % store.slots] for t in range(first, past)]))
    name = new_name(first, past)
    size, checksum = write_file(folder / name, chunks)
    return Shard(name, size, checksum, first, past, low.tolist(), high.tolist())
