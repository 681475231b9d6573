"""Environments in processes of their own, which step at the same time."""

import atexit
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
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
from pyrl_sb3.training.orphans import wait_for_end_of
from pyrl_sb3.training.renewable import Maker, Renewable, reopen
from pyrl_sb3.training.signals import STOPPING, end_by_default

_FAILURE = "pyrl_sb3.failure"


class RenewableSubprocVecEnv(Renewable, SubprocVecEnv):
    """
    As `RenewableVecEnv`, each environment in a fork of this process.

    What an environment raises is raised here, and its process lives on. Signals that stop a
    training are for this process alone; when it is killed, the others end.

    Raises:
        InputError: there are no forks, as on Windows.
    """

    _asking = False  # or an answer has not come

    def _open(self, monitors: Sequence[Callable[[], Monitor]]) -> None:
        if "fork" not in multiprocessing.get_all_start_methods():
            raise InputError("--vec-env subproc needs forks, which this system has not; use dummy")
        forks: list[Maker] = [
            partial(self._begin, os.getpid(), index, *each)
            for index, each in enumerate(zip(monitors, self.makers, strict=True))
        ]
        # Else Python asks them to end, which they do not hear, and waits.
        atexit.register(self._end)
        try:
            with warnings.catch_warnings(), self._reaching():
                # Of threads at a fork: PyTorch's, which no environment is to find there.
                warnings.simplefilter("ignore", DeprecationWarning)
                SubprocVecEnv.__init__(self, forks, start_method="fork")
            _raise_first(self.get_attr("failure"))
        except BaseException:
            self._end()
            raise

    def _begin(
        self, training: int, index: int, monitor: Callable[[], Monitor], make: Maker
    ) -> gym.Env[Any, Any]:
        """Open an environment in its process, that of a training."""
        multiprocessing.current_process().daemon = False  # it may have processes of its own
        for number in STOPPING:
            signal.signal(number, partial(_not_heard, os.getpid()))
        threading.Thread(target=_end_with, args=(training,), daemon=True).start()
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
            _raise_first(info.get(_FAILURE) for info in (*infos, *self.reset_infos))
            rewards = _stored(rewards, (), np.float32)
            return self._typed(observations), rewards, dones, infos

    def reset(self) -> VecEnvObs:
        with self.noting():
            with self._reaching():
                observations = super().reset()
            _raise_first(info.get(_FAILURE) for info in self.reset_infos)
            return self._typed(observations)

    def _typed(self, observations: Any) -> VecEnvObs:
        space = self.observation_space
        if isinstance(space, gym.spaces.Dict):
            return {k: _stored(observations[k], v.shape, v.dtype) for k, v in space.items()}
        return _stored(observations, space.shape, space.dtype)

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        with self._reaching():
            return super().env_is_wrapped(wrapper_class, indices)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        with self._reaching():
            answers = super().env_method(
                "answer", method_name, *method_args, indices=indices, **kwargs
            )
        _raise_first(error for _, error in answers)
        return [answer for answer, _ in answers]

    def renew(self) -> None:
        with self.noting():
            self.env_method("renew")

    def close(self) -> None:
        if self.closed:
            return
        try:
            # Else something was interrupted, or has ended a process: no answer may come any more.
            if not (self.waiting or self._asking):
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
        for remote in getattr(self, "remotes", ()):
            remote.close()
        self.closed = True
        atexit.unregister(self._end)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        self._asking = True
        try:
            yield
            self._asking = False
        except (EOFError, ConnectionError) as error:
            # What could not be sent is held there in memory that Python before 3.12.3 crashes over
            # when it collects a loop of references to it (python/cpython#77894).
            traceback.clear_frames(error.__traceback__)
            for index, process in enumerate(self.processes):
                process.join(0.2)  # it may be about to end
                if (code := process.exitcode) is not None:
                    how = f"with code {code}; what it said is above"
                    if code < 0:
                        how = f"by {signal.Signals(-code).name}"
                    raise RuntimeError(f"the process of environment {index} ended {how}") from error
            raise


def _not_heard(here: int, number: int, frame: Any) -> None:
    """Do nothing; forks of this process end but by Ctrl-C. Programs that it starts have handlers of
    their own.
    """
    if os.getpid() != here and number != signal.SIGINT:
        end_by_default(number)


def _end_with(training: int) -> None:
    # Pipes do not tell of its end as long as a fork of any environment has them too.
    wait_for_end_of(training)
    os._exit(1)  # it may be in the midst of a step, which may have no end


def _stored(rows: Any, shape: tuple[int, ...] | None, dtype: Any) -> Any:
    """Rows as `DummyVecEnv` stores them, in shape and precision: the training is to be the same."""
    stored = np.empty((len(rows), *(shape or ())), dtype)
    for index, row in enumerate(rows):
        stored[index] = row
    return stored


class _InProcess(gym.Wrapper[Any, Any, Any, Any]):
    """What stands around an environment in its process, where an exception would end that."""

    failure = None

    def __init__(self, monitor: Monitor, make: Maker) -> None:
        super().__init__(monitor)
        self._make = make

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
            return observation, reward, bool(terminated), bool(truncated), info
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
        self._error: BaseException = RuntimeError(named(error))
        with suppress(*RAISED):  # a class may do anything then
            if isinstance(pickle.loads(pickle.dumps(error)), type(error)):
                self._error = error

    def __reduce__(self) -> Any:
        return _as_raised, (self._error, self._trace)


def _as_raised(error: BaseException, trace: str) -> BaseException:
    error.__cause__ = RuntimeError(f"in the environment's process:\n{trace}")
    return error


def _raise_first(errors: Iterable[BaseException | None]) -> None:
    for error in errors:
        if error is not None:
            raise error
