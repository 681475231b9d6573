"""The replay buffer in a checkpoint: ours as a folder that shares files with the one before."""

import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import HerReplayBuffer as TheirHerReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer as TheirReplayBuffer

from pyrl_sb3.buffers import HerReplayBuffer, ReplayBuffer
from pyrl_sb3.buffers.header import read_header
from pyrl_sb3.buffers.saving import save
from pyrl_sb3.buffers.shards import check_files, read_file
from pyrl_sb3.errors import short
from pyrl_sb3.training.state import (
    StateError,
    Tree,
    capture,
    capture_attributes,
    restore,
    restore_attributes,
)


def save_buffer(buffer: TheirReplayBuffer, folder: Path, before: Path | None) -> Tree:
    """
    Write a replay buffer.

    A buffer that has more to it than transitions may tell by two methods, named as PyTorch's
    modules name them: `get_extra_state()`, which returns numbers, arrays and containers of these,
    and `set_extra_state(state)`, called when the transitions are back.

    Args:
        buffer: of ours, or SB3's or like it, whose arrays are then returned.
        folder: to be made, for ours.
        before: where it was written before; what has not changed is linked, not written again.

    Returns:
        what goes into the checkpoint's state.

    Raises:
        StateError: something in the buffer cannot be saved.
    """
    if not isinstance(buffer, ReplayBuffer):
        filled = buffer.buffer_size if buffer.full else buffer.pos
        return {
            name: _first_rows(tree, buffer.buffer_size, filled)
            for name, tree in capture_attributes(buffer).items()
        }
    if before is not None and before.is_dir():
        _link(before, folder)
    try:
        if type(buffer).save is ReplayBuffer.save:
            # The checkpoint's state takes more kinds of containers and arrays than the folder.
            save(buffer, folder, with_extra=False)
        else:
            buffer.save(folder)
    except ValueError as error:
        raise StateError(str(error)) from error
    return _extra(buffer) if hasattr(buffer, "get_extra_state") else None


def check_buffer(folder: Path, state: Tree) -> None:
    """Read all that `save_buffer` wrote; OSError or ValueError where something is damaged."""
    if isinstance(state, dict) and "buffer_size" in state:  # SB3's, of which it wrote nothing
        return
    header = read_header(folder)
    check_files(folder, header)
    for file in header.files:
        read_file(folder, file)


def load_buffer(buffer: TheirReplayBuffer, folder: Path, state: Tree) -> None:
    """
    Put back what `save_buffer` wrote and returned.

    Raises:
        OSError, ValueError: something is missing, damaged, or of another kind of buffer.
    """
    if isinstance(buffer, ReplayBuffer):
        buffer.load(folder)
        if state is not None:
            # Of those alone that have `get_extra_state`
            buffer.set_extra_state(restore(state, None))  # type: ignore[attr-defined]
        return
    allocated = {
        name: dict(value) if isinstance(value, dict) else value
        for name, value in vars(buffer).items()
    }
    restore_attributes(state, buffer)
    for name in state.keys() & vars(buffer).keys():
        vars(buffer)[name] = _refilled(vars(buffer)[name], allocated.get(name))


def end_episodes(buffer: TheirReplayBuffer | None) -> None:
    """Tell a replay buffer that the environments were reset."""
    if isinstance(buffer, ReplayBuffer):
        buffer.store.cut()
        if isinstance(buffer, HerReplayBuffer):
            buffer.forget_answers()
    elif isinstance(buffer, TheirHerReplayBuffer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it does
            buffer.truncate_last_trajectory()


def _extra(buffer: Any) -> Tree:
    state = buffer.get_extra_state()
    try:
        return _captured(state)
    except StateError as error:
        found = _unkept(state, f"{type(buffer).__name__}.get_extra_state()")
        raise StateError(
            f"{found}, which no checkpoint keeps: give numbers, arrays, text, or lists, tuples and "
            "dictionaries of these"
        ) from error


def _captured(value: Any) -> Tree:
    """What is captured of a value; StateError where that would not come back."""
    tree = capture(value)
    restore(tree, None)  # generators come back into those that are there alone
    return tree


def _unkept(value: Any, where: str) -> str | None:
    """What of a buffer's state does not come back, and where in it that is; None for nothing."""
    try:
        _captured(value)
    except StateError:
        parts: Any = value.items() if isinstance(value, dict) else ()
        if isinstance(value, (list, tuple)):
            parts = enumerate(value)
        inner = (_unkept(part, f"{where}[{short(key)}]") for key, part in parts)
        return next(filter(None, inner), None) or _problem(value, where)
    return None


def _problem(value: Any, where: str) -> str:
    keys = value if isinstance(value, dict) else ()
    for key in keys:
        if _unkept(key, where):
            return f"{where} has a key of type {type(key).__name__}"
    return f"{where} is of type {type(value).__name__}"


def _link(source: Path, target: Path) -> None:
    target.mkdir()
    try:
        for file in source.iterdir():
            os.link(file, target / file.name)
    except OSError:  # no links on this file system: everything is written again
        shutil.rmtree(target)


def _first_rows(tree: Tree, allocated: int, filled: int) -> Tree:
    if isinstance(tree, np.ndarray) and tree.ndim and len(tree) == allocated:
        return tree[:filled]
    if isinstance(tree, dict) and "$dict" in tree:
        return {"$dict": [[k, _first_rows(v, allocated, filled)] for k, v in tree["$dict"]]}
    return tree


def _refilled(value: Any, allocated: Any) -> Any:
    if isinstance(value, np.ndarray) and isinstance(allocated, np.ndarray):
        allocated[: len(value)] = value
        return allocated
    if isinstance(value, dict) and isinstance(allocated, Mapping):
        return {name: _refilled(each, allocated.get(name)) for name, each in value.items()}
    return value
