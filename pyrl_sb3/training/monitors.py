"""Monitors of training environments: what they write, also of runs that go on."""

import json
import re
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
from stable_baselines3.common.monitor import Monitor

from pyrl_sb3.training.errors import InputError

STEPS = "env_steps"
_NAME = re.compile(rf"\d+\.{re.escape(Monitor.EXT)}")

Env = gym.Env[Any, Any]


class NamedMonitor(Monitor):
    """SB3's monitor; what it is to log and infos lack is named as the setting it comes from."""

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step; raise InputError where an episode ends without something that is to be logged."""
        try:
            return super().step(action)
        except KeyError as error:
            if not self.needs_reset or error.args[0] not in self.info_keywords:
                raise
            raise InputError(
                f"monitor_kwargs.info_keywords: the episode ended without {error} in its info"
            ) from error


class StepsMonitor(NamedMonitor):
    """
    The monitor with the environment's steps at the end of each episode in a column more.

    The lengths of episodes do not add up to them: checkpoints cut episodes that are running, and
    only those that end have a row.
    """

    def __init__(self, env: Env, filename: str, **kwargs: Any) -> None:
        given = tuple(kwargs.pop("info_keywords", ()))
        super().__init__(env, filename, info_keywords=(*given, STEPS), **kwargs)
        self.info_keywords = given  # of what `step` finds in infos; the column is there by now

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step; SB3 adds what is said of the current episode to its row."""
        self.current_reset_info[STEPS] = self.total_steps + 1
        return super().step(action)


def monitor_files(run: Path) -> list[Path]:
    """Return the logs of a run's environments, `<number>.monitor.csv`; others there are not its."""
    return sorted(path for path in run.glob(f"*.{Monitor.EXT}") if _NAME.fullmatch(path.name))


def new_monitor(env: Env, log: str | None, **kwargs: Any) -> Monitor:
    """Return a monitor, which writes a log if it is told where."""
    if log is None or STEPS in kwargs.get("info_keywords", ()):
        return NamedMonitor(env, log, **kwargs)
    return StepsMonitor(env, log, **kwargs)


def continued_monitor(env: Env, log: str | None, steps: int, **kwargs: Any) -> Monitor:
    """Return a monitor that adds to a log, on the same clock, after so many steps."""
    file = Path(f"{log}.{Monitor.EXT}")
    if log is None or not file.is_file():
        monitor = new_monitor(env, log, **kwargs)
        monitor.total_steps = steps
        return monitor
    with file.open(encoding="utf-8") as lines:
        start = json.loads(lines.readline().lstrip("#"))["t_start"]
        columns = lines.readline().strip().split(",")
    # Logs that were begun without the column go on without.
    make = new_monitor if STEPS in columns else NamedMonitor
    monitor = make(env, log, **{**kwargs, "override_existing": False})
    monitor.t_start, monitor.total_steps = start, steps
    return monitor
