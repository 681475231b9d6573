"""Stopping in good order on Ctrl-C, SIGTERM and a terminal that goes away."""

import signal
import threading
from types import FrameType
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

_HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
STOPPING = (signal.SIGINT, signal.SIGTERM, *([_HANGUP] if _HANGUP else []))


class StopAskedError(Exception):
    """Raised out of an evaluation when a stop has been asked for."""


class StopSignals:
    """
    While entered, SIGINT, SIGTERM and SIGHUP do not interrupt: they are noted in `received`. SIGHUP
    stays ignored where it is, as under `nohup`.

    A gradient step or the writing of a file is thus never torn apart; whoever runs the loop looks
    at `received` between steps. Outside the main thread, where Python has no signals, nothing is
    changed.
    """

    received: signal.Signals | None = None
    # Whether copies of the training, in other processes, stop at the same step.
    together = False

    def __enter__(self) -> "StopSignals":
        in_main_thread = threading.current_thread() is threading.main_thread()
        wanted = STOPPING if in_main_thread else ()
        self._previous = {
            number: signal.signal(number, self._note)
            for number in wanted
            if number != _HANGUP or signal.getsignal(number) is not signal.SIG_IGN
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)

    def check(self, *_: Any) -> None:
        """Raise StopAskedError if a signal has come; can be `evaluate_policy`'s callback."""
        if self.received:
            raise StopAskedError


class StopCallback(BaseCallback):
    """Ends `learn` after the step in which a signal came."""

    def __init__(self, signals: StopSignals) -> None:
        super().__init__()
        self.signals = signals

    def _on_step(self) -> bool:
        return self.signals.received is None
