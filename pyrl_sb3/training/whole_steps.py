"""Steps of a training that all callbacks see, also where one of them raises."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback

from pyrl_sb3.plugins.errors import RAISED


class WholeSteps(CallbackList):
    """
    Callbacks, one of which may raise. Training then ends after that step, as where a callback ends
    it, and only then is the error raised: nothing is torn, and the others have seen the whole step.

    Attributes:
        failed: the first that has raised.
        failure: what.
        ended_by: the first that has ended the training otherwise.
        said_nothing: whether it did so by returning None, as who forgets to return does.
    """

    failed: BaseCallback | None = None
    failure: BaseException | None = None
    ended_by: BaseCallback | None = None
    said_nothing = False

    def _init_callback(self) -> None:
        with warnings.catch_warnings():
            # Where those of the training are in processes of their own.
            warnings.filterwarnings("ignore", "Training and eval env are not of the same type")
            super()._init_callback()

    def _on_rollout_start(self) -> None:
        self._call("on_rollout_start")

    def _on_step(self) -> bool:
        for callback in self.callbacks:
            with suppress(*RAISED), self._noting(callback):
                said: bool | None = callback.on_step()
                if not said and self.ended_by is None:
                    self.ended_by, self.said_nothing = callback, said is None
        return self.ended_by is None and self.failure is None

    def _on_rollout_end(self) -> None:
        self._call("on_rollout_end")  # by now the step is in the buffer

    def _on_training_end(self) -> None:
        self._call("on_training_end")

    def _call(self, method: str) -> None:
        if self.failure is not None:
            raise self.failure
        for callback in self.callbacks:
            with self._noting(callback):
                getattr(callback, method)()

    @contextmanager
    def _noting(self, callback: BaseCallback) -> Iterator[None]:
        try:
            yield
        except RAISED as error:
            if self.failure is None:
                self.failed, self.failure = callback, error
            raise


def title(callback: Any) -> str:
    """Return what a callback is called in messages."""
    if isinstance(callback, ConvertCallback):
        callback = callback.callback
    return f"the callback {getattr(callback, '__name__', type(callback).__name__)}"
