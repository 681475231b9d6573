"""What becomes of a training in which something raises."""

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from pyrl_sb3.errors import NoStackError, NotANumberError, counted
from pyrl_sb3.plugins.errors import RAISED
from pyrl_sb3.training.checkpoint_folder import CheckpointFolder
from pyrl_sb3.training.checkpoints import Checkpoints
from pyrl_sb3.training.command_line import going_on, quoted
from pyrl_sb3.training.errors import HopelessError, InputError, RunStoppedError, file_of
from pyrl_sb3.training.evaluation import PeriodicEvaluation
from pyrl_sb3.training.facts import add_end
from pyrl_sb3.training.folders import CHECKPOINTS, MODEL
from pyrl_sb3.training.setup import Run
from pyrl_sb3.training.signals import EndAskedError, StopAskedError, StopSignals
from pyrl_sb3.training.state import StateError
from pyrl_sb3.training.tensors import may_be_finite, tensors_of
from pyrl_sb3.training.whole_steps import WholeSteps, title

log = logging.getLogger("pyrl_sb3")

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Failed(NamedTuple):
    """What raised an error while model and buffer were whole."""

    what: str
    is_environment: bool = False
    goes_on: bool = True  # whether the run may, from here


def _what_failed(
    error: BaseException,
    env: VecEnv | None,
    evaluating: Sequence[VecEnv],
    callbacks: WholeSteps | None,
) -> _Failed | None:
    """
    Return what raised an error while model and buffer were whole; None where they may not be.

    There are no `callbacks` where the training is over, but for its last evaluation.
    """
    if _is_of(error, env):
        return _Failed("the environment", is_environment=True)
    if any(_is_of(error, each) for each in evaluating):
        return _Failed("in an evaluation, the environment", is_environment=True)
    if isinstance(error, NoStackError):
        return _Failed("the training", goes_on=False)  # which would soon come to the same
    if callbacks is not None and callbacks.failure is not error:
        return None  # a gradient step, say
    if callbacks is None or isinstance(callbacks.failed, PeriodicEvaluation):
        return _Failed("an evaluation")
    if isinstance(callbacks.failed, Checkpoints):
        return _Failed("a checkpoint", goes_on=False)  # the next one would fail too
    return _Failed(title(callbacks.failed))


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


@contextmanager
def saved_where_whole(
    run: Run,
    model: OffPolicyAlgorithm,
    evaluating: Sequence[VecEnv],
    checkpoints: Checkpoints,
    callbacks: WholeSteps | None = None,
) -> Iterator[None]:
    """
    Save what was learned where something raises that leaves it whole, and say so; or what is left.

    Of a step that an environment raises in, nothing has come to the model or its buffer, which are
    as after the last one. Of one that is no stack nothing has come there either, and the model is
    saved alone, as where a checkpoint cannot be taken. Of a gradient step there may be a half.
    """
    try:
        yield
    except RAISED as error:
        # Copies that train together go on from the checkpoints that all of them have.
        begun = model.num_timesteps > 0 and checkpoints.begin_with is None
        at_once = isinstance(error, NoStackError) and is_first_step(run, model)
        if not begun or at_once or run.signals.together or _has_its_own_line(error):
            raise
        failed = _what_failed(error, model.get_env(), evaluating, callbacks)
        whole = failed is not None and is_finite(model)
        what = failed.what if failed else "the training"
        if failed and failed.is_environment and whole and run.signals.received:
            log.warning("%s failed as it was to stop: %r", what, error)
            return  # to what becomes of a training that a signal stops
        steps, path = counted(model.num_timesteps, "step"), run.folder / MODEL
        if failed and whole:
            if failed.goes_on:
                checkpoints.take()
            checkpoints.save(model, path)
            then = _then(run, model, callbacks) if failed.goes_on else _kept(run)
            log.warning("%s failed after %s; model saved: %s; %s", what, steps, path, then)
        elif _nan(error) is None:
            told = "%s failed after %s, and nothing is saved of it; %s"
            log.warning(told, what, steps, _kept(run))
        raise


def _then(run: Run, model: OffPolicyAlgorithm, callbacks: WholeSteps | None) -> str:
    """What becomes of a run that is saved."""
    if callbacks and callbacks.ended_by and is_early(run, model):
        return noted_end(run, model, callbacks)
    goes_on = "goes on" if callbacks else "evaluates it"  # that alone is left
    return f"--resume {quoted(run.folder)} {goes_on}"


@contextmanager
def ended_by_a_stop(signals: StopSignals) -> Iterator[None]:
    """
    Let an evaluation raise what it does once a signal has come: that may have ended its simulator
    as well. What it was is said.
    """
    try:
        yield
    except RAISED as error:
        if not signals.received:
            raise
        if not isinstance(error, StopAskedError):
            log.warning("the evaluation failed as it was to stop: %r", error)


def is_first_step(run: Run, model: OffPolicyAlgorithm) -> bool:
    """Whether a training is at its first step, which is counted before it is stored."""
    return model.num_timesteps <= run.request.n_envs


def is_early(run: Run, model: OffPolicyAlgorithm) -> bool:
    """Whether a training that has ended did so for a callback."""
    return model.num_timesteps < run.request.timesteps and not run.signals.received


def noted_end(run: Run, model: OffPolicyAlgorithm, callbacks: WholeSteps) -> str:
    """Note in the run that a callback ended it, and return that in words."""
    add_end(run.folder, model.num_timesteps)
    steps = f"{model.num_timesteps} of {counted(run.request.timesteps, 'step')}"
    which = title(callbacks.ended_by) if callbacks.ended_by else "a callback"  # of several copies
    why = ": its _on_step returned None, where True goes on" if callbacks.said_nothing else ""
    return f"{which} ended the training after {steps}{why}"


def _has_its_own_line(error: BaseException) -> bool:
    no_space = isinstance(error, OSError) and error.errno in _NO_SPACE
    said = isinstance(error, (InputError, RunStoppedError))
    return no_space or (said and not isinstance(error, StateError))


def _latest(run: Run) -> Path | None:
    return CheckpointFolder(run.folder / CHECKPOINTS).latest()


def _kept(run: Run) -> str:
    latest = _latest(run)
    return f"the last checkpoint is {latest}" if latest else "there is no checkpoint yet"


@contextmanager
def saying_what_is_left(run: Run) -> Iterator[list[Path]]:
    """Say it where a second signal ends the training at once; gives a list for the saved model."""
    saved: list[Path] = []
    try:
        yield saved
    except (KeyboardInterrupt, EndAskedError):
        line = f"model saved: {saved[0]}" if saved else _kept(run)
        if (saved or _latest(run)) and not run.signals.together:
            then = "evaluates it" if saved else "goes on"
            line += f"; --resume {quoted(run.folder)} {then}"
        log.warning("ended at once; %s", line)
        raise


@contextmanager
def stops_in_one_line(run: Run) -> Iterator[None]:
    """
    Raise RunStoppedError, saying what is left, where a disk is full or learning comes to NaN, and
    InputError where observations are no stacks of frames, as the config has it. Of copies that
    train together a full disk and no stack raise HopelessError: none is to start again.
    """
    try:
        yield
    except NoStackError as error:
        if run.signals.together:
            raise HopelessError(f"{error}; {_kept(run)}") from error
        raise InputError(str(error)) from error
    except ValueError as error:
        what = _nan(error)
        if what is None:
            raise
        raise RunStoppedError(f"{what}; {_kept(run)}") from error
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        # Not `strerror`, of which a replay buffer says more: here it is known what is whole
        what = f"{os.strerror(error.errno)}: {file_of(error) or run.folder}"
        latest = _latest(run)
        if run.signals.together:  # whoever started the copies says how all of them go on
            kept = f"{latest} is whole" if latest else "there is no checkpoint yet"
            raise HopelessError(f"{what}; {kept}; make room") from error
        if latest is None:
            raise RunStoppedError(f"{what}; there is no checkpoint yet to go on from") from error
        raise RunStoppedError(
            f"{what}; {latest} is whole: make room, then go on with "
            f"`pyrl {going_on(run.request.agent, run.folder, trust=run.request.trust)}`"
        ) from error


def _nan(error: BaseException) -> str | None:
    """What is NaN; None where that was not the error. torch's distributions say it in their way."""
    if isinstance(error, NotANumberError):
        return str(error)
    said = str(error) if isinstance(error, ValueError) else ""
    if "to satisfy the constraint" in said and "nan" in said:
        return "an action would be drawn from NaN: an observation or a parameter of the policy is"
    return None
