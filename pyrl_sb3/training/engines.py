"""What runs the processes of several seeds: here, those of this machine; plugins add engines."""

import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from pyrl_sb3.config import ConfigError
from pyrl_sb3.config.components import check_path
from pyrl_sb3.errors import short
from pyrl_sb3.plugins import get_plugin_manager
from pyrl_sb3.training.errors import InputError, made_by
from pyrl_sb3.training.forks import ForkServer
from pyrl_sb3.training.orphans import bound_to_this_process
from pyrl_sb3.training.threads import available_cores

PROCESSES = "processes"


@dataclass(frozen=True, kw_only=True)
class Job:
    """
    One process: `python -m pyrl_sb3 ARGUMENTS`.

    Attributes:
        name: for messages.
        arguments: after `pyrl`.
        log: the file that gets what it prints; added to where it is there.
        threads: that it is to use.
        environ: variables set besides those of this process.
    """

    name: str
    arguments: tuple[str, ...]
    log: Path
    threads: int = 1
    environ: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Return the variables that make the process keep to its threads, and its own."""
        return {"OMP_NUM_THREADS": str(self.threads), "PYTHONUNBUFFERED": "1", **self.environ}


class Process(Protocol):
    """A job that was started."""

    def poll(self) -> int | None:
        """
        Return its exit code, or None while it runs; -N if signal N ended it.

        One that was lost, with its machine perhaps, was killed (-9): its end says nothing against
        another start.
        """

    def stop(self) -> None:
        """Ask it to save and end, as Ctrl-C does."""


class Engine(Protocol):
    """What runs jobs. Job and log files are in a folder that all of its machines share."""

    def cores(self) -> int:
        """Return how many threads may run at a time, over all of its machines."""

    def address(self) -> str:
        """Return the address of this machine at which all of its machines reach it."""

    def start(self, job: Job) -> Process:
        """Start a job without waiting for it."""

    def close(self) -> None:
        """Let go of what the engine holds; nothing runs any more."""


class LocalProcess:
    """A process of this machine, in a session of its own: Ctrl-C reaches it through `stop` only."""

    def __init__(self, job: Job) -> None:
        with job.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pyrl_sb3", *job.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **job.environment(), **bound_to_this_process()},
                start_new_session=True,
            )

    def poll(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)


class LocalProcesses:
    """Runs jobs as processes of this machine; on Linux, forks of one that has imported all."""

    def __init__(self) -> None:
        # macOS has libraries that do not survive a fork, Windows has no forks.
        self._forks = ForkServer() if sys.platform == "linux" else None

    def cores(self) -> int:
        """Return the cores that this process may use."""
        return available_cores()

    def address(self) -> str:
        """Return the address at which this machine reaches itself."""
        return "127.0.0.1"

    def start(self, job: Job) -> Process:
        if self._forks is None:
            return LocalProcess(job)
        return self._forks.start(job.arguments, job.log, job.environment())

    def close(self) -> None:
        """End what forks the jobs."""
        if self._forks is not None:
            self._forks.close()


def engine(name: str) -> Engine:
    """
    Return an engine.

    Raises:
        PluginError: there is none of that name, or it cannot be imported.
        InputError: it cannot be made, or what is made is none; later, whatever it raises.
    """
    what = f"engine {name}"
    made: Engine = made_by(get_plugin_manager().load("engine", name), what)
    if lacks := lacking(made):
        raise InputError(f"{what}: {type(made).__name__} has no {', '.join(lacks)}")
    return _Named(made, what)


class _Named:
    """An engine, perhaps a stranger's: what it raises is an InputError that names it."""

    def __init__(self, engine: Engine, what: str) -> None:
        self._engine, self._what = engine, what

    def cores(self) -> int:
        return made_by(self._engine.cores, self._what)

    def address(self) -> str:
        return made_by(self._engine.address, self._what)

    def start(self, job: Job) -> Process:
        return made_by(partial(self._engine.start, job), self._what)

    def close(self) -> None:
        made_by(self._engine.close, self._what)


def lacking(engine: object) -> list[str]:
    """Return the methods of `Engine` that an object, or the objects of a class, do not have."""
    methods = sorted(name for name in vars(Engine) if not name.startswith("_"))
    return [name for name in methods if not callable(getattr(engine, name, None))]


def check_noted(name: str, *, trust: bool) -> None:
    """
    Check an engine that a file names, and nobody on the command line; by its name or the path of
    its class, which with `trust` may be of any package.

    Raises:
        ConfigError, PluginError: a path that may not be followed, or leads to no engine.
    """
    check_path("engine", name, trust=trust)
    if ":" in name and not trust:
        target = get_plugin_manager().load("engine", name)
        if not inspect.isclass(target) or lacking(target):
            raise ConfigError(f"engine {short(name)} is none; pass --trust if you trust it")
