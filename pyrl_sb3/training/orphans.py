"""Processes that stop, as after SIGTERM, when the one that started them has been killed."""

import os
import signal
import threading
import time

_STARTED_BY = "PYRL_STARTED_BY"
_POLL = 1.0  # seconds
_WAIT = 600.0  # seconds to come to the end of a step and save

# Whether what started this process is gone, and it is to save, however long that takes: the signal
# may have come to it before, and the second would end it.
orphaned = False


def bound_to_this_process() -> dict[str, str]:
    """Return the variables by which a process that this one starts ends with it."""
    return {_STARTED_BY: str(os.getpid())}


def stop_with_parent() -> None:
    """
    Watch for the end of the process that started this one, if that asked for it.

    Its end makes another process this one's parent, except on Windows, where nothing happens. This
    one then stops; where a step does not end it is killed, with whole checkpoints.
    """
    parent = os.environ.pop(_STARTED_BY, None)
    if parent is not None:
        threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()


def wait_for_end_of(parent: int) -> None:
    """Return once a process that is this one's parent has ended."""
    while os.getppid() == parent:
        time.sleep(_POLL)


def _watch(parent: int) -> None:
    wait_for_end_of(parent)
    # Nothing is imported here, where another thread may be importing the same.
    global orphaned
    orphaned = True
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_WAIT)
    os._exit(128 + signal.SIGTERM)
