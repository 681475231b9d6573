"""Recorded episodes to learn from: checked, and put into replay buffers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import Any

import numpy as np
from gymnasium import spaces

from pyrl_sb3.buffers.fields import WHOLE, by_key
from pyrl_sb3.buffers.relabel import NoInfo
from pyrl_sb3.buffers.replay import ReplayBuffer
from pyrl_sb3.buffers.table import Array

# (achieved goals, desired goals, infos) -> rewards, all ``(steps, ...)``
Reward = Callable[[Array, Array, Sequence[dict[str, Any]]], Array]


class DemonstrationError(ValueError):
    """Demonstrations that cannot be used; the message names the file, the episode, the field."""


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Make whatever damaged or strange data comes to a DemonstrationError about `what`."""
    try:
        yield
    except DemonstrationError:
        raise
    except Exception as error:
        line = " ".join(str(error).split()) or type(error).__name__
        raise DemonstrationError(f"{what}: {line}") from error


@dataclass(frozen=True, kw_only=True)
class Episode:
    """
    One demonstrated episode of T steps.

    :param observations: by key, ``(T + 1, ...)``; observations that are no dict under
        ``"observation"``
    :param actions: ``(T, action_dim)``, in the units of the environment
    :param rewards: ``(T,)``; None where a goal decides them
    :param terminated: the episode was over at its end, and did not merely run out of time
    :param success: whether it was one, where that is known
    :param infos: ``T`` of them, or none
    """

    observations: Mapping[str, Array]
    actions: Array
    rewards: Array | None = None
    terminated: bool = False
    success: bool | None = None
    infos: Sequence[dict[str, Any]] = ()

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """
    Episodes, and where they are from.

    :param episodes: at least one
    :param source: the file or data set, for errors
    :param env_id: of the environment they were recorded in, where that is known
    :param names: what the file calls ``observations`` and ``actions``, for errors
    """

    episodes: Sequence[Episode]
    source: str
    env_id: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.episodes)

    @property
    def n_steps(self) -> int:
        """Steps in all episodes together."""
        return sum(len(episode) for episode in self.episodes)

    def check(
        self, observations: spaces.Space[Any], actions: spaces.Box, env_id: str | None = None
    ) -> None:
        """
        Check that they could be of this environment.

        :raises DemonstrationError: they could not, or no episode is there
        """
        if env_id and self.env_id and _family(env_id) != _family(self.env_id):
            raise DemonstrationError(f"{self.source}: recorded in {self.env_id}, not in {env_id}")
        if not self.episodes:
            raise DemonstrationError(f"{self.source}: holds no episode")
        for number, episode in enumerate(self.episodes):
            for name, problem in _problems(episode, by_key(observations), actions):
                name = self.names.get(name, name)
                raise DemonstrationError(f"{self.source}: episode {number}: {name}: {problem}")

    def check_rewards(self, *, has_goal: bool) -> None:
        """
        Check that each episode has rewards, or goals that decide them.

        :raises DemonstrationError: one has neither
        """
        for number, episode in enumerate(self.episodes):
            goals = has_goal and {"achieved_goal", "desired_goal"} <= episode.observations.keys()
            if episode.rewards is None and not goals:
                raise DemonstrationError(
                    f"{self.source}: episode {number}: rewards: missing, and the environment has "
                    "no goal to compute them from"
                )

    def with_rewards(self, reward: Reward | None) -> "Demonstrations":
        """
        The same with the rewards that the goals decide, where there are none.

        :param reward: None where there is no goal
        :raises DemonstrationError: there are no rewards and no goals
        """
        self.check_rewards(has_goal=reward is not None)
        if reward is None:
            return self
        episodes = [
            episode if episode.rewards is not None else _rewarded(episode, reward)
            for episode in self.episodes
        ]
        return replace(self, episodes=episodes)

    def fill(self, buffer: ReplayBuffer) -> None:
        """
        Add all transitions, with actions scaled to [-1, 1], to a buffer for one environment.

        They must have been checked, and have rewards.
        """
        space = buffer.action_space
        assert isinstance(space, spaces.Box)
        for episode in self.episodes:
            assert episode.rewards is not None
            scaled = 2 * ((episode.actions - space.low) / (space.high - space.low)) - 1
            last = len(episode) - 1
            for step, action in enumerate(scaled.astype(np.float32)):
                now, then = (
                    {key: values[at : at + 1] for key, values in episode.observations.items()}
                    for at in (step, step + 1)
                )
                info = {**(episode.infos[step] if episode.infos else {})}
                info["TimeLimit.truncated"] = step == last and not episode.terminated
                buffer.add(
                    now if buffer.keyed else now[WHOLE],
                    then if buffer.keyed else then[WHOLE],
                    action[None],
                    episode.rewards[step : step + 1],
                    np.array([step == last]),
                    [info],
                )


class _NoInfo(NoInfo):
    why = "these demonstrations have no infos, nor rewards"


def _rewarded(episode: Episode, reward: Reward) -> Episode:
    achieved, desired = (episode.observations[k] for k in ("achieved_goal", "desired_goal"))
    infos = episode.infos or [_NoInfo() for _ in episode.actions]
    return replace(episode, rewards=reward(achieved[1:], desired[1:], infos))


def _family(env_id: str) -> str:
    """The id without its version."""
    return env_id.rpartition("-v")[0] or env_id


def _problems(
    episode: Episode, keyed: Mapping[str, spaces.Space[Any]], actions: spaces.Box
) -> Iterator[tuple[str, str]]:
    """Fields and what is wrong with them; whoever goes on after the first may meet nonsense."""
    yield from _other_types(episode)
    if not np.size(episode.actions):
        yield "actions", "empty"
    if episode.actions.ndim < 1:
        yield "actions", "must be one for each step"
    steps = len(episode.actions)
    for key in sorted(set(keyed) ^ set(episode.observations)):
        there = "missing" if key in keyed else "unknown to the environment"
        yield "observations", f"key {key!r} is {there}; it has {', '.join(sorted(keyed))}"
    for key, space in keyed.items():
        values = episode.observations[key]
        of = f" of {key!r}" if len(keyed) > 1 else ""
        if values.ndim < 1 or len(values) != steps + 1:
            count = len(values) if values.ndim else 1
            yield "observations", f"{count}{of} for {steps} actions, there must be {steps + 1}"
        elif values.shape[1:] != space.shape:
            shapes = f"shape {values.shape[1:]}{of}, the environment has {space.shape}"
            yield "observations", shapes
        elif problem := _value_problem(values, of):
            yield "observations", problem
    if problem := _action_problem(episode.actions, actions):
        yield "actions", problem
    rewards = episode.rewards
    if rewards is not None and rewards.shape != (steps,):
        yield "rewards", f"shape {rewards.shape}, there must be one for each of {steps} steps"
    elif rewards is not None and (problem := _value_problem(rewards)):
        yield "rewards", problem
    if episode.infos and len(episode.infos) != steps:
        yield "infos", f"{len(episode.infos)} for {steps} actions"


def _other_types(episode: Episode) -> Iterator[tuple[str, str]]:
    """Fields that are no arrays, and what they are."""
    if not isinstance(episode, Episode):
        yield "episodes", f"must be an Episode, not {type(episode).__name__}"
    if not isinstance(episode.infos, (Sequence, NoneType)):
        yield "infos", f"must be one for each step, not {type(episode.infos).__name__}"
    seen = episode.observations
    if not isinstance(seen, Mapping):
        yield "observations", f"must be arrays by key, not {type(seen).__name__}"
    rewards = {} if episode.rewards is None else {"rewards": episode.rewards}
    for name, values in {"actions": episode.actions, **rewards}.items():
        if not isinstance(values, np.ndarray):
            yield name, f"must be an array, not {type(values).__name__}"
    for key, values in seen.items():
        if not isinstance(values, np.ndarray):
            yield "observations", f"{key!r} must be an array, not {type(values).__name__}"


def _value_problem(values: Array, of: str = "") -> str | None:
    """What is wrong with numbers; `of` says whose they are."""
    if values.dtype.kind not in "biuf":
        return f"must be numbers{of}, not {values.dtype}"
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            finite = np.isfinite(values.astype(np.float32))  # as they will be stored
        if not finite.all():
            at = np.flatnonzero(~finite.reshape(len(values), -1).all(axis=1))[0]
            return f"not finite{of} at step {at}"
    return None


def _action_problem(values: Array, space: spaces.Box) -> str | None:
    if values.shape[1:] != space.shape:
        return f"shape {values.shape[1:]}, the environment has {space.shape}"
    if problem := _value_problem(values):
        return problem
    slack = 1e-5 * (space.high - space.low)  # for bounds that were rounded
    outside = (values < space.low - slack) | (values > space.high + slack)
    if outside.any():
        at = np.unravel_index(int(np.argmax(outside)), outside.shape)
        bounds = f"[{space.low[at[1:]]:g}, {space.high[at[1:]]:g}]"
        return f"{values[at]:g} at step {at[0]} is outside the bounds {bounds}"
    return None
