"""Loading replay buffers from folders; see `saving` for the other way."""

import warnings
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyrl_sb3.buffers.actions import warn_of_whole, were_whole
from pyrl_sb3.buffers.columns import Field
from pyrl_sb3.buffers.episodes import EpisodeStore
from pyrl_sb3.buffers.header import Header, Shard, little_endian, read_header
from pyrl_sb3.buffers.infos import Infos, decode, decode_extra
from pyrl_sb3.buffers.saving import lineage
from pyrl_sb3.buffers.saving import save as save
from pyrl_sb3.buffers.shards import check_files, read_file
from pyrl_sb3.buffers.snapshot import Layout, Restorer, layout
from pyrl_sb3.buffers.stacks import turn_like
from pyrl_sb3.buffers.table import Array
from pyrl_sb3.buffers.transfer import transfer

if TYPE_CHECKING:
    from pyrl_sb3.buffers.replay import ReplayBuffer

_TRIES = 100


def load(buffer: "ReplayBuffer", path: str | Path, *, restore_rng: bool = True) -> None:
    """Replace what a buffer holds by what is in a folder; see `ReplayBuffer.load`."""
    folder = Path(path)
    for _ in range(_TRIES):
        saved = read_header(folder)
        try:
            _load(buffer, folder, saved, restore_rng)
            return
        except ValueError:
            # Somebody who saves there takes away files that are out of date.
            if read_header(folder).tip == saved.tip:
                raise
    raise ValueError(f"{folder} cannot be loaded: it is saved to all the time")


def _load(buffer: "ReplayBuffer", folder: Path, saved: Header, restore_rng: bool) -> None:
    check_files(folder, saved)
    extra = _extra(buffer, folder, saved)
    target = _new_store(buffer, saved, buffer.buffer_size, buffer.n_envs)
    _check_fits(buffer, saved, layout(target), folder)
    rows = _read(buffer, folder, saved, target) if saved.now > saved.first else []
    before, rng = dict(vars(buffer)), buffer.rng.bit_generator.state
    try:
        if restore_rng:
            _restore_rng(buffer.rng, saved, folder)
        buffer.adopt(target, rows)
        if extra is not None:
            _give(buffer, extra, saved, folder)
    except BaseException:
        # All of it or nothing, however far a subclass had come.
        buffer.__dict__ = before
        buffer.rng.bit_generator.state = rng
        raise


def _new_store(buffer: "ReplayBuffer", saved: Header, slots: int, n_envs: int) -> EpisodeStore:
    """An empty store that keeps what was saved in the way it was stored."""
    store = buffer.new_store(slots, n_envs, _once(saved))
    turn_like(store.columns, {name.removeprefix("episode/") for name in saved.layout.episodes})
    return store


def _read(buffer: "ReplayBuffer", folder: Path, saved: Header, target: EpisodeStore) -> Infos:
    """Put the newest of what was saved into an empty store; infos of the steps put there."""
    window = saved.now - saved.first
    wraps = saved.first > 0 and target.slots > window
    if saved.n_envs == target.n_envs and not (wraps and any(saved.layout.lead.values())):
        shift = saved.first if wraps else 0
        rows = _fill(target, folder, saved, shift)
        if not shift:
            lineage(target).ids[saved.id] = saved.now
        return rows
    newest = -(-target.slots * target.n_envs // saved.n_envs)  # that there is room for, rounded up
    source = _new_store(buffer, saved, min(window, newest), saved.n_envs)
    return transfer(source, target, _fill(source, folder, saved, 0))


def _extra(buffer: "ReplayBuffer", folder: Path, saved: Header) -> Any:
    """What the saved buffer knew besides transitions, if this one is of those that do."""
    if saved.extra is None or not hasattr(buffer, "get_extra_state"):
        return None
    return _decoded(folder / saved.extra.name, decode_extra, read_file(folder, saved.extra))


def _decoded(file: Path, decoder: Callable[..., Any], *args: Any) -> Any:
    try:
        return decoder(*args)
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}") from error


def _give(buffer: "ReplayBuffer", extra: Any, saved: Header, folder: Path) -> None:
    """Give it to a buffer that has the transitions back, where these are the same."""
    there = saved.now - saved.first, saved.n_envs
    here = buffer.store.now - buffer.store.first, buffer.n_envs
    if there != here:
        warnings.warn(
            f"the extra state in {folder}, such as priorities, is left out: it is of {there[0]} "
            f"steps (n_envs={there[1]}), and {here[0]} are loaded (n_envs={here[1]})",
            stacklevel=5,
        )
        return
    try:
        buffer.set_extra_state(extra)  # type: ignore[attr-defined]  # has its counterpart
    except Exception as error:  # whatever somebody's method comes to
        kind = type(buffer).__name__
        raise ValueError(
            f"{folder} cannot be loaded: its extra state is not for {kind}: {error!r}"
        ) from error


def _restore_rng(rng: np.random.Generator, saved: Header, folder: Path) -> None:
    try:
        rng.bit_generator.state = saved.rng
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(
            f"{folder} has no state for a {type(rng.bit_generator).__name__}: {error}"
        ) from error


def _once(saved: Header) -> list[str]:
    """Keys that have a value per episode only."""
    steps = {name.partition("/")[2] for name in saved.layout.steps}
    last = [name.partition("/") for name in saved.layout.episodes]
    return [key for kind, _, key in last if kind == "last" and key not in steps]


def _check_fits(buffer: "ReplayBuffer", saved: Header, wanted: Layout, folder: Path) -> None:
    stored, field = saved.layout.steps.get("action"), wanted.steps["action"]
    whole = were_whole(stored, field, buffer.action_space)
    for there, here in (
        (saved.layout.steps, wanted.steps),
        (saved.layout.episodes, wanted.episodes),
    ):
        for name in sorted({*there, *here}):
            if there.get(name) != here.get(name) and not (name == "action" and whole):
                raise ValueError(
                    f"{name!r} is {_describe(there.get(name))} in {folder} "
                    f"and {_describe(here.get(name))} in the buffer"
                )
    if saved.layout.lead != wanted.lead:
        raise ValueError(f"{folder} cannot be loaded: its frame stacks are not the buffer's")
    if buffer.copy_info_dict and not saved.has_infos:
        raise ValueError(f"{folder} holds no infos, which copy_info_dict=True needs")
    if whole and stored != field:
        warn_of_whole(str(folder), stacklevel=5)


def _describe(field: Field | None) -> str:
    return "missing" if field is None else f"{field.dtype} of shape {field.shape}"


def _fill(store: EpisodeStore, folder: Path, saved: Header, shift: int) -> Infos:
    """Put what was saved into an empty store; infos of the steps in its window."""
    first = max(saved.first, saved.now - store.slots)
    needed = first - max(saved.layout.lead.values(), default=0)
    parts = [part for part in saved.parts if part.past > needed or part is saved.tip]
    low, high = np.array(parts[0].low), np.array(saved.tip.high)
    restorer = Restorer(store, first, saved.now, shift, low, high)
    infos: Infos = []
    try:
        for part in parts:
            steps, episodes, rest = _split(read_file(folder, part), saved, part)
            begin = saved.first if part is saved.tip else part.past
            for name, values in steps.items():
                n_steps = len(values) // saved.n_envs
                restorer.put_steps(name, begin - n_steps, values)
            restorer.put_episodes(np.array(part.low), np.array(part.high), episodes)
            if saved.has_infos:
                size = part.past - part.first, saved.n_envs
                infos += _decoded(folder / part.name, decode, rest, *size)
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
        count = rows * prod(field.shape)
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
