"""How the cores are shared out between processes, and between the threads of each."""

import os

from pyrl_sb3.training.errors import InputError

# Networks of this size gain nothing from more threads; on many cores they lose to the waiting.
MOST_THREADS = 4


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def threads_each(processes: int, cores: int) -> int:
    """Return how many threads each of so many processes gets, at least one."""
    return max(1, min(cores // processes, MOST_THREADS))


def share_cores(
    processes: int, cores: int, *, jobs: int | None, threads: int | None
) -> tuple[int, int]:
    """
    Return how many processes to run at a time, and how many threads each of them gets.

    Their product never exceeds the cores: processes that wait for each other's threads take
    several times as long. `jobs` and `threads` were asked for; where neither was, there is a
    process on each core.

    Raises:
        InputError: more than there are cores.
    """
    if jobs is None:
        jobs = max(1, min(processes, cores // (threads or 1)))
    if threads is None:
        threads = threads_each(jobs, cores)
    if jobs * threads > cores:
        fitting = f"--jobs {max(1, cores // threads)} --threads {min(threads, cores)}"
        raise InputError(
            f"--jobs {jobs} with --threads {threads}: {jobs * threads} threads on {cores} "
            f"{'core' if cores == 1 else 'cores'} would wait for each other; {fitting} fits"
        )
    return min(jobs, processes), threads
