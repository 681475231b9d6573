"""A replay buffer class under check: how it is made, filled and saved."""

import io
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.save_util import load_from_pkl, save_to_pkl
from stable_baselines3.common.vec_env import VecEnv

from pyrl_sb3.plugins.errors import RAISED
from pyrl_sb3.testing.batches import Stored
from pyrl_sb3.testing.numbered import NumberedEnv, numbered, play
from pyrl_sb3.testing.require import CheckError
from pyrl_sb3.training.kept import load_buffer, save_buffer
from pyrl_sb3.training.state_files import read_tree, write_tree

SLOTS = 30  # per environment


@dataclass(frozen=True, kw_only=True)
class BufferCase:
    """A replay buffer class to check, its parameters, and one setting of those to check it in."""

    cls: type[ReplayBuffer]
    params: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "array"
    n_envs: int = 1
    needs: frozenset[str] = frozenset()

    def env(self) -> VecEnv:
        """A new environment."""
        return numbered(self.kind, self.n_envs)

    def make(self, seed: int = 0, **kwargs: Any) -> Any:
        """A buffer, constructed as SB3 does after it has seeded numpy's global generator."""
        np.random.seed(seed)
        th.manual_seed(seed)
        one = NumberedEnv(self.kind)
        if issubclass(self.cls, HerReplayBuffer):
            kwargs["env"] = self.env()
        kwargs = {"device": "cpu", "n_envs": self.n_envs, **kwargs, **self.params}
        spaces = one.observation_space, one.action_space
        buffer: Any = self.cls(SLOTS * self.n_envs, *spaces, **kwargs)
        n_steps = vars(buffer).get("n_steps")
        if isinstance(n_steps, int) and n_steps > 1:  # which the class sets itself
            buffer.n_steps = 1
        return buffer

    def filled(self, steps: int = 20, seed: int = 0) -> tuple[Any, Stored]:
        """A buffer, and what was stored in it."""
        buffer = self.make(seed)
        return buffer, play(buffer, self.env(), steps)

    def __str__(self) -> str:
        return f"{self.cls.__name__} of {self.kind} observations, n_envs={self.n_envs}"


def buffer_cases(
    cls: type[ReplayBuffer],
    params: Mapping[str, Any] | None = None,
    *,
    observation_kinds: Collection[str] | None = None,
    needs: Collection[str] = (),
) -> Iterator[BufferCase]:
    """The settings to check a class in: one and three environments, with all kinds it claims."""
    if observation_kinds is None:
        observation_kinds = ["dict" if issubclass(cls, DictReplayBuffer) else "array"]
    params = dict(params or {})
    # Of one step are the transitions that a batch is compared with. What takes `n_steps` as one of
    # `**kwargs` may pass it on itself.
    if "n_steps" in params or "n_steps" in signature(cls).parameters:
        params["n_steps"] = 1
    for kind in sorted(observation_kinds):
        for n_envs in (1, 3):
            yield BufferCase(
                cls=cls, params=params, kind=kind, n_envs=n_envs, needs=frozenset(needs)
            )


def through_pickle(case: BufferCase, buffer: Any) -> Any:
    """The buffer as `save_replay_buffer` and `load_replay_buffer` of SB3's models leave it."""
    file = io.BytesIO()
    save_to_pkl(file, buffer)
    file.seek(0)
    twin = load_from_pkl(file)
    if isinstance(twin, HerReplayBuffer):
        twin.set_env(case.env())
    return twin


def through_checkpoint(case: BufferCase, buffer: Any) -> Any:
    """The buffer as `--resume` finds it in a checkpoint, its extra state included."""
    twin = case.make(seed=7)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            write_tree(save_buffer(buffer, folder / "saved", None), folder, "state")
            load_buffer(twin, folder / "saved", read_tree(folder, "state"))
        except RAISED as error:
            problem = f"no checkpoint can keep it: {type(error).__name__}: {error}"
            raise CheckError(problem) from error
    return twin
