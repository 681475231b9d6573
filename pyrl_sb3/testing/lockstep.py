"""A group of seeds within one process, one running at a time, so that every run is repeatable."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from pyrl_sb3.plugins.errors import RAISED
from pyrl_sb3.training.randomness import random_states, restore_random_states
from pyrl_sb3.training.sync.state import Arrays, LayoutError, layout

Result = TypeVar("Result")


class LockstepGroup:
    """
    One copy's view of the group; fulfils `pyrl_sb3.plugins.SeedGroup`.

    `calls` holds the names and shapes of the arrays of each exchange.
    """

    def __init__(self, lockstep: "Lockstep", rank: int) -> None:
        self.rank = rank
        self.size = lockstep.size
        self.calls: list[dict[str, tuple[int, ...]]] = []
        self._lockstep = lockstep

    def all_gather(self, value: Arrays) -> dict[int, Arrays]:
        """
        Exchange arrays with all copies that still run.

        :raises LayoutError: They bring arrays of different names, shapes or types.
        """
        self.calls.append({name: np.shape(array) for name, array in value.items()})
        copied = {name: np.array(array) for name, array in value.items()}
        return self._lockstep.exchange(self.rank, copied)


class Lockstep:
    """
    Runs copies in threads that take turns: one runs until it exchanges arrays, or ends.

    Each copy keeps its own state of the global random generators of python, numpy and torch, as if
    it were a process.

    :param size: How many copies.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._turn = threading.Condition()
        self._current = 0
        self._ready = deque(range(1, size))
        self._inbox: dict[int, Arrays] = {}
        self._outbox: dict[int, Arrays] = {}

    def run(self, copies: Sequence[Callable[[LockstepGroup], Result]]) -> list[Result]:
        """
        Call each of the functions `copies`, `size` of them, with its group; their results in order.

        :raises Exception: the first that one of them raised, when all have ended.
        """
        before = random_states()
        results: dict[int, Result] = {}
        errors: dict[int, BaseException] = {}

        def live(rank: int) -> None:
            self._wait(rank)
            try:
                results[rank] = copies[rank](LockstepGroup(self, rank))
            except RAISED as error:
                errors[rank] = error
            self._pass_on()

        threads = [threading.Thread(target=live, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        restore_random_states(before)
        if errors:
            raise errors[min(errors)]
        return [results[rank] for rank in range(self.size)]

    def exchange(self, rank: int, value: Arrays) -> dict[int, Arrays]:
        """See `LockstepGroup.all_gather`."""
        self._inbox[rank] = value
        state = random_states()
        self._pass_on()
        self._wait(rank)
        restore_random_states(state)
        if len(set(map(layout, self._outbox.values()))) > 1:
            raise LayoutError
        return dict(self._outbox)

    def _wait(self, rank: int) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._current == rank)

    def _pass_on(self) -> None:
        with self._turn:
            if not self._ready and self._inbox:
                # Everybody has ended or waits here: the exchange is complete.
                self._outbox = dict(sorted(self._inbox.items()))
                self._inbox = {}
                self._ready = deque(self._outbox)
            self._current = self._ready.popleft() if self._ready else -1
            self._turn.notify_all()
