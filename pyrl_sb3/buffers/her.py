"""Hindsight experience replay."""

import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import NormalizeReward
from stable_baselines3 import her as sb3
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecFrameStack,
    VecNormalize,
    unwrap_vec_normalize,
    unwrap_vec_wrapper,
)
from stable_baselines3.her.goal_selection_strategy import KEY_TO_GOAL_STRATEGY

from pyrl_sb3.buffers.batches import put_goals
from pyrl_sb3.buffers.columns import Where
from pyrl_sb3.buffers.fields import check_same_spaces
from pyrl_sb3.buffers.goal_mix import choose, shares
from pyrl_sb3.buffers.relabel import GoalOracle, NoInfos, no_infos
from pyrl_sb3.buffers.replay import ReplayBuffer
from pyrl_sb3.buffers.returns import Segment, one_step, segment_from
from pyrl_sb3.buffers.table import Array, Ints
from pyrl_sb3.buffers.tap import keep_raw_terminals


class HerReplayBuffer(ReplayBuffer, sb3.HerReplayBuffer):
    """Hindsight experience replay (Andrychowicz et al. 2017, https://arxiv.org/abs/1707.01495) on
    episodes stored once: about a quarter of SB3's memory, and sampling that does not slow down.

    Deviations from SB3, besides those of `ReplayBuffer`:

    - Transitions of unfinished episodes are sampled and relabelled within what has been seen.
    - The oldest episode stays in use while it is being overwritten.
    - The environment that owns a transition computes its reward, not the first one.
    - Whether a relabelled step ended its episode is asked of `compute_terminated` where the
      environment has it; an end that the reached goal did not cause stays an end.
    - `compute_reward` may take a single transition instead of a batch.
    - `set_env` may be called again, and happens by itself when batches are normalised by another
      VecNormalize.
    - Stored info dicts are copied without their terminal observations.
    - An environment may say by `hindsight_goals` what is to be the goal for something achieved, and
      its goals are then sub-goals, which may change during an episode: each transition has its
      own. By `goal_features` it says what else in an observation depends on the goal (docs:
      "Goals and hindsight").

    Other parameters: see `stable_baselines3.HerReplayBuffer`.

    :param goal_mix: weights of "real", "future", "final" and "episode" goals in a batch, instead of
        `n_sampled_goal` and `goal_selection_strategy`
    :param same_rewards: all environments compute the same rewards for the same goals, and the same
        ends and sub-goals, so that the first one may be asked for all transitions, as SB3 does:
        quicker with many environments, and most of all in other processes

    :raises ValueError: an unknown strategy, or observations without the three goal keys
    """

    once = ("desired_goal",)

    def __init__(
        self,
        *args: Any,
        goal_mix: Mapping[str, float] | None = None,
        same_rewards: bool = False,
        **kwargs: Any,
    ) -> None:
        strategy = kwargs.get("goal_selection_strategy", "future")
        if isinstance(strategy, str) and strategy.lower() not in KEY_TO_GOAL_STRATEGY:
            raise ValueError(
                f"unknown goal_selection_strategy {strategy!r}: choose {list(KEY_TO_GOAL_STRATEGY)}"
            )
        super().__init__(*args, **kwargs)
        missing = {"observation", "achieved_goal", "desired_goal"} - set(self._fields)
        if missing:
            raise ValueError(
                f"HerReplayBuffer needs an observation key {min(missing)!r}: "
                f"the environment has {sorted(self._fields)}"
            )
        for name in ("infos", "ep_start", "ep_length", "_current_ep_start"):
            del self.__dict__[name]
        self._goal_dtype = self.observation_space["desired_goal"].dtype
        self._mix = {self.goal_selection_strategy.name.lower(): 1.0}
        if goal_mix is not None:
            self.her_ratio, self._mix = shares(goal_mix)
        self._same_rewards = same_rewards
        self._blank = NoInfos()  # made once: garbage collection notices dicts
        self._oracle: GoalOracle | None = None
        self._sub_goals = self._features = False
        self._normalize: VecNormalize | None = None
        env, self.env = self.env, None
        if env is not None:
            self.set_env(env)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the environment."""
        return {**self.__dict__, "env": None, "_oracle": None, "_normalize": None}

    def set_env(self, env: VecEnv) -> None:
        """Take rewards and terminations for new goals from this environment from now on.

        With another number of environments the stored episodes are dealt out anew.

        :raises ValueError: its observations are not those stored; names the key
        """
        check_same_spaces(self.observation_space, env.observation_space)
        if env.num_envs != self.n_envs:
            self.change_n_envs(env.num_envs)
        self.ask(env)

    def ask(self, env: VecEnv) -> None:
        """As `set_env`, and leave all episodes where they are, whatever the number of environments.

        :param env: with observations like those stored
        """
        self.env = env
        self._oracle = GoalOracle(env, self._same_rewards)
        self._sub_goals, self._features = self._oracle.translates, self._oracle.describes
        self._normalize = unwrap_vec_normalize(env)
        keep_raw_terminals(env)
        _warn_of_stacked_goals(env)
        _warn_of_changed_rewards(env)

    def forget_answers(self) -> None:
        """Find out anew what the environment's methods take, which calls them: after a checkpoint
        a training that went on then calls them as often as one that is resumed.
        """
        if self.env is not None:
            self._oracle = GoalOracle(self.env, self._same_rewards)

    def _meet(self, env: VecNormalize) -> None:
        super()._meet(env)
        if self._is_another(env):
            self.set_env(env)

    def _is_another(self, env: VecNormalize) -> bool:
        """Whether the model has been given this environment since `set_env`."""
        return env is not self._normalize and env.venv is not None

    def sample_at(self, positions: Ints, envs: Ints, env: VecNormalize | None = None) -> Any:
        """As in `ReplayBuffer`; the last `int(her_ratio * batch)` rows get new goals."""
        if env is not None and self._is_another(env):
            if env.num_envs != self.n_envs:
                raise ValueError(f"positions of {self.n_envs} environments, not of {env.num_envs}")
            self.set_env(env)
        store, n = self.store, len(positions)
        n_new = n if self._sub_goals else n - self._kept(n)
        if not n_new:
            return super().sample_at(positions, envs, env)
        where = store.locate(positions, envs)
        new = slice(n - n_new, None)
        some = where.part(new)
        chosen = self._choose(some)
        if self.n_steps > 1:
            goals = self._goals(some, chosen)
            segment = segment_from(store, where, self.n_steps, self._final)
            self._relabel_segment(some, Segment(*[field[new] for field in segment]), goals)
            return self._folded(where, segment, env, goals)
        rewards, dones = one_step(store, where, self._final)
        both, achieved = store.read_both_and(where, positions, "achieved_goal", chosen)
        if self._sub_goals:
            goals = self._translated(some, both["desired_goal"], achieved)
            two = achieved[n : 2 * n].astype(self._goal_dtype), goals.astype(self._goal_dtype)
        else:
            goals = achieved[2 * n :]
            # What was achieved and what is desired now lie side by side.
            asked = achieved[2 * n - n_new :].astype(self._goal_dtype)
            two = asked[:n_new], asked[n_new:]
        put_goals(both, goals)
        self._relabel(some, some.positions, *two, rewards[new], dones[new])
        return self._batch(where, both, rewards, dones, env)

    @property
    def _asked(self) -> GoalOracle:
        if self._oracle is None:
            raise RuntimeError(
                "the buffer has no environment to compute rewards for new goals: call set_env(env)"
            )
        return self._oracle

    def _batch(self, where: Where, both: dict[str, Array], *args: Any) -> Any:
        if self._features:
            features = self._asked.goal_features(both["achieved_goal"], both["desired_goal"])
            for key, values in features.items():
                both[key][:] = values
        return super()._batch(where, both, *args)

    def _goals(self, where: Where, chosen: Ints) -> Array:
        """Goals of these transitions, for what was achieved by the steps at `chosen`."""
        if not self._sub_goals:
            return self.store.read_next("achieved_goal", chosen, where)
        both, achieved = self.store.read_both_and(where, where.positions, "achieved_goal", chosen)
        return self._translated(where, both["desired_goal"], achieved)

    def _translated(self, where: Where, desired: Array, achieved: Array) -> Array:
        """What the environment makes goals of; the first rows keep theirs. See `read_both_and`."""
        n = len(where.positions)
        before, later = achieved[:n].astype(self._goal_dtype), achieved[2 * n :]
        later = later.astype(self._goal_dtype)
        goals = self._asked.hindsight_goals(before, later, self.rng.random(n), where.envs)
        kept = self._kept(n)
        goals[:kept] = desired[:kept]
        return goals

    def _kept(self, n: int) -> int:
        """How many of so many rows, the first, keep their real goals."""
        return n - int(self.her_ratio * n)

    def _choose(self, where: Where) -> Ints:
        """Positions of the steps whose achieved goals are the new goals."""
        # With sub-goals `where` has all rows of the batch, otherwise those with new goals.
        kept = self._kept(len(where.positions)) if self._sub_goals else 0
        return choose(self._mix, where, self.store, self.rng, kept)

    def _relabel_segment(self, where: Where, segment: Segment, goals: Array) -> None:
        at = np.nonzero(segment.valid)
        where, steps = where.part(at[0]), segment.positions[at]
        achieved = self.store.read_next("achieved_goal", steps, where).astype(self._goal_dtype)
        desired = goals[at[0]].astype(self._goal_dtype)
        rewards, dones = segment.rewards[at], segment.dones[at]
        self._relabel(where, steps, achieved, desired, rewards, dones)
        segment.rewards[at], segment.dones[at] = rewards, dones

    def _relabel(
        self, where: Where, steps: Ints, achieved: Array, goals: Array, rewards: Array, dones: Array
    ) -> None:
        """Write what `goals` would have given into `rewards` and `dones`.

        :param steps: positions in the episodes of `where`; all arrays have as many entries
        :param achieved: goals achieved by these steps; like `goals` in the environment's dtype
        """
        infos, envs = self._infos_at(steps, where), where.envs
        rewards[:] = self._asked.rewards(achieved, goals, infos, envs)
        if not self._asked.terminates(achieved, infos, envs):
            return
        # An end that the real goal did not cause (a fall, say) would have come with any goal.
        # The observation after the step may show the next goal already.
        real = self.store.read_before("desired_goal", steps, where).astype(self._goal_dtype)
        dones[dones] = ~self._asked.terminated(
            achieved[dones],
            real[dones],
            [info for info, done in zip(infos, dones, strict=True) if done],
            envs[dones],
        )
        dones |= self._asked.terminated(achieved, goals, infos, envs)

    def _infos_at(self, positions: Ints, where: Where) -> Sequence[dict[str, Any]]:
        if not self._infos:
            if len(self._blank) < len(positions) or any(self._blank):
                self._blank = no_infos(len(positions))
            return NoInfos(self._blank[: len(positions)])
        slots = (positions % self.buffer_size).tolist()
        infos = [self._infos[slot][e] for slot, e in zip(slots, where.envs.tolist(), strict=True)]
        return deepcopy(infos)  # the reward function may write into what it is given


def _warn_of_stacked_goals(env: VecEnv) -> None:
    stack = unwrap_vec_wrapper(env, VecFrameStack)
    if not isinstance(stack, VecFrameStack):
        return
    whole, frame = (each.observation_space["desired_goal"].shape for each in (stack, stack.venv))  # type: ignore[index]
    if whole != frame:
        warnings.warn(
            f"VecFrameStack stacks goals too, {frame} to {whole}: compute_reward is given whole "
            "stacks, and few environments know them; stack observations inside of the environment",
            stacklevel=3,
        )


def _warn_of_changed_rewards(env: VecEnv) -> None:
    each = next(iter(getattr(env.unwrapped, "envs", ())), None)  # unless in another process
    while isinstance(each, gym.Wrapper) and not hasattr(type(each), "compute_reward"):
        if isinstance(each, (gym.RewardWrapper, NormalizeReward)):
            name = type(each).__name__
            warnings.warn(
                f"{name} changes rewards, and compute_reward, for new goals, gives them unchanged: "
                "change both by a wrapper with a compute_reward of its own, or leave it out",
                stacklevel=3,
            )
        each = each.env
