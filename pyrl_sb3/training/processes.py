"""Environments in processes of their own, which step at the same time."""

import atexit
import multiprocessing
import pickle
import signal
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import SubprocVecEnv
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

from pyrl_sb3.plugins.errors import RAISED, named
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.renewable import Maker, Renewable, monitored, reopen
from pyrl_sb3.training.signals import STOPPING

_FAILURE = "pyrl_sb3.failure"


class RenewableSubprocVecEnv(Renewable, SubprocVecEnv):
    """
    As `RenewableVecEnv`, each environment in a fork of this process.

    What an environment raises is raised here, and its process lives on. Signals that stop a
    training are for this process alone; when it is killed, the others end.

    Raises:
        InputError: there are no forks, as on Windows.
    """

    def __init__(
        self,
        makers: Sequence[Maker],
        logs: Sequence[str | None],
        monitor_kwargs: Mapping[str, Any],
        continued: int | None = None,
    ) -> None:
        if "fork" not in multiprocessing.get_all_start_methods():
            raise InputError("--vec-env subproc needs forks, which this system has not; use dummy")
        monitors = monitored(makers, logs, monitor_kwargs, continued)
        forks: list[Maker] = [
            partial(self._begin, index, *each)
            for index, each in enumerate(zip(monitors, makers, strict=True))
        ]
        atexit.register(
            self._end
        )  # else Python asks them to end, which they do not hear, and waits
        try:
            with warnings.catch_warnings(), self._reaching():
                # Of threads at a fork: PyTorch's, which no environment is to find there.
                warnings.simplefilter("ignore", DeprecationWarning)
                super().__init__(forks, start_method="fork")
            _raise_first({_FAILURE: error} for error in self.get_attr("failure") if error)
        except BaseException:
            self._end()
            raise

    def _begin(self, index: int, monitor: Callable[[], Monitor], make: Maker) -> gym.Env[Any, Any]:
        """Open an environment in its process."""
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
        for each in (*self.remotes, *self.work_remotes):
            if each is not self.work_remotes[index]:  # else nobody sees the end of another process
                each.close()
        th.set_num_threads(1)  # of the parent's pool none is here
        try:
            return _InProcess(monitor(), make)
        except RAISED as error:
            return _Unopened(error)

    def step_async(self, actions: Any) -> None:
        with self.noting(), self._reaching():
            super().step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        with self.noting():
            with self._reaching():
                observations, rewards, dones, infos = super().step_wait()
            _raise_first([*infos, *self.reset_infos])
            # Of the same precision as in `DummyVecEnv`, so that the training is the same.
            return self._typed(observations), rewards.astype(np.float32), dones, infos

    def reset(self) -> VecEnvObs:
        with self.noting():
            with self._reaching():
                observations = super().reset()
            _raise_first(self.reset_infos)
            return self._typed(observations)

    def _typed(self, observations: Any) -> VecEnvObs:
        space = self.observation_space
        if isinstance(space, gym.spaces.Dict):
            return {key: np.asarray(observations[key], each.dtype) for key, each in space.items()}
        return np.asarray(observations, space.dtype)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        with self._reaching():
            answers = super().env_method(
                "answer", method_name, *method_args, indices=indices, **kwargs
            )
        _raise_first({_FAILURE: error} for _, error in answers if error)
        return [answer for answer, _ in answers]

    def renew(self) -> None:
        with self.noting():
            self.env_method("renew")

    def close(self) -> None:
        if self.closed:
            return
        try:
            if not self.waiting:  # for a step that was interrupted, or whose process has ended
                with self._reaching():
                    super().close()
        finally:
            self._end()

    def _end(self) -> None:
        processes = getattr(self, "processes", ())
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
        for remote in self.remotes:
            remote.close()
        self.closed = True
        atexit.unregister(self._end)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError) as error:
            for index, process in enumerate(self.processes):
                process.join(0.2)  # it may be about to end
                if (code := process.exitcode) is not None:
                    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
                    raise RuntimeError(f"the process of environment {index} ended {how}") from error
            raise


class _InProcess(gym.Wrapper[Any, Any, Any, Any]):
    """What stands around an environment in its process, where an exception would end that."""

    failure = None

    def __init__(self, monitor: Monitor, make: Maker) -> None:
        super().__init__(monitor)
        self._make = make

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        try:
            return self.env.step(action)
        except RAISED as error:
            return self.observation_space.sample(), 0.0, False, False, {_FAILURE: _Raised(error)}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if seed is not None:  # what draws from global generators is not to do so in all alike
            set_random_seed(seed)
        try:
            return self.env.reset(seed=seed, options=options)
        except RAISED as error:
            return self.observation_space.sample(), {_FAILURE: _Raised(error)}

    def answer(self, method: str, *args: Any, **kwargs: Any) -> tuple[Any, "_Raised | None"]:
        """What a method of the environment gives, and what it raises."""
        try:
            return self.get_wrapper_attr(method)(*args, **kwargs), None
        except RAISED as error:
            return None, _Raised(error)

    def renew(self) -> None:
        assert isinstance(self.env, Monitor)
        reopen(self.env, self._make)


class _Unopened(gym.Env[Any, Any]):
    """In the place of an environment that could not be opened."""

    observation_space = action_space = gym.spaces.Discrete(1)

    def __init__(self, error: BaseException) -> None:
        self.failure = _Raised(error)


class _Raised:
    """What was raised, to be sent to another process: there it is the exception itself."""

    def __init__(self, error: BaseException) -> None:
        self._trace = "".join(traceback.format_exception(error))
        try:
            pickle.loads(pickle.dumps(error))
            self._error = error
        except Exception:  # a class may do anything then
            self._error = RuntimeError(named(error))

    def __reduce__(self) -> Any:
        return _as_raised, (self._error, self._trace)


def _as_raised(error: BaseException, trace: str) -> BaseException:
    error.__cause__ = RuntimeError(f"in the environment's process:\n{trace}")
    return error


def _raise_first(infos: Iterable[Mapping[str, Any]]) -> None:
    for info in infos:
        if _FAILURE in info:
            raise info[_FAILURE]
