"""Transitions that copies give to each other."""

from contextlib import closing
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from pyrl_sb3.buffers import ReplayBuffer
from pyrl_sb3.buffers.infos import decode, encode, kept
from pyrl_sb3.buffers.tap import RAW_TERMINAL
from pyrl_sb3.config import Experiment
from pyrl_sb3.plugins import SeedGroup
from pyrl_sb3.training.agents import NamedAgent
from pyrl_sb3.training.environments import open_env
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.models import buffer_of
from pyrl_sb3.training.state import Stateful
from pyrl_sb3.training.sync.state import Arrays, part_of

_SEPARATOR = "|"


def require_sharable(buffer: type, *, optimize_memory_usage: bool = False) -> None:
    """
    Check that a replay buffer can take the transitions of other copies.

    SB3's that look at the place after a transition for its continuation, or take whatever comes
    for one episode, would put the steps of different copies together.

    Args:
        buffer: its class.
        optimize_memory_usage: whether SB3's keeps each observation only once; ours always do, and
            know which belong together.

    Raises:
        InputError: it cannot.
    """
    if issubclass(buffer, ReplayBuffer):
        return
    if issubclass(buffer, HerReplayBuffer):
        problem = "HerReplayBuffer cannot share; pyrl_sb3.HerReplayBuffer can: --buffer her"
    elif issubclass(buffer, NStepReplayBuffer):
        problem = "NStepReplayBuffer cannot share; pyrl_sb3.ReplayBuffer can: --buffer uniform"
    elif optimize_memory_usage:
        problem = (
            f"{buffer.__name__} with optimize_memory_usage cannot share; pyrl_sb3.ReplayBuffer "
            "can, and needs no more memory"
        )
    else:
        return
    raise InputError(f"share_replay: SB3's {problem}")


def check_sharing(agent: NamedAgent, experiment: Experiment, env_id: str) -> None:
    """Raise InputError where the copies of an experiment cannot share, before any is begun."""
    with closing(open_env(env_id, experiment)) as probe:
        observations = probe.observation_space
    buffer = buffer_of(agent, {**agent.spec.defaults, **experiment.arguments}, observations)
    require_sharable(buffer or ReplayBuffer)


class SharedReplay(Stateful):
    """
    Notes what is added to a model's replay buffer, and adds what others have noted.

    Foreign transitions come as the episodes they were, cut where a synchronisation fell into one.
    Buffers of ours see that they are no continuation of the copy's own. Those of SB3's that do not
    are refused, see `require_sharable`.
    """

    def __init__(self) -> None:
        # By name `(capacity, n_envs, ...)`, and how much of it is filled: few arrays, of which
        # checkpoints are made in no time.
        self._noted: dict[str, NDArray[Any]] = {}
        self._count = 0
        self._infos: list[str] = []  # of each step, where the buffer keeps them

    def begin(self, model: OffPolicyAlgorithm) -> None:
        """
        Note from now on.

        Raises:
            InputError: the buffer cannot take others' transitions; `buffer.add` raises it where an
                info that the buffer keeps cannot be sent.
        """
        buffer = model.replay_buffer
        assert buffer is not None
        saves = getattr(buffer, "optimize_memory_usage", False)
        require_sharable(type(buffer), optimize_memory_usage=saves)
        add, keeps_infos = buffer.add, getattr(buffer, "copy_info_dict", False)

        def noting(
            obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: list[Any]
        ) -> None:
            if keeps_infos:
                self._infos.append(_encoded(infos))
            self._note(obs, next_obs, action, reward, done, infos)
            add(obs, next_obs, action, reward, done, infos)

        vars(buffer)["add"] = noting

    def end(self, model: OffPolicyAlgorithm) -> None:
        """Note no more."""
        vars(model.replay_buffer).pop("add", None)

    def exchange(self, model: OffPolicyAlgorithm, group: SeedGroup) -> None:
        """
        Give the others what was noted since the last time, and add what they noted, in the order
        of their ranks.

        Copies may have noted different numbers of steps: one that a callback has stopped comes with
        fewer. All then send as many bytes as the longest, since exchanges are of equal arrays.

        Raises:
            InputError: copies have different numbers of environments.
        """
        mine = self._take()
        sizes = {"bytes": np.array(len(mine)), "environments": np.array(model.n_envs)}
        said = group.all_gather(sizes)
        many = sorted({int(each["environments"]) for each in said.values()})
        if len(many) > 1:
            raise InputError(
                f"share_replay: copies have {' and '.join(map(str, many))} environments; "
                f"let all have {many[0]}"
            )
        room = np.zeros(max(int(each["bytes"]) for each in said.values()), np.uint8)
        room[: len(mine)] = np.frombuffer(mine, np.uint8)
        for rank, each in group.all_gather({"replay": room}).items():
            length = int(said[rank]["bytes"])
            if rank != group.rank and length:
                self._add(model, each["replay"][:length])

    def _take(self) -> bytes:
        """
        What was noted since the last time, `(steps, n_envs, ...)` by name, as of `np.savez`; infos
        are the bytes of JSON.
        """
        count, self._count = self._count, 0
        if not count:
            return b""
        arrays = {name: array[:count] for name, array in self._noted.items()}
        if self._infos:
            arrays["infos"] = np.frombuffer(f"[{','.join(self._infos)}]".encode(), np.uint8)
            self._infos = []
        written = BytesIO()
        np.savez(written, **arrays)  # type: ignore[arg-type]  # numpy's stub takes them for allow_pickle
        return written.getvalue()

    @staticmethod
    def _add(model: OffPolicyAlgorithm, content: NDArray[np.uint8]) -> None:
        assert model.replay_buffer is not None
        add = type(model.replay_buffer).add
        with np.load(BytesIO(content.tobytes())) as saved:
            noted = dict(saved)
        kept = noted.pop("infos", None)
        steps, n_envs = noted["truncated"].shape
        known = (
            decode(kept.tobytes(), steps, n_envs) if kept is not None else [[{}] * n_envs] * steps
        )
        for step in range(steps):
            value = {name: array[step] for name, array in noted.items()}
            infos = [
                {**info, "TimeLimit.truncated": bool(truncated)}
                for info, truncated in zip(known[step], value["truncated"], strict=True)
            ]
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
            self._noted = {name: np.zeros((64, *v.shape), v.dtype) for name, v in step.items()}
        elif self._count == len(self._noted["reward"]):
            self._noted = {name: np.concatenate((v, v)) for name, v in self._noted.items()}
        for name, value in step.items():
            self._noted[name][self._count] = value
        self._count += 1


def _encoded(infos: list[dict[str, Any]]) -> str:
    """One step's infos in a list of JSON, without the observations, which are sent anyway."""
    try:
        return encode([kept(infos)]).decode()[1:-1]
    except ValueError as error:
        raise InputError(f"share_replay: {error}") from error


def _named(prefix: str, observations: Any) -> dict[str, NDArray[Any]]:
    """One array, or several by key, under names; copied."""
    if not isinstance(observations, dict):
        return {prefix: np.array(observations)}
    return {f"{prefix}{_SEPARATOR}{key}": np.array(each) for key, each in observations.items()}


def _joined(prefix: str, value: Arrays) -> Any:
    """What `_named` took apart."""
    return value[prefix] if prefix in value else part_of(prefix + _SEPARATOR, value)
