"""Running jobs, some at a time, and watching them; the failure of one leaves the others alone."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from pyrl_sb3.training.engines import Engine, Job, Process
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.signals import STOPPING, StopSignals

_POLL = 0.2  # seconds


class State(Enum):
    """What a job is at."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass
class Task:
    """
    A job and what has become of it.

    Attributes:
        job: to run.
        state: that it is in.
        code: its exit code, once it has one.
        process: since it was started.
    """

    job: Job
    state: State = State.WAITING
    code: int | None = None
    process: Process | None = None

    def start(self, engine: Engine) -> None:
        """Start the job."""
        self.process = engine.start(self.job)
        self.state = State.RUNNING

    def look(self, stopping: bool) -> None:
        """Note whether it has ended, and how."""
        assert self.process is not None
        self.code = self.process.poll()
        if self.code == 0:
            self.state = State.FINISHED
        elif self.code is not None:
            # Else it had an end of its own: a disk that is full when it is to save, for example.
            asked = self.code - 128 in STOPPING or (stopping and -self.code in STOPPING)
            self.state = State.STOPPED if asked else State.FAILED


def run_jobs(
    tasks: Sequence[Task], engine: Engine, at_a_time: int, watch: Callable[[], None]
) -> signal.Signals | None:
    """
    Run jobs until each has ended; after SIGINT or SIGTERM those that run end, and no other begins.

    Args:
        tasks: the jobs, in the order to start them in; what becomes of them is noted there.
        engine: what runs them.
        at_a_time: how many may run.
        watch: called several times a second.

    Returns:
        the signal that ended it early.

    Raises:
        InputError: the engine cannot start a job; those that ran have been stopped.
    """
    stopping = False
    failure: InputError | None = None
    with StopSignals() as signals:
        while True:
            running = [task for task in tasks if task.state is State.RUNNING]
            for task in running:
                task.look(stopping)
            running = [task for task in running if task.state is State.RUNNING]
            waiting = [task for task in tasks if task.state is State.WAITING]
            if (signals.received or failure) and not stopping:
                stopping = True
                for task in running:
                    assert task.process is not None
                    task.process.stop()
            watch()
            if not running and (stopping or not waiting):
                if failure:
                    raise failure
                return signals.received
            if not stopping:
                try:
                    for task in waiting[: at_a_time - len(running)]:
                        task.start(engine)
                except InputError as error:
                    failure = error
            time.sleep(_POLL)
