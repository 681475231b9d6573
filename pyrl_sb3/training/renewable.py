"""Environments side by side, which can be opened anew."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any

import gymnasium as gym
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from pyrl_sb3.plugins.errors import RAISED
from pyrl_sb3.training.monitors import continued_monitor, new_monitor

Env = gym.Env[Any, Any]
Maker = Callable[[], Env]


class Renewable(VecEnv):
    """
    Environments side by side, which can be opened anew under their monitors.

    `logs` are of the monitors, None for one that writes none. With `continued`, the steps of each
    environment, they are added to.

    Attributes:
        makers: what opens each.
        failure: what one of them has raised in a step, a reset or as it was opened anew.
    """

    failure: BaseException | None = None

    def __init__(
        self,
        makers: Sequence[Maker],
        logs: Sequence[str | None],
        monitor_kwargs: Mapping[str, Any],
        continued: int | None = None,
    ) -> None:
        self.makers = makers
        # The monitor tells evaluations when an episode ends, so it must be outside of whatever
        # may end one; SB3's `make_vec_env` wraps around it.
        monitor = partial(new_monitor, **monitor_kwargs)
        if continued is not None:
            monitor = partial(continued_monitor, steps=continued, **monitor_kwargs)
        self._open([partial(_opened, monitor, *each) for each in zip(makers, logs, strict=True)])

    @abstractmethod
    def _open(self, monitors: Sequence[Callable[[], Monitor]]) -> None:
        """Be SB3's class of environments that these open."""

    @abstractmethod
    def renew(self) -> None:
        """Close the environments and open them again; the next call must be `reset`."""

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note what an environment raises."""
        try:
            yield
        except RAISED as error:
            self.failure = error
            raise


class RenewableVecEnv(Renewable, DummyVecEnv):
    """Those of this process, one after another."""

    def _open(self, monitors: Sequence[Callable[[], Monitor]]) -> None:
        DummyVecEnv.__init__(self, [*monitors])
        # Models draw from it. That of the environments may be one for all of their class, which is
        # seeded whenever one of them is reset from a seed.
        self.action_space = deepcopy(self.action_space)

    def step_wait(self) -> VecEnvStepReturn:
        with self.noting():
            return super().step_wait()

    def reset(self) -> VecEnvObs:
        with self.noting():
            return super().reset()

    def renew(self) -> None:
        with self.noting():
            for monitor, make in zip(self.envs, self.makers, strict=True):
                assert isinstance(monitor, Monitor)
                reopen(monitor, make)


def _opened(monitor: Callable[..., Monitor], make: Maker, log: str | None) -> Monitor:
    return monitor(make(), log)


def reopen(monitor: Monitor, make: Maker) -> None:
    """Close the environment under a monitor, and put a new one there."""
    monitor.env.close()
    monitor.env = make()
