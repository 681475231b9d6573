"""Running jobs, some at a time, and watching them; the failure of one leaves the others alone."""

import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from types import FrameType

from pyrl_sb3.training.engines import Engine, Job, Process
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.signals import ONE_SIGNAL, STOPPING, StopSignals

log = logging.getLogger("pyrl_sb3")

_POLL = 0.2  # seconds
_WAITING_FOR = "stopping, and waiting for what these save: %s; once more ends them at once"


class State(Enum):
    """What a job is at."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass
class Task:
    """A job and what has become of it; `ended_at_once` where it was asked to end once more."""

    job: Job
    state: State = State.WAITING
    code: int | None = None
    process: Process | None = None
    ended_at_once: bool = False

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


class _Asked(StopSignals):
    """Here it is the jobs that are to end at once where a signal comes again."""

    again = False

    def _stop(self, number: int) -> None:
        self.received = signal.Signals(number)

    def _end_at_once(self, number: int, frame: FrameType | None) -> None:
        self.again = True


def _stop(running: Sequence[Task], *, again: bool) -> float:
    """Ask jobs to stop, or once more, to end at once; return when that was."""
    if running:
        names = ", ".join(task.job.name for task in running)
        log.info("ending at once: %s" if again else _WAITING_FOR, names)
    for task in running:
        assert task.process is not None
        task.process.stop()
        task.ended_at_once = again
    return time.monotonic()


def run_jobs(
    tasks: Sequence[Task], engine: Engine, at_a_time: int, watch: Callable[[], None]
) -> signal.Signals | None:
    """
    Run jobs until each has ended; after SIGINT or SIGTERM those that run end, and no other begins.
    Where it comes again, they are asked again, which ends them at once.

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
    stopping, asked = False, 0.0
    failure: InputError | None = None
    signals = _Asked()
    with signals:
        while True:
            running = [task for task in tasks if task.state is State.RUNNING]
            for task in running:
                task.look(stopping)
            running = [task for task in running if task.state is State.RUNNING]
            waiting = [task for task in tasks if task.state is State.WAITING]
            if (signals.received or failure) and not stopping:
                stopping = True
                asked = _stop(running, again=False)
            # They go by when each has heard it: with less time between, two signals would be one
            elif signals.again and time.monotonic() > asked + 1.5 * ONE_SIGNAL:
                signals.again = False
                asked = _stop(running, again=True)
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
