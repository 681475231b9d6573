"""Stopping in good order on Ctrl-C, SIGTERM and a terminal that goes away."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from types import FrameType
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from pyrl_sb3.training import orphans

_HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
STOPPING = (signal.SIGINT, signal.SIGTERM, *([_HANGUP] if _HANGUP else []))
# Seconds in which a signal that comes twice is one: some that start others, such as `make`, pass on
# what the terminal has sent to all already.
ONE_SIGNAL = 1.0
_HEARD = b"\nstopping after this step, and saving; once more ends at once\n"


def hangup_is_ignored() -> bool:
    """Tell whether SIGHUP does nothing, as under `nohup`."""
    return _HANGUP is not None and signal.getsignal(_HANGUP) is signal.SIG_IGN


class StopAskedError(Exception):
    """Raised out of an evaluation when a stop has been asked for."""


class StopSignals:
    """
    While entered, SIGINT, SIGTERM and SIGHUP do not interrupt: they are noted in `received`. SIGHUP
    stays ignored where it is, as under `nohup`.

    A gradient step or the writing of a file is thus never torn apart; whoever runs the loop looks
    at `received` between steps. A step may have no end, though: SIGINT or SIGTERM once more,
    a second after the first or later, does what it would have done without this. Outside the main
    thread, where Python has no signals, nothing is changed. Forks of the process, such as those of
    environments, end by SIGTERM and SIGHUP as others do.
    """

    received: signal.Signals | None = None
    # Whether copies of the training, in other processes, stop at the same step.
    together = False

    def __enter__(self) -> "StopSignals":
        self._since: dict[int, float] = {}
        self._process = os.getpid()
        self._previous = {
            number: signal.signal(number, self._note)
            for number in _heard_here()
            if number != _HANGUP or not hangup_is_ignored()
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process and number != signal.SIGINT:
            self._end_at_once(number, frame)
            return
        now = monotonic()
        again = now - self._since.setdefault(number, now) >= ONE_SIGNAL
        # A terminal that goes away may say so more than once: nobody asks for an end at once.
        if again and number != _HANGUP and not orphans.orphaned:
            self._end_at_once(number, frame)
        else:
            self._stop(number)

    def _stop(self, number: int) -> None:
        if self.received is None and os.isatty(2):
            with suppress(OSError):  # the log may be in the midst of a line
                os.write(2, _HEARD)
        self.received = signal.Signals(number)

    def _end_at_once(self, number: int, frame: FrameType | None) -> None:
        before = self._previous[signal.Signals(number)]
        if callable(before):
            before(number, frame)
        else:  # also where it was ignored: it has been heard since, and once more asks for more
            end_by_default(number)

    def before_waiting(self, do: Callable[[], None]) -> None:
        """Have that done before this training, when it has ended, waits for copies that go on."""

    def check(self, *_: Any) -> None:
        """Raise StopAskedError if a signal has come; can be `evaluate_policy`'s callback."""
        if self.received:
            raise StopAskedError


@contextmanager
def ending_in_order() -> Iterator[None]:
    """
    While entered, SIGTERM and SIGHUP end the process as `sys.exit` does, so that what is half made
    is removed, as on Ctrl-C; where something else was to become of them, that stays.
    """
    changed = [number for number in _heard_here() if signal.getsignal(number) is signal.SIG_DFL]
    process = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a fork, whose parent may wait for it
            end_by_default(number)
        raise EndAskedError(number)

    for number in changed:
        signal.signal(number, end)
    try:
        yield
    except EndAskedError as error:
        sys.exit(128 + error.number)
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


class EndAskedError(BaseException):
    """Not `SystemExit`, which strangers' code may raise and which is a mistake of theirs there."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def end_by_default(number: int) -> None:
    """End this process by a signal as one without handlers ends."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _heard_here() -> Sequence[signal.Signals]:
    """The signals that stop; none outside the main thread, where Python has none."""
    return STOPPING if threading.current_thread() is threading.main_thread() else ()


class StopCallback(BaseCallback):
    """Ends `learn` after the step in which a signal came."""

    def __init__(self, signals: StopSignals) -> None:
        super().__init__()
        self.signals = signals

    def _on_step(self) -> bool:
        return self.signals.received is None
