"""What becomes of a training in which something raises."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from pyrl_sb3.plugins.errors import RAISED
from pyrl_sb3.training.evaluation import PeriodicEvaluation
from pyrl_sb3.training.tensors import may_be_finite, tensors_of


class WholeSteps(CallbackList):
    """
    Callbacks, one of which may raise. Training then ends after that step, as where a callback ends
    it, and only then is the error raised: nothing is torn, and the others have seen the whole step.

    Attributes:
        failed: the first that has raised.
        failure: what.
        goes_on: whether none has ended the training otherwise.
    """

    failed: BaseCallback | None = None
    failure: BaseException | None = None
    goes_on = True

    def _on_rollout_start(self) -> None:
        self._call("on_rollout_start")

    def _on_step(self) -> bool:
        for callback in self.callbacks:
            with suppress(*RAISED), self._noting(callback):
                self.goes_on = callback.on_step() and self.goes_on
        return self.goes_on and self.failure is None

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


def what_failed(
    error: BaseException, env: VecEnv | None, eval_env: VecEnv, callbacks: WholeSteps | None
) -> str | None:
    """
    Return what raised an error while model and buffer were whole; None where they may not be.

    There are no `callbacks` where the training is over, but for its last evaluation.
    """
    if _is_of(error, env):
        return "the environment"
    if _is_of(error, eval_env):
        return "in an evaluation, the environment"
    if callbacks is not None and callbacks.failure is not error:
        return None  # a gradient step, say
    if callbacks is None or isinstance(callbacks.failed, PeriodicEvaluation):
        return "an evaluation"
    failed: Any = callbacks.failed
    if isinstance(failed, ConvertCallback):
        failed = failed.callback
    return f"the callback {getattr(failed, '__name__', type(failed).__name__)}"


def _is_of(error: BaseException, env: VecEnv | None) -> bool:
    """Tell whether an environment has raised it, and not the monitor around it."""
    return env is not None and getattr(env.unwrapped, "failure", None) is error


def is_finite(model: OffPolicyAlgorithm) -> bool:
    """Whether all that actions depend on is: where it is not, nothing is to go on from it."""
    weights = [tensor for _, tensor in tensors_of(model.policy)]
    found = getattr(model.get_vec_normalize_env(), "obs_rms", {})
    statistics = found.values() if isinstance(found, dict) else [found]
    numbers = [number for each in statistics for number in (each.mean, each.var)]
    return all(may_be_finite(each) for each in (*weights, *numbers))
