"""The training itself, from a model that is set up to its last evaluation."""

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from pyrl_sb3.errors import NoStackError, NotANumberError, counted
from pyrl_sb3.plugins.errors import RAISED
from pyrl_sb3.training.checkpoint import Save
from pyrl_sb3.training.checkpoint_folder import CheckpointFolder
from pyrl_sb3.training.checkpoints import Checkpoints
from pyrl_sb3.training.command_line import going_on, quoted
from pyrl_sb3.training.errors import HopelessError, InputError, RunStoppedError, file_of
from pyrl_sb3.training.evaluation import (
    Evaluation,
    PeriodicEvaluation,
    evaluate,
    sync_statistics,
)
from pyrl_sb3.training.facts import add_end, add_resumption
from pyrl_sb3.training.failures import WholeSteps, is_finite, what_failed
from pyrl_sb3.training.folders import BEST_MODEL, CHECKPOINTS, MODEL
from pyrl_sb3.training.logs import (
    EVALUATIONS,
    add_evaluation,
    keep_evaluations,
    last_evaluated,
)
from pyrl_sb3.training.models import save_model
from pyrl_sb3.training.request import TrainingResult
from pyrl_sb3.training.setup import Run
from pyrl_sb3.training.signals import EndAskedError, StopAskedError, StopCallback

log = logging.getLogger("pyrl_sb3")

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def learn(
    run: Run, model: OffPolicyAlgorithm, eval_env: VecEnv, callbacks: Sequence[BaseCallback]
) -> TrainingResult:
    """
    Train, evaluate, save: a model that is set up, into which a checkpoint's state is loaded here.

    The callbacks are all but those that every run has.
    """
    request, path = run.request, run.folder / MODEL
    save: Save = partial(save_model, uses=run.uses)
    with run.signals as signals, _saying_what_is_left(run) as saved:
        checkpoints = _checkpoints(run, save)
        end = _EarlyEnd(run, checkpoints, save)
        every = [checkpoints, StopCallback(signals), end, *callbacks]
        if request.eval_freq != 0:
            every.append(_periodic_evaluation(run, eval_env, save))
        if run.checkpoint:
            checkpoints.resume(model, run.checkpoint)
        left = request.timesteps - model.num_timesteps
        whole = WholeSteps(every)
        with _saved_where_whole(run, model, eval_env, checkpoints, whole):
            # Copies wait for each other: what one raises is to be heard at once
            called = every if run.signals.together else whole
            model.learn(left, callback=called, reset_num_timesteps=not run.checkpoint)
        if signals.received:
            checkpoints.take()  # first, since whoever asked to stop may not wait for long
        save(model, path)
        saved.append(path)
        if end.has_come:
            log.info(_noted_end(run, model))
        evaluation = None
        with _saved_where_whole(run, model, eval_env, checkpoints):
            evaluation = _final_evaluation(run, model, eval_env)
        if evaluation and last_evaluated(run.folder) < model.num_timesteps:
            add_evaluation(run.folder / EVALUATIONS, model.num_timesteps, evaluation)
        # Without one of its end, a run that was stopped before would go on from there again.
        if signals.received or request.save_freq or run.checkpoint:
            keep_evaluations(run.folder, checkpoints.take())
    return TrainingResult(
        request.env_id, run.folder, path, model.num_timesteps, evaluation, signals.received
    )


@contextmanager
def _saved_where_whole(
    run: Run,
    model: OffPolicyAlgorithm,
    eval_env: VecEnv,
    checkpoints: Checkpoints,
    callbacks: WholeSteps | None = None,
) -> Iterator[None]:
    """
    Save what was learned where something raises that leaves it whole, and say so; or what is left.

    Of a step that an environment raises in, nothing has come to the model or its buffer, which are
    as after the last one. Of a gradient step there may be a half.
    """
    try:
        yield
    except RAISED as error:
        # Copies that train together go on from the checkpoints that all of them have.
        begun = model.num_timesteps > 0 and checkpoints.begin_with is None
        if not begun or run.signals.together or _has_its_own_line(error):
            raise
        failed = what_failed(error, model.get_env(), eval_env, callbacks)
        whole = failed is not None and is_finite(model)
        if failed and whole and failed.endswith("the environment") and run.signals.received:
            log.warning("%s failed as it was to stop: %r", failed, error)
            return  # to what becomes of a training that a signal stops
        steps, path = counted(model.num_timesteps, "step"), run.folder / MODEL
        if whole:
            checkpoints.take()
            checkpoints.save(model, path)
            goes_on = "goes on" if callbacks else "evaluates it"  # that alone is left
            then = f"--resume {quoted(run.folder)} {goes_on}"
            if callbacks and not callbacks.goes_on and _is_early(run, model):
                then = _noted_end(run, model)
            log.warning("%s failed after %s; model saved: %s; %s", failed, steps, path, then)
        elif _nan(error) is None:
            told = "%s failed after %s, and nothing is saved of it; %s"
            log.warning(told, failed or "the training", steps, _kept(run))
        raise


def _is_early(run: Run, model: OffPolicyAlgorithm) -> bool:
    """Whether a training that has ended did so for a callback."""
    return model.num_timesteps < run.request.timesteps and not run.signals.received


def _noted_end(run: Run, model: OffPolicyAlgorithm) -> str:
    """Note in the run that a callback ended it, and return that in words."""
    add_end(run.folder, model.num_timesteps)
    steps = f"{model.num_timesteps} of {counted(run.request.timesteps, 'step')}"
    return f"a callback ended the training after {steps}"


def _has_its_own_line(error: BaseException) -> bool:
    no_space = isinstance(error, OSError) and error.errno in _NO_SPACE
    return no_space or isinstance(error, (InputError, RunStoppedError, NoStackError))


def _latest(run: Run) -> Path | None:
    return CheckpointFolder(run.folder / CHECKPOINTS).latest()


def _kept(run: Run) -> str:
    latest = _latest(run)
    return f"the last checkpoint is {latest}" if latest else "there is no checkpoint yet"


@contextmanager
def _saying_what_is_left(run: Run) -> Iterator[list[Path]]:
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
    Raise RunStoppedError, saying what is left, where a disk is full or learning comes to NaN. Of
    copies that train together a full disk raises HopelessError: none is to start again. What is
    no stack of frames, as the config has it, raises InputError.
    """
    try:
        yield
    except NoStackError as error:
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


def _checkpoints(run: Run, save: Save) -> Checkpoints:
    return Checkpoints(
        run.folder / CHECKPOINTS,
        save_freq=run.request.save_freq,
        keep_last=run.request.keep_last,
        exact=run.request.exact,
        by_steps=run.signals.together,
        save=save,
        logs_of=run.folder,
        # Only then: a run that cannot go on stays as it was, finished where it was.
        resumed=lambda after: add_resumption(run.folder, after, run.request.timesteps),
    )


class _EarlyEnd(BaseCallback):
    """
    Finds that a callback ends the training early. One of several copies writes its end to disk
    before it waits for the others: they do not keep what it could go on from with them.
    """

    model: OffPolicyAlgorithm
    keeps_state = False

    def __init__(self, run: Run, checkpoints: Checkpoints, save: Save) -> None:
        super().__init__()
        self.run = run
        self.checkpoints = checkpoints
        self.save = save
        self.has_come = False

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        # Now, before copies hear of each other again: a stop that is told then did not end this.
        self.has_come = _is_early(self.run, self.model)
        if self.has_come and self.run.request.save_freq:
            self.run.signals.before_waiting(self._keep)

    def _keep(self) -> None:
        self.checkpoints.take()
        self.save(self.model, self.run.folder / MODEL)
        add_end(self.run.folder, self.model.num_timesteps)


class _SaveBest(BaseCallback):
    """Saves model and statistics together: SB3's evaluation saves the model alone."""

    model: OffPolicyAlgorithm

    def __init__(self, folder: Path, save: Save) -> None:
        super().__init__()
        self.path = folder / BEST_MODEL
        self.save = save

    def _on_step(self) -> bool:
        self.save(self.model, self.path)
        return True


def _periodic_evaluation(run: Run, eval_env: VecEnv, save: Save) -> BaseCallback:
    request = run.request
    every = request.eval_freq or max(request.timesteps // 20, 500)
    return PeriodicEvaluation(
        eval_env,
        verbose=0,
        signals=run.signals,
        callback_on_new_best=_SaveBest(run.folder, save),
        n_eval_episodes=request.eval_episodes,
        eval_freq=max(every // request.n_envs, 1),
        record=partial(add_evaluation, run.folder / EVALUATIONS),
    )


def _final_evaluation(run: Run, model: OffPolicyAlgorithm, eval_env: VecEnv) -> Evaluation | None:
    sync_statistics(model, eval_env)
    try:
        run.signals.check()
        return evaluate(model, eval_env, run.request.eval_episodes, run.signals.check)
    except StopAskedError:
        return None
