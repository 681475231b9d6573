"""Replay buffers that store each fact once."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from stable_baselines3.common import buffers as sb3
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from pyrl_sb3.buffers.columns import Field, Obs, Where
from pyrl_sb3.buffers.episodes import RUNNING, TERMINATED, TRUNCATED, EpisodeStore
from pyrl_sb3.buffers.returns import Segment, fold, steps_from
from pyrl_sb3.buffers.table import Array, Ints
from pyrl_sb3.buffers.tap import RAW_TERMINAL, keep_raw_terminals

DType = str | type[Any] | np.dtype
DTypes = DType | Mapping[str, DType]

_SB3_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
_WHOLE = "observation"  # the one key of observations that are no dict


class ReplayBuffer(sb3.ReplayBuffer):
    """SB3's replay buffer in about half the memory: each observation is stored once.

    Deviations from SB3:

    - Float observations are stored and sampled in float32, whatever the space says.
    - Nothing is allocated before the first `add`.
    - An episode ends wherever the next observation is not the one the step before led to, and is
      then bootstrapped like one that ran out of time.
    - `optimize_memory_usage` has no effect: memory is always saved, timeouts always handled.
    - Batches are drawn by a generator of the buffer's own.

    :param seed: of the generator that draws batches; by default drawn from numpy's global state,
        which SB3 has seeded with the model's seed
    :param dtype: stored dtype of float observations, one for all or by key; samples are float32
    :param n_steps: steps over which rewards are summed; more than 1 fills `discounts`
    :param gamma: discount of those sums, only used with `n_steps` above 1
    :raises ValueError: an observation space that cannot be stored, an unknown key in `dtype`

    Others: see `stable_baselines3.common.buffers.ReplayBuffer`.
    """

    _once: tuple[str, ...] = ()  # keys that keep their value over an episode

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        *args: Any,
        optimize_memory_usage: bool = False,
        seed: int | None = None,
        dtype: DTypes = np.float32,
        n_steps: int = 1,
        gamma: float = 0.99,
        **kwargs: Any,
    ) -> None:
        _check_flat(observation_space)
        super().__init__(1, observation_space, *args, **kwargs)
        for name in _SB3_ARRAYS:  # one row each: the storage is our own
            self.__dict__.pop(name, None)
        self.buffer_size = max(buffer_size // self.n_envs, 1)
        self.n_steps, self.gamma = n_steps, gamma
        self.rng = np.random.default_rng(np.random.randint(2**31) if seed is None else seed)
        self._fields = _fields(observation_space, self.obs_shape, dtype)
        self._keyed = isinstance(observation_space, spaces.Dict)
        self._store: EpisodeStore | None = None
        self._warned = False
        self._final = np.zeros(4, bool)  # by end code: whether nothing comes after such an end
        self._final[[TERMINATED, TRUNCATED]] = True, not self.handle_timeout_termination

    @property
    def store(self) -> EpisodeStore:
        """The episodes; allocated on first use."""
        if self._store is None:
            action = Field((self.action_dim,), np.dtype(_stored(self.action_space.dtype)))
            self._store = EpisodeStore(
                self.buffer_size, self.n_envs, self._fields, action, self._once
            )
        return self._store

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._store = None

    def add(
        self,
        obs: Any,
        next_obs: Any,
        action: Array,
        reward: Array,
        done: Array,
        infos: list[dict[str, Any]],
    ) -> None:
        """Store one step of every environment; nothing passed in is kept or changed."""
        after, ends = self._by_key(next_obs), None
        if np.count_nonzero(done):
            ends = self._ends(done, infos)
            after = self._with_raw_terminals(after, infos)
        actions = np.asarray(action).reshape(self.n_envs, self.action_dim)
        store = self.store
        store.add(self._by_key(obs), after, actions, reward, ends)
        self.pos = store.now % self.buffer_size
        self.full = store.now >= self.buffer_size

    def _with_raw_terminals(self, obs: Obs, infos: list[dict[str, Any]]) -> Obs:
        envs = [env for env, info in enumerate(infos) if RAW_TERMINAL in info]
        if not envs:
            return obs
        copies = {key: np.array(value) for key, value in obs.items()}
        for env in envs:
            for key, value in self._by_key(infos[env][RAW_TERMINAL]).items():
                copies[key][env] = value
        return copies

    def _ends(self, done: Array, infos: list[dict[str, Any]]) -> Array:
        ends = np.full(self.n_envs, RUNNING, np.int8)
        for env in np.flatnonzero(done):
            truncated = infos[env].get("TimeLimit.truncated")
            if truncated is None and not self._warned:
                self._warned = True
                warnings.warn(
                    "an episode ended without 'TimeLimit.truncated' in its info: "
                    "it is taken to be over for good, even if it only ran out of time",
                    stacklevel=3,
                )
            ends[env] = TRUNCATED if truncated else TERMINATED
        return ends

    def _by_key(self, obs: Any) -> Obs:
        return obs if self._keyed else {_WHOLE: obs}

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> Any:
        """Draw transitions uniformly from all that are stored.

        :raises RuntimeError: nothing is stored yet
        """
        return self.sample_at(*self._draw(batch_size), env)

    def _draw(self, batch_size: int) -> tuple[Ints, Ints]:
        """Positions and environments of the transitions to sample; override to prioritise."""
        if self._store is None or not self._store.now:
            raise RuntimeError("the replay buffer is empty: add a transition before sampling")
        store = self._store
        every = self.rng.integers((store.now - store.first) * self.n_envs, size=batch_size)
        if self.n_envs == 1:
            return every + store.first, np.zeros_like(every)
        return every // self.n_envs + store.first, every % self.n_envs

    def sample_at(self, positions: Ints, envs: Ints, env: VecNormalize | None = None) -> Any:
        """The transitions at these absolute positions of these environments, in this order.

        Positions run from `store.first` to `store.now - 1`; `store.slot(positions, envs)` is an
        index in `[0, buffer_size * n_envs)` that stays the same while a transition is stored.
        """
        where = self.store.locate(positions, envs)
        return self._samples(where, self._segment(where), env)

    def _segment(self, where: Where) -> Segment:
        store = self.store
        if self.n_steps == 1:
            positions = where.positions[:, None]
            valid = np.ones_like(positions, bool)
            rewards = store.rewards.take(store.slot(where.positions, where.envs))[:, None]
        else:
            positions, valid = steps_from(where, self.n_steps)
            rewards = store.rewards.take(store.slot(positions, where.envs[:, None]))
        ended = self._final.take(store.ends(where))[:, None]
        return Segment(positions, valid, rewards, ended & (positions == where.lasts[:, None]))

    def _samples(
        self,
        where: Where,
        segment: Segment,
        env: VecNormalize | None,
        goals: Array | None = None,
    ) -> Any:
        rewards = self._normalize_reward(segment.rewards, env)
        dones, finals, discounts = segment.dones, where.positions, None
        if self.n_steps > 1:
            segment = segment._replace(rewards=rewards)
            rewards, dones, finals, discounts = fold(segment, self.gamma)
        obs, next_obs = self.store.read(where, finals)
        if goals is not None:
            virtual = slice(len(finals) - len(goals), None)
            obs["desired_goal"][virtual] = next_obs["desired_goal"][virtual] = goals
        kind = DictReplayBufferSamples if self._keyed else ReplayBufferSamples
        slots = self.store.slot(where.positions, where.envs)
        return kind(
            observations=self._tensors(obs, env),
            actions=self._tensor(self.store.actions.take(slots, axis=0)),
            next_observations=self._tensors(next_obs, env),
            dones=self._tensor(dones.astype(np.float32)),
            rewards=self._tensor(rewards),
            discounts=None if discounts is None else self._tensor(discounts),
        )

    def _tensor(self, array: Array) -> th.Tensor:
        tensor = th.from_numpy(array)
        return tensor if self.device.type == "cpu" else tensor.to(self.device)

    def _tensors(self, obs: dict[str, Array], env: VecNormalize | None) -> Any:
        if not self._keyed:
            return self._tensor(np.asarray(self._normalize_obs(obs[_WHOLE], env)))
        normal = self._normalize_obs(obs, env)
        assert isinstance(normal, dict)
        return {key: self._tensor(value) for key, value in normal.items()}


class DictReplayBuffer(ReplayBuffer, sb3.DictReplayBuffer):
    """`ReplayBuffer` for dict observations.

    Others: see `stable_baselines3.common.buffers.DictReplayBuffer`.
    """


def _stored(dtype: Any) -> npt.DTypeLike:
    return np.float32 if np.dtype(dtype).kind == "f" else dtype


def _check_flat(space: spaces.Space[Any]) -> None:
    for key, sub in space.spaces.items() if isinstance(space, spaces.Dict) else ():
        if isinstance(sub, (spaces.Dict, spaces.Tuple)):
            raise ValueError(
                f"observation key {key!r} is a {type(sub).__name__} of its own, which cannot be "
                "stored: use gymnasium.wrappers.FlattenObservation or one key per array"
            )


def _fields(space: spaces.Space[Any], shapes: Any, dtype: DTypes) -> dict[str, Field]:
    """Shape and stored dtype of every observation key."""
    keyed = dict(space.spaces) if isinstance(space, spaces.Dict) else {_WHOLE: space}
    by_key: dict[str, DType] = dict.fromkeys(keyed, np.float32)
    by_key.update(dtype if isinstance(dtype, Mapping) else dict.fromkeys(keyed, dtype))
    unknown = sorted(set(by_key) - set(keyed))
    if unknown:
        raise ValueError(
            f"dtype names {unknown[0]!r}, which is no observation key of {list(keyed)}"
        )
    fields = {}
    for key, sub in keyed.items():
        shape = shapes[key] if isinstance(shapes, dict) else shapes
        is_float = np.dtype(sub.dtype).kind == "f"
        fields[key] = Field(shape, np.dtype(by_key[key] if is_float else sub.dtype))
    return fields


__all__ = ["DictReplayBuffer", "ReplayBuffer", "keep_raw_terminals"]
