"""Replay buffers that store each fact once."""

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common import buffers as sb3
from stable_baselines3.common.vec_env import VecNormalize

from pyrl_sb3.buffers import fields, files
from pyrl_sb3.buffers.actions import action_field, put_back
from pyrl_sb3.buffers.batches import put_goals, samples
from pyrl_sb3.buffers.columns import Field, Where
from pyrl_sb3.buffers.ends import UNMARKED, end_codes, final_ends
from pyrl_sb3.buffers.episodes import EpisodeStore
from pyrl_sb3.buffers.fields import WHOLE, DTypes, bulk_dtype, stacks, step_bytes, stored_fields
from pyrl_sb3.buffers.infos import Infos, check_n_envs, copied, listed, put
from pyrl_sb3.buffers.memory import Allocator, Storage, warn_if_too_large
from pyrl_sb3.buffers.returns import Segment, fold, one_step, segment_from
from pyrl_sb3.buffers.table import Array, Ints
from pyrl_sb3.buffers.tap import keep_raw_terminals, with_raw_terminals
from pyrl_sb3.buffers.transfer import transfer
from pyrl_sb3.buffers.views import Count, View, refuse_lost_overrides


class ReplayBuffer(sb3.ReplayBuffer):
    """SB3's replay buffer in about half the memory: each observation is stored once.

    Deviations from SB3:

    - Float observations, and actions of any Box, are stored and sampled in float32.
    - Nothing is allocated before the first `add`.
    - An episode ends wherever the next observation is not the one the step before led to, and is
      then bootstrapped like one that ran out of time.
    - `optimize_memory_usage` has no effect: memory is always saved, timeouts always handled.
    - `observations`, `rewards` and the other arrays are read-only copies, made on each access; what
      a subclass from elsewhere sets them, `pos` or `full` to has no part in what is stored.
    - Batches are drawn by a generator of the buffer's own.
    - Environments may be more or fewer than before: the episodes are then dealt out anew.

    Other parameters: see `stable_baselines3.common.buffers.ReplayBuffer`.

    :param seed: of the generator that draws batches; by default drawn from numpy's global state,
        which SB3 has seeded with the model's seed
    :param dtype: stored dtype of float observations, one for all or by key; samples are float32
    :param n_steps: steps over which rewards are summed; more than 1 fills `discounts`
    :param gamma: discount of those sums, only used with `n_steps` above 1
    :param frame_stack: number of frames in an observation, or that number by key: each frame is
        then stored once
    :param storage: "ram", or "memmap" for files in `path` that have no names and go with the
        buffer
    :param path: an existing or new folder, for `storage="memmap"`
    :raises ValueError: an observation space that cannot be stored, or an impossible option
    """

    observations = View()
    next_observations = View()
    actions = View()
    rewards = View()
    dones = View()
    timeouts = View()
    pos = Count()
    full = Count()
    once: tuple[str, ...] = ()  # keys that keep their value over an episode
    copy_info_dict: bool = False
    __setstate__ = put_back

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_lost_overrides(cls)

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
        frame_stack: int | Mapping[str, int] = 1,
        storage: Storage = "ram",
        path: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        n_steps = fields.whole("n_steps", n_steps, "steps")
        self._fields = stored_fields(observation_space, dtype)
        self._stacks = stacks(observation_space, frame_stack)
        self._allocate = Allocator(storage, path)
        super().__init__(1, observation_space, *args, **kwargs)
        View.forget_allocated(self)  # of the one transition asked for
        self._capacity = buffer_size
        self.buffer_size = max(buffer_size // self.n_envs, 1)
        self.n_steps, self.gamma = n_steps, gamma
        self.rng = np.random.default_rng(np.random.randint(2**31) if seed is None else seed)
        self.keyed = isinstance(observation_space, spaces.Dict)
        self._store: EpisodeStore | None = None
        self._infos: Infos = []  # with `copy_info_dict`
        self._warned = not self.handle_timeout_termination  # every end is for good, as asked for
        self._final = final_ends(self.handle_timeout_termination)
        if storage == "ram":
            step = step_bytes(self._fields, self._action, self.once, self._stacks)
            warn_if_too_large(step * self.buffer_size * self.n_envs, bulk_dtype(self._fields))

    @property
    def _action(self) -> Field:
        return action_field(self.action_space, self.action_dim)

    @property
    def store(self) -> EpisodeStore:
        """The episodes; allocated on first use."""
        if self._store is None:
            self._store = self.new_store(self.buffer_size, self.n_envs, self.once)
        return self._store

    def new_store(self, slots: int, n_envs: int, once: Collection[str]) -> EpisodeStore:
        """An empty store for transitions like these."""
        return EpisodeStore(
            slots, n_envs, self._fields, self._action, once, self._stacks, self._allocate
        )

    def save(self, path: str | Path) -> None:
        """Write what is stored to a folder, or bring that folder up to date.

        The folder holds plain arrays, no pickles. What it has already is not written again: saving
        after `k` more transitions writes about as many bytes as these take. A save that fails or
        is killed leaves the folder as it was. Settings such as `n_steps` are not saved; what
        `get_extra_state()` of a subclass returns is, such as priorities, as a whole each time.

        :param path: the folder, new or one that `save` has written
        :raises ValueError: the folder holds something else, or what is to be written cannot be
        :raises OSError: no space is left, for example
        """
        files.save(self, path)

    def load(self, path: str | Path, *, restore_rng: bool = True) -> None:
        """Replace what is stored by what was saved to a folder.

        Into fewer slots, the newest transitions are loaded. Into another number of environments,
        the episodes are dealt out anew, and those running when they were saved are cut there. Extra
        state is then left out, with a warning. Where anything is wrong, what was stored stays.

        :param path: a folder that `save` has written
        :param restore_rng: also go on drawing batches as the saved buffer would have
        :raises FileNotFoundError: there is no such folder
        :raises ValueError: a file is damaged or foreign, or the transitions are of other shapes or
            dtypes; names the file or the key
        """
        files.load(self, path, restore_rng=restore_rng)

    def adopt(self, store: EpisodeStore, infos: Infos) -> None:
        """Replace what is stored; `infos` are those of all steps in the window, oldest first."""
        infos = infos if self.copy_info_dict else []
        newest = store.first % store.slots
        rows = infos[len(infos) - newest :] + infos[: -newest or None]
        # All at once, so that no interruption comes between.
        whole = store, rows, store.slots, store.n_envs
        self._store, self._infos, self.buffer_size, self.n_envs = whole

    def truncate_last_trajectory(self) -> None:
        """End the running episodes here; SB3 does so when it loads a hindsight buffer."""
        self.store.cut()

    def reset(self) -> None:
        """Forget everything."""
        self._store, self._infos = None, []  # all there is: `pos` and `full` follow

    def add(
        self,
        obs: Any,
        next_obs: Any,
        action: Array,
        reward: Array,
        done: Array,
        infos: list[dict[str, Any]] | dict[str, Any] | None,
    ) -> None:
        """Store one step of every environment; nothing passed in is kept or changed.

        One `done` or reward is that of all, and a dict of infos that of the only environment.

        :raises ValueError: an observation of another shape than the space's, which it names; other
            actions; infos of more or fewer environments than the rest
        """
        infos = infos if type(infos) is list else listed(infos, self.n_envs)
        row = copied(infos) if self.copy_info_dict else None
        before, after = (obs, next_obs) if self.keyed else ({WHOLE: obs}, {WHOLE: next_obs})
        if len(infos) != self.n_envs:
            check_n_envs(len(infos), reward, *before.values(), *after.values())
            self.change_n_envs(len(infos))
        ends = None
        if np.count_nonzero(done):
            ends, marked = end_codes(done, infos)
            if not (marked or self._warned):
                self._warned = True
                warnings.warn(UNMARKED, stacklevel=2)
            after = with_raw_terminals(after, infos)
        shape = self.n_envs, self.action_dim
        if getattr(action, "shape", None) != shape:
            action = np.asarray(action).reshape(shape)
        store = self._store or self.store
        if row is not None:
            store.drop_oldest()  # before its infos are overwritten
            put(self._infos, store.now % store.slots, row)
        store.add(before, after, action, reward, ends)

    def change_n_envs(self, n_envs: int) -> None:
        """Deal the stored episodes out to another number of environments; same capacity in all.

        Where that fails or is interrupted, the buffer stays as it was.

        :raises ValueError: not at least one environment
        """
        if n_envs < 1:
            raise ValueError(f"n_envs={n_envs}: choose at least 1")
        size = max(self._capacity // n_envs, 1)
        old = self._store
        if old is None:
            self.buffer_size, self.n_envs = size, n_envs
            return
        store, oldest = self.new_store(size, n_envs, self.once), old.first % old.slots
        infos = self._infos[oldest:] + self._infos[:oldest]
        self.adopt(store, transfer(old, store, infos))

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> Any:
        """Draw transitions uniformly from all that are stored.

        :raises RuntimeError: nothing is stored yet
        """
        if env is not None:
            self._meet(env)
        return self.sample_at(*self._draw(batch_size), env)

    def _meet(self, env: VecNormalize) -> None:
        """Take note of what will normalise a batch, before it is drawn."""
        keep_raw_terminals(env)

    def _draw(self, batch_size: int) -> tuple[Ints, Ints]:
        """Positions and environments of the transitions to sample; override to prioritise."""
        store = self._store
        if store is None or store.now == store.first:
            raise RuntimeError("the replay buffer is empty: add a transition before sampling")
        # A quarter of the time of integers(); the bias is below one in 2**53 / size.
        scaled = self.rng.random(batch_size)
        scaled *= (store.now - store.first) * self.n_envs
        every = scaled.astype(np.int64)
        if self.n_envs == 1:
            every += store.first
            return every, np.zeros(batch_size, np.int64)
        return every // self.n_envs + store.first, every % self.n_envs

    def sample_at(self, positions: Ints, envs: Ints, env: VecNormalize | None = None) -> Any:
        """The transitions at these absolute positions of these environments, in this order.

        Positions run from `store.first` to `store.now - 1`; `store.slot(positions, envs)` is an
        index in `[0, buffer_size * n_envs)` that stays the same while a transition is stored.
        """
        where = self.store.locate(positions, envs)
        if self.n_steps > 1:
            segment = segment_from(self.store, where, self.n_steps, self._final)
            return self._folded(where, segment, env)
        rewards, dones = one_step(self.store, where, self._final)
        return self._batch(where, self.store.read_both(where, positions), rewards, dones, env)

    def _folded(
        self, where: Where, segment: Segment, env: VecNormalize | None, goals: Array | None = None
    ) -> Any:
        """Transitions over the steps of a segment; `goals` are those of the last of them."""
        if env is not None:
            segment = segment._replace(rewards=self._normalize_reward(segment.rewards, env))
        rewards, dones, finals, discounts = fold(segment, self.gamma)
        both = self.store.read_both(where, finals)
        if goals is not None:
            put_goals(both, goals)
        return self._batch(where, both, rewards, dones, env, discounts)

    def _batch(
        self,
        where: Where,
        both: dict[str, Array],
        rewards: Array,
        dones: Array,
        env: VecNormalize | None,
        discounts: Array | None = None,
    ) -> Any:
        observations: Any = both if self.keyed else both[WHOLE]
        if env is not None:
            observations = self._normalize_obs(observations, env)
            if discounts is None:  # those of several steps are sums of normalised rewards
                rewards = self._normalize_reward(rewards, env)
        actions = self.store.actions_at(where)
        return samples(observations, actions, rewards, dones, self.device, discounts)


class DictReplayBuffer(ReplayBuffer, sb3.DictReplayBuffer):
    """`ReplayBuffer` for dict observations; parameters: see there."""
