"""An engine of pyrl-sb3 (`pyrl_sb3.training.engines.Engine`) on Ray."""

import os
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from pyrl_sb3.training.engines import Job, LocalProcess

LOST = -signal.SIGKILL  # what became of a job whose machine has gone


class Keeper:
    """Lives where Ray has room for the job, and keeps its process."""

    def __init__(self, job: Job, folder: str) -> None:
        os.chdir(folder)  # paths of the job are as in the process that has started it
        # Ray blocks SIGINT in its workers, and their children would inherit that.
        blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        self._process = LocalProcess(job)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def poll(self) -> int | None:
        """Return the exit code of the process, or None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask the process to save and end."""
        self._process.stop()


class RayProcess:
    """A job on the cluster; it begins when there is room for it."""

    def __init__(self, job: Job) -> None:
        job = replace(job, log=job.log.absolute())
        keeper = ray.remote(num_cpus=job.threads)(Keeper)
        self._keeper: Any = keeper.remote(job, str(Path.cwd()))
        self._answer = self._keeper.poll.remote()
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs; as if killed if its machine was lost."""
        if self._code is None and ray.wait([self._answer], timeout=0)[0]:
            try:
                self._code = ray.get(self._answer)
            except RayError:
                self._code = LOST
            if self._code is None:
                self._answer = self._keeper.poll.remote()
            else:
                ray.kill(self._keeper)
        return self._code

    def stop(self) -> None:
        """Ask it to save and end, as Ctrl-C does."""
        with suppress(RayError):
            self._keeper.stop.remote()


class Ray:
    """
    The cluster that `RAY_ADDRESS` names or that this machine is part of; else a Ray of its own,
    which ends with the engine.

    Files of the jobs have to be in a folder that all machines share.
    """

    def __init__(self) -> None:
        # Else Ray kills the processes when the command is killed, before they can save.
        os.environ.setdefault("RAY_kill_child_processes_on_worker_exit", "0")
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    def cores(self) -> int:
        """Return the processors of the cluster."""
        return int(ray.cluster_resources().get("CPU", 0))

    def address(self) -> str:
        """Return the address of this machine in the cluster."""
        return str(ray.util.get_node_ip_address())

    def start(self, job: Job) -> RayProcess:
        """Start a job as soon as there is room for it."""
        return RayProcess(job)

    def close(self) -> None:
        """Leave the cluster; nothing runs any more."""
        ray.shutdown()
