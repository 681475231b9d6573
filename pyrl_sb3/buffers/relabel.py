"""What environments say about goals they were not given."""

import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from pyrl_sb3.buffers.table import Array, Ints

Infos = Sequence[dict[str, Any]]
Rows = tuple[Array, Array, Infos]  # achieved goals, desired goals, infos


class NoInfoError(KeyError):
    """Something was looked for in the info of a step, of which none is kept."""


class NoInfo(dict[str, Any]):
    """The info of a step of which none is kept: empty, and says so where something is looked for.

    :raises NoInfoError: from `info[key]`
    """

    __slots__ = ()
    why = "infos are not stored: set replay_buffer_kwargs.copy_info_dict=true"

    def __missing__(self, key: str) -> Any:
        raise NoInfoError(f"{key!r}: {self.why}")


class NoInfos(list[NoInfo]):
    """Those of several steps. To another process only their number is sent, which is quicker."""

    def __reduce__(self) -> Any:
        return no_infos, (len(self),)


def no_infos(n: int) -> NoInfos:
    """So many of them."""
    return NoInfos(NoInfo() for _ in range(n))


class GoalOracle:
    """Rewards and terminations for any goal, from the environment that owns the transition.

    A method that takes one transition at a time instead of a batch is noticed on its first use and
    then called row by row. Environments in other processes are asked without risk to the process.

    :param same: all environments say the same, so that the first is asked for all rows
    """

    def __init__(self, env: VecEnv, same: bool = False) -> None:
        self.env = env
        self._first = same or env.num_envs == 1
        self._batched: dict[str, bool] = {}
        self._terminates: bool | None = None

    def rewards(self, achieved: Array, desired: Array, infos: Infos, envs: Ints) -> Array:
        """`compute_reward` of each row, shape `(n,)`.

        :raises AttributeError: the environment has no `compute_reward`
        :raises NoInfoError: it looks for what infos have, and none are kept
        :raises ValueError: it does not give one number for each row
        """
        asked = self._ask("compute_reward", achieved, desired, infos, envs)
        return asked.astype(np.float32, copy=False)

    @property
    def translates(self) -> bool:
        """Whether what was achieved becomes a goal only by the environment's `hindsight_goals`."""
        return self.env.has_attr("hindsight_goals")

    def hindsight_goals(self, achieved: Array, later: Array, uniform: Array, envs: Ints) -> Array:
        """Goals for what was achieved `later`, `(n, goal_dim)`.

        :param achieved: what was achieved before the step of each row
        :param uniform: random numbers in `[0, 1)`, one for each row
        """
        goals: Array | None = None
        for index, rows in [(0, slice(None))] if self._first else _by_owner(envs):
            asked = achieved[rows], later[rows], uniform[rows]
            found = self.env.env_method("hindsight_goals", *asked, indices=[index])[0]
            if goals is None:
                goals = np.empty((len(envs), *found.shape[1:]), found.dtype)
            goals[rows] = found
        assert goals is not None
        return goals

    @property
    def describes(self) -> bool:
        """Whether observations have more that depends on the goal: `goal_features` says what."""
        return self.env.has_attr("goal_features")

    def goal_features(self, achieved: Array, desired: Array) -> dict[str, Array]:
        """By key, what observations with these goals have, `(n, ...)`: what agents see is the same
        in all environments, the first is asked.
        """
        features: dict[str, Array]
        features = self.env.env_method("goal_features", achieved, desired, indices=[0])[0]
        return features

    def terminates(self, achieved: Array, infos: Infos, envs: Ints) -> bool:
        """Whether reaching a goal may end an episode; `achieved` are some goals, `(n, goal_dim)`.

        A `compute_terminated` that takes one transition at a time, without infos that it might go
        by, and does not even end on a goal that is exactly reached (the Fetch environments': always
        false) is taken to say nothing.
        """
        if self._terminates is None and len(achieved):
            name, env = "compute_terminated", 0 if self._first else int(envs[0])
            self._terminates = self.env.has_attr(name) and (
                self._takes_batches(name, (achieved, achieved, infos), env)
                or any(infos)
                or bool(self._call(name, (achieved[:1], achieved[:1], [infos[0]]), env))
            )
        return bool(self._terminates)

    def terminated(self, achieved: Array, desired: Array, infos: Infos, envs: Ints) -> Array:
        """`compute_terminated` of each row, shape `(n,)`, bool."""
        return self._ask("compute_terminated", achieved, desired, infos, envs).astype(bool)

    def _ask(self, method: str, achieved: Array, desired: Array, infos: Infos, envs: Ints) -> Array:
        if self._first and len(envs):
            return self._call(method, (achieved, desired, infos), 0)
        owners, kind = list(_by_owner(envs)), NoInfos if isinstance(infos, NoInfos) else list
        parts = [
            (achieved[rows], desired[rows], kind(infos[row] for row in rows.tolist()))
            for _, rows in owners
        ]
        indices = [index for index, _ in owners]
        processes = isinstance(self.env.unwrapped, SubprocVecEnv)
        if parts and processes and self._takes_batches(method, parts[0], indices[0]):
            each = map(_InTurn, zip(*parts, strict=True))
            answers = self.env.env_method(method, *each, indices=indices)
        else:
            answers = [self._call(method, *one) for one in zip(parts, indices, strict=True)]
        out = np.empty(len(envs))
        for (_, rows), answer in zip(owners, answers, strict=True):
            out[rows] = np.reshape(answer, len(rows))
        return out

    def _call(self, method: str, rows: Rows, env: int) -> Array:
        n = len(rows[0])
        if self._takes_batches(method, rows, env):
            return np.asarray(self._one(method, env, *rows)).reshape(n)
        each = [self._one(method, env, *row) for row in zip(*rows, strict=True)]
        if wrong := {np.shape(one) for one in each if np.size(one) != 1}:
            raise ValueError(
                f"{method} gives neither one number for each transition of a batch, nor one for a "
                f"single transition, but arrays of shape {' and '.join(map(str, sorted(wrong)))}"
            ) from self._failure(method, rows, env)
        return np.array(each).reshape(n)

    def _one(self, method: str, env: int, *rows: Any) -> Any:
        """One call: of a batch, or of one transition."""
        return self.env.env_method(method, *rows, indices=[env])[0]

    def _failure(self, method: str, rows: Rows, env: int) -> Exception | None:
        """What it raises for a batch; another process prints that itself."""
        if isinstance(self.env.unwrapped, SubprocVecEnv):
            ask: Any = _Ask(method, rows, aloud=True)
            self.env.env_is_wrapped(ask, indices=[env])
            return None
        try:
            self._one(method, env, *rows)
        except Exception as error:
            return error
        return None

    def _takes_batches(self, method: str, rows: Rows, env: int) -> bool:
        if method not in self._batched:
            achieved, desired, infos = rows
            n = achieved[0].size + 1  # as many rows as no array of one transition has entries
            same = achieved[:1].repeat(n, axis=0), desired[:1].repeat(n, axis=0), [infos[0]] * n
            if isinstance(self.env.unwrapped, SubprocVecEnv):
                self._batched[method] = self._other_process_takes(method, same, env)
            else:
                self._batched[method] = _answers(partial(self._one, method, env), same)
        return self._batched[method]

    def _other_process_takes(self, method: str, rows: Rows, env: int) -> bool:
        if not self.env.env_is_wrapped(gym.Wrapper, indices=[env])[0]:
            warnings.warn(
                f"{method} is called for one transition at a time, which is slow: whether it takes "
                "batches can be tried safely only on an environment in a gymnasium wrapper, such "
                "as stable_baselines3.common.monitor.Monitor",
                stacklevel=2,
            )
            return False
        ask: Any = _Ask(method, rows)
        return self.env.env_is_wrapped(ask, indices=[env])[0]


class _InTurn:
    """What several processes are sent at once: one part to each, since each is sent a pickle."""

    def __init__(self, parts: Iterable[Any]) -> None:
        self._parts = iter(parts)

    def __reduce__(self) -> Any:
        return _as_is, (next(self._parts),)


def _as_is(part: Any) -> Any:
    return part


def _by_owner(envs: Ints) -> Iterator[tuple[int, Ints]]:
    """Each environment, and the rows that are its own."""
    for index in np.unique(envs).tolist():
        yield index, np.flatnonzero(envs == index)


def _answers(method: Callable[..., Any], rows: Rows, aloud: bool = False) -> bool:
    """Whether a method has an answer for each row of a batch.

    :param aloud: print what it raises
    """
    n = len(rows[0])
    try:
        return np.shape(method(*rows)) in ((n,), (n, 1))
    except NoInfoError:
        raise
    except Exception:  # whatever is really wrong shows when it is called row by row
        if aloud:
            traceback.print_exc()
        return False


@dataclass(frozen=True)
class _Ask:
    """What `_answers` says of a method in another process, where an exception would end it all.

    SB3 has no call that is safe. But this can be given for a wrapper class: whether a wrapper is an
    instance of it is then asked in that process.
    """

    method: str
    rows: Rows
    aloud: bool = False

    def __instancecheck__(self, env: Any) -> bool:
        try:
            return _answers(env.get_wrapper_attr(self.method), self.rows, self.aloud)
        except NoInfoError:  # as it says itself where it is called
            return True
