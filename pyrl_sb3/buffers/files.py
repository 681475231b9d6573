"""Saving replay buffers to folders, and loading them."""

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from pyrl_sb3.buffers.columns import Field
from pyrl_sb3.buffers.episodes import EpisodeStore
from pyrl_sb3.buffers.infos import decode, encode
from pyrl_sb3.buffers.shards import (
    Header,
    Shard,
    check_files,
    commit,
    little_endian,
    new_name,
    open_to_write,
    read_header,
    read_shard,
    remove_leftovers,
    sync_folder,
    write_file,
)
from pyrl_sb3.buffers.snapshot import (
    Layout,
    Restorer,
    episodes_of,
    finished,
    layout,
    lead_of,
    numbers_at,
    steps_of,
)
from pyrl_sb3.buffers.table import Array, Ints
from pyrl_sb3.buffers.transfer import transfer

if TYPE_CHECKING:
    from pyrl_sb3.buffers.replay import ReplayBuffer

Infos = list[list[dict[str, Any]]]

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


def save(buffer: "ReplayBuffer", path: str | Path) -> None:
    """Write what a buffer holds to a folder; see `ReplayBuffer.save`."""
    folder = Path(path)
    saved = open_to_write(folder)
    try:
        header = _write(folder, saved, buffer)
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


def _write(folder: Path, saved: Header | None, buffer: "ReplayBuffer") -> Header:
    """Write the files that `saved` does not have; the new header."""
    store = buffer.store
    what, known, own = layout(store), buffer.copy_info_dict, lineage(store)
    kept: list[Shard] = []
    if store.now:
        if saved and own.continues(saved) and (saved.layout, saved.has_infos) == (what, known):
            kept, first, low = _kept(saved, store)
        else:
            first, low = store.first, numbers_at(store, store.first)
        for past, high in _edges(store, first, what.step_bytes):
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
    )


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


def load(buffer: "ReplayBuffer", path: str | Path, *, restore_rng: bool = True) -> None:
    """Replace what a buffer holds by what is in a folder; see `ReplayBuffer.load`."""
    folder = Path(path)
    saved = read_header(folder)
    check_files(folder, saved)
    window, once = saved.now - saved.first, _once(saved)
    target = buffer.new_store(buffer.buffer_size, buffer.n_envs, once)
    _check_fits(buffer, saved, layout(target), folder)
    rows: Infos = []
    if saved.now:
        wraps = saved.first > 0 and target.slots > window
        if saved.n_envs == target.n_envs and not (wraps and any(saved.layout.lead.values())):
            shift = saved.first if wraps else 0
            rows = _fill(target, folder, saved, shift)
            if not shift:
                lineage(target).ids[saved.id] = saved.now
        else:
            source = buffer.new_store(window, saved.n_envs, once)
            known = _fill(source, folder, saved, 0)

            def each(positions: Ints, envs: Ints) -> None:
                if known:
                    steps = (positions - source.first).tolist()
                    rows.append([known[t][e] for t, e in zip(steps, envs.tolist(), strict=True)])

            transfer(source, target, each)
    if restore_rng:
        _restore_rng(buffer.rng, saved, folder)
    buffer.adopt(target, rows[-target.slots :])


def _restore_rng(rng: np.random.Generator, saved: Header, folder: Path) -> None:
    try:
        rng.bit_generator.state = saved.rng
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder} has no state for a {type(rng.bit_generator).__name__}: {error}"
        ) from error


def _once(saved: Header) -> list[str]:
    """Keys that have a value per episode only."""
    steps = {name.partition("/")[2] for name in saved.layout.steps}
    last = [name.partition("/") for name in saved.layout.episodes]
    return [key for kind, _, key in last if kind == "last" and key not in steps]


def _check_fits(buffer: "ReplayBuffer", saved: Header, wanted: Layout, folder: Path) -> None:
    for there, here in (
        (saved.layout.steps, wanted.steps),
        (saved.layout.episodes, wanted.episodes),
    ):
        for name in sorted({*there, *here}):
            if there.get(name) != here.get(name):
                raise ValueError(
                    f"{name!r} is {_describe(there.get(name))} in {folder} "
                    f"and {_describe(here.get(name))} in the buffer"
                )
    if saved.layout.lead != wanted.lead:
        raise ValueError(f"{folder} cannot be loaded: its frame stacks are not the buffer's")
    if buffer.copy_info_dict and not saved.has_infos:
        raise ValueError(f"{folder} holds no infos, which copy_info_dict=True needs")


def _describe(field: Field | None) -> str:
    return "missing" if field is None else f"{field.dtype} of shape {field.shape}"


def _fill(store: EpisodeStore, folder: Path, saved: Header, shift: int) -> Infos:
    """Put what was saved into an empty store; infos of the steps in its window."""
    first = max(saved.first, saved.now - store.slots)
    parts = [part for part in saved.parts if part.past > first or part is saved.tip]
    low, high = np.array(parts[0].low), np.array(saved.tip.high)
    restorer = Restorer(store, first, saved.now, shift, low, high)
    infos: Infos = []
    try:
        for part in parts:
            steps, episodes, rest = _split(read_shard(folder, part), saved, part)
            begin = saved.first if part is saved.tip else part.past
            for name, values in steps.items():
                n_steps = len(values) // saved.n_envs
                restorer.put_steps(name, begin - n_steps, values)
            restorer.put_episodes(np.array(part.low), np.array(part.high), episodes)
            if saved.has_infos:
                infos += decode(rest, part.past - part.first, saved.n_envs)
        restorer.finish()
    except ValueError as error:
        raise ValueError(f"{folder} cannot be loaded: {error}") from error
    return infos[first - saved.now :]


def _split(
    content: bytes, saved: Header, part: Shard
) -> tuple[dict[str, Array], dict[str, Array], bytes]:
    """Values per step, values per episode and infos of one file."""
    offset, n_episodes = 0, sum(part.high) - sum(part.low)

    def take(field: Field, rows: int) -> Array:
        nonlocal offset
        count = rows * int(np.prod(field.shape))
        values = np.frombuffer(content, little_endian(field.dtype), count, offset)
        offset += values.nbytes
        return values.reshape(rows, *field.shape)

    steps = {}
    for name, field in saved.layout.steps.items():
        n_steps = part.past - part.first
        if part is saved.tip:
            n_steps = min(saved.layout.lead[name], saved.first)
        steps[name] = take(field, n_steps * saved.n_envs)
    episodes = {name: take(field, n_episodes) for name, field in saved.layout.episodes.items()}
    return steps, episodes, content[offset:]
