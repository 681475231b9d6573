"""Transitions that copies give to each other."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from pyrl_sb3.buffers import ReplayBuffer
from pyrl_sb3.buffers.tap import RAW_TERMINAL
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.state import Stateful
from pyrl_sb3.training.sync.state import Arrays

_PREFIX, _SEPARATOR = "replay/", "|"


class SharedReplay(Stateful):
    """
    Notes what is added to a model's replay buffer, and adds what others have noted.

    Foreign transitions come as the episodes they were, cut where a synchronisation fell into one.
    Buffers of ours see that they are no continuation of the copy's own. SB3's hindsight buffer
    takes whatever comes for one episode, and is refused.
    """

    def __init__(self) -> None:
        # By name `(capacity, n_envs, ...)`, and how much of it is filled: few arrays, of which
        # checkpoints are made in no time.
        self._noted: dict[str, NDArray[Any]] = {}
        self._count = 0

    def begin(self, model: OffPolicyAlgorithm) -> None:
        """
        Note from now on.

        Raises:
            InputError: the buffer cannot take others' transitions.
        """
        buffer = model.replay_buffer
        if isinstance(buffer, HerReplayBuffer) and not isinstance(buffer, ReplayBuffer):
            raise InputError("SB3's HerReplayBuffer cannot share; pyrl_sb3.HerReplayBuffer can")
        assert buffer is not None
        add = buffer.add

        def noting(
            obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: list[Any]
        ) -> None:
            self._note(obs, next_obs, action, reward, done, infos)
            add(obs, next_obs, action, reward, done, infos)

        vars(buffer)["add"] = noting

    def end(self, model: OffPolicyAlgorithm) -> None:
        """Note no more."""
        vars(model.replay_buffer).pop("add", None)

    def take(self) -> dict[str, NDArray[Any]]:
        """Return what was noted since the last time: `(steps, n_envs, ...)` by name."""
        count, self._count = self._count, 0
        if not count:
            return {}
        return {_PREFIX + name: array[:count].copy() for name, array in self._noted.items()}

    def give(self, model: OffPolicyAlgorithm, everybody: Mapping[int, Arrays], own: int) -> None:
        """Add what all others noted, in the order of their ranks."""
        assert model.replay_buffer is not None
        add = type(model.replay_buffer).add
        for rank, arrays in everybody.items():
            noted = {n.removeprefix(_PREFIX): a for n, a in arrays.items() if n.startswith(_PREFIX)}
            for step in range(len(noted["reward"]) if rank != own and noted else 0):
                value = {name: array[step] for name, array in noted.items()}
                infos = [{"TimeLimit.truncated": bool(each)} for each in value["truncated"]]
                rest = (value["action"], value["reward"], value["done"], infos)
                add(model.replay_buffer, _joined("obs", value), _joined("next", value), *rest)

    def _note(
        self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: list[Any]
    ) -> None:
        after = _named("next", next_obs)
        for env, info in enumerate(infos):
            if RAW_TERMINAL in info:
                for name, raw in _named("next", info[RAW_TERMINAL]).items():
                    after[name][env] = raw
        truncated = np.array([bool(info.get("TimeLimit.truncated", False)) for info in infos])
        rest = {"action": action, "reward": reward, "done": done, "truncated": truncated}
        step = {**_named("obs", obs), **after, **{k: np.asarray(v) for k, v in rest.items()}}
        if not self._noted:
            self._noted = {name: np.empty((64, *v.shape), v.dtype) for name, v in step.items()}
        elif self._count == len(self._noted["reward"]):
            self._noted = {name: np.concatenate((v, v)) for name, v in self._noted.items()}
        for name, value in step.items():
            self._noted[name][self._count] = value
        self._count += 1


def _named(prefix: str, observations: Any) -> dict[str, NDArray[Any]]:
    """One array, or several by key, under names; copied."""
    if not isinstance(observations, dict):
        return {prefix: np.array(observations)}
    return {f"{prefix}{_SEPARATOR}{key}": np.array(each) for key, each in observations.items()}


def _joined(prefix: str, value: Arrays) -> Any:
    """What `_named` took apart."""
    if prefix in value:
        return value[prefix]
    start = prefix + _SEPARATOR
    return {n.removeprefix(start): each for n, each in value.items() if n.startswith(start)}
