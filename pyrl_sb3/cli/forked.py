"""
The process that `pyrl_sb3.training.forks` has forks of: `python -m pyrl_sb3.cli.forked`.

It reads a request from each line of its standard input and writes what became of it. It has no
threads, never trains, and ends with its input.
"""

import gc
import json
import os
import signal
import sys
from pathlib import Path

from pyrl_sb3.training.orphans import bound_to_this_process


def serve() -> None:
    """Answer requests until there are no more. In a fork, this is where it runs the command."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever an import prints is not an answer
    _import_all()
    # What is imported stays: garbage collection need not look at it, which takes a fork a second
    # when it exits, nor touch the memory that all share.
    gc.freeze()
    bound = bound_to_this_process()
    for line in sys.stdin:
        request, what = json.loads(line)
        if request == "start":
            answer: int | None = os.fork()
            if answer == 0:
                answers.close()
                what["environment"] |= bound
                _run(**what)
        else:
            pid, status = os.waitpid(what["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        print(json.dumps(answer), file=answers, flush=True)


def _import_all() -> None:
    """Import what every training needs."""
    import torch as th

    import pyrl_sb3.algorithms
    import pyrl_sb3.cli.app
    import pyrl_sb3.training.progress
    import pyrl_sb3.training.run  # noqa: F401  # and those above

    th.optim.Adam([th.zeros(1)])  # imports half as much again as all of the others


def _run(arguments: list[str], log: str, folder: str, environment: dict[str, str]) -> None:
    """Become a process of its own, and run the command, which exits."""
    from pyrl_sb3.cli import main

    os.setsid()
    os.chdir(folder)
    with open(os.devnull) as nothing, open(log, "ab") as file:
        for there, descriptor in ((nothing, 0), (file, 1), (file, 2)):
            os.dup2(there.fileno(), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have `command &` ignore it
    sys.argv = ["pyrl", *arguments]
    # What `top` and `ps -e` show, since the command line is that of all forks.
    Path("/proc/self/comm").write_text(f"pyrl {Path(log).stem}")
    main(arguments)


if __name__ == "__main__":
    serve()
