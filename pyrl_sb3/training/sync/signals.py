"""Stopping all copies at the same step."""

import signal
from collections.abc import Callable

from pyrl_sb3.training.signals import StopSignals
from pyrl_sb3.training.sync.group import DistributedGroup


class GroupSignals(StopSignals):
    """
    A signal that one copy gets stops none before the next exchange, and then all of them: a copy
    that stopped at once would keep the others waiting.
    """

    together = True

    def __init__(self, group: DistributedGroup) -> None:
        self.group = group

    def _stop(self, number: int) -> None:
        self.group.stop_asked = number

    def before_waiting(self, do: Callable[[], None]) -> None:
        """Have that done once the first of the others goes on, which waits for it."""
        self.group.before_waiting = do

    @property
    def received(self) -> signal.Signals | None:  # type: ignore[override]  # nobody sets it
        """What all copies know of; in one that has left, what it knows of itself."""
        number = self.group.stop or (self.group.stop_asked if self.group.left else 0)
        return signal.Signals(number) if number else None
