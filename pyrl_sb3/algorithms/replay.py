"""The replay buffer of a model: its files, and the environment it asks for rewards."""

import secrets
import shutil
import warnings
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

from gymnasium import spaces
from stable_baselines3.common import buffers
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecNormalize,
    VecTransposeImage,
    is_vecenv_wrapped,
    unwrap_vec_wrapper,
)

from pyrl_sb3.buffers import DictReplayBuffer, HerReplayBuffer, ReplayBuffer, keep_raw_terminals
from pyrl_sb3.buffers.header import HEADER, read_header
from pyrl_sb3.buffers.shards import sync_folder

_DEFAULTS = (None, buffers.ReplayBuffer, buffers.DictReplayBuffer, buffers.NStepReplayBuffer)


class ReplayFiles(OffPolicyAlgorithm):
    """
    What an SB3 off-policy algorithm does with the replay buffers from here; mixed in before it.

    Differences from SB3:

    - they are saved as a folder of plain arrays, to which saving again adds only what is new;
      a folder is loaded into the buffer the model was set up with, whose settings stay; its name
      may be given with or without ``.pkl``, and it takes the place of a file of SB3's called so;
    - ``set_env`` reaches a hindsight buffer too, which would go on asking the old environment;
    - terminal observations under VecNormalize are stored as they were from the first step on;
    - VecNormalize around images whose channels come last, which SB3 stores as they are not shown
      to the model, is refused;
    - of models with demonstrations they are from here where no class is named;
    - ``n_steps`` of the model is theirs too, which SB3 ignores beside a class, and ``gamma``.

    :raises ValueError: ``n_steps`` is another one in ``replay_buffer_kwargs``
    """

    # SB3 writes its default into the attribute, from where it is loaded as if it had been chosen.
    _names_buffer = False

    @classmethod
    def load(cls, path: Any, *args: Any, **kwargs: Any) -> Any:
        if "replay_buffer_class" in kwargs:
            kwargs["_names_buffer"] = kwargs["replay_buffer_class"] is not None
        # For `_setup_model`, which is called when these have taken the place of what was saved.
        told = {*kwargs, *(kwargs.get("custom_objects") or ())}
        return super().load(path, *args, **kwargs, _told_at_load=told)

    def _setup_model(self) -> None:
        is_default = not self._names_buffer and self.replay_buffer_class in _DEFAULTS
        if is_default and getattr(self, "demonstrations", None) is not None:
            keyed = isinstance(self.observation_space, spaces.Dict)  # SB3's have no place for them
            self.replay_buffer_class = DictReplayBuffer if keyed else ReplayBuffer
        self._follow(self.__dict__.pop("_told_at_load", set()))
        # Only for now: what is saved stays as given, lest it contradict what a load asks for.
        given, self.replay_buffer_kwargs = self.replay_buffer_kwargs, self._buffer_keywords()
        with warnings.catch_warnings():
            if self._asks_for_steps():
                warnings.filterwarnings("ignore", "`n_steps=.*` is ignored")
            super()._setup_model()
        self.replay_buffer_kwargs = given

    def _follow(self, told: Container[str]) -> None:
        """
        Have the buffer follow the `n_steps` and `gamma` that a model is loaded with. For its own
        buffer of several steps SB3 writes both into `replay_buffer_kwargs`, as if they had been
        chosen, and saves them there.
        """
        if "replay_buffer_kwargs" in told or self.replay_buffer_class is buffers.NStepReplayBuffer:
            return
        self.replay_buffer_kwargs = {
            name: value
            for name, value in self.replay_buffer_kwargs.items()
            if name not in told or name not in ("n_steps", "gamma")
        }

    def _asks_for_steps(self) -> bool:
        """Whether a buffer from here is to look several steps ahead."""
        kind, told = self.replay_buffer_class, self.replay_buffer_kwargs.get("n_steps", 1)
        several = self.n_steps != 1 or told != 1
        return several and kind is not None and issubclass(kind, ReplayBuffer)

    def _buffer_keywords(self) -> dict[str, Any]:
        """What the replay buffer is made with: as given, and what the model asks of it."""
        if not self._asks_for_steps():
            return self.replay_buffer_kwargs
        told = {"n_steps": self.n_steps, "gamma": self.gamma, **self.replay_buffer_kwargs}
        if self.n_steps not in (1, told["n_steps"]):
            raise ValueError(
                f"n_steps={self.n_steps}, and replay_buffer_kwargs has n_steps={told['n_steps']}: "
                "give one of them"
            )
        return told

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        _refuse_images_turned_late(self.env)
        prepared = super()._setup_learn(*args, **kwargs)
        buffer = self.replay_buffer
        if isinstance(buffer, ReplayBuffer):
            keep_raw_terminals(self.env)
        # Copies and pickles of a hindsight buffer leave its environment out.
        if isinstance(buffer, HerReplayBuffer) and buffer.env is None and self.env is not None:
            buffer.set_env(self.env)
        return prepared

    def save_replay_buffer(self, path: Any) -> None:
        if not (isinstance(self.replay_buffer, ReplayBuffer) and isinstance(path, (str, Path))):
            super().save_replay_buffer(path)
            return
        # SB3 adds `.pkl` to names that have no suffix, and writes to all others as they are.
        place = Path(path) if _less_suffix(Path(path)).suffix else _found(path)
        if place.suffix == ".pkl" and place.is_file():
            _replace(place, self.replay_buffer.save)
        else:
            self.replay_buffer.save(place)

    def load_replay_buffer(self, path: Any, truncate_last_traj: bool = True) -> None:
        path = _found(path) if isinstance(path, (str, Path)) else path
        if not isinstance(path, Path) or not path.is_dir():
            super().load_replay_buffer(path, truncate_last_traj)
            return
        if not isinstance(self.replay_buffer, ReplayBuffer):
            read_header(path)  # refuses what is no buffer's folder
            kind = type(self.replay_buffer)
            raise ValueError(
                f"{path} holds a buffer of pyrl_sb3, this model has {kind.__module__}."
                f"{kind.__name__}: set replay_buffer_class=pyrl_sb3.ReplayBuffer or the like"
            )
        self.replay_buffer.load(path)
        if truncate_last_traj:
            self.replay_buffer.store.cut()

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        super().set_env(env, force_reset)
        buffer = getattr(self, "replay_buffer", None)
        if isinstance(buffer, HerReplayBuffer) and self.env is not None:
            buffer.set_env(self.env)


def _found(path: str | Path) -> Path:
    """What there is by this name, which SB3's files are saved under and asked for less a suffix."""
    path = Path(path)
    longer, shorter = Path(f"{path}.pkl"), _less_suffix(path)
    for each in (path, longer):
        if each.is_file() or _is_folder(each):
            return each
    return shorter if _is_folder(shorter) else path


def _is_folder(path: Path) -> bool:
    """Whether a replay buffer is saved in it."""
    return (path / HEADER).is_file()


def _less_suffix(path: Path) -> Path:
    return path.with_suffix("") if path.suffix == ".pkl" else path


def _replace(file: Path, save: Callable[[Path], None]) -> None:
    """Put the folder that ``save`` writes in the place of a file, which stays until it is whole."""
    # No system replaces a file by a folder in one go: at every moment one of them is there whole.
    name = f"{file.name}.{secrets.token_hex(4)}"
    folder, before = file.with_name(f"{name}.new"), file.with_name(f"{name}.old")
    try:
        save(folder)
        file.rename(before)
        folder.rename(file)
    except BaseException:
        if before.exists() and not file.exists():
            before.rename(file)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    sync_folder(file.parent)
    before.unlink()


def _refuse_images_turned_late(env: VecEnv | None) -> None:
    turning = None if env is None else unwrap_vec_wrapper(env, VecTransposeImage)
    if not isinstance(turning, VecTransposeImage) or turning.skip:
        return
    some = getattr(turning, "image_space_keys", True)  # of a dict there may be none
    if some and is_vecenv_wrapped(turning.venv, VecNormalize):
        raise ValueError(
            "VecNormalize keeps what is stored, and needs images turned before it where their "
            "channels come last: VecNormalize(VecTransposeImage(env), ...)"
        )
