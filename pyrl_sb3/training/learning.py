"""The training itself, from a model that is set up to its last evaluation."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from pyrl_sb3.training.checkpoint import Save
from pyrl_sb3.training.checkpoints import Checkpoints
from pyrl_sb3.training.evaluation import (
    Evaluation,
    PeriodicEvaluation,
    evaluate,
    sync_statistics,
)
from pyrl_sb3.training.facts import add_end, add_resumption
from pyrl_sb3.training.failures import (
    is_early,
    noted_end,
    saved_where_whole,
    saying_what_is_left,
)
from pyrl_sb3.training.folders import BEST_MODEL, CHECKPOINTS, MODEL
from pyrl_sb3.training.logs import (
    EVALUATIONS,
    add_evaluation,
    keep_evaluations,
    last_evaluated,
)
from pyrl_sb3.training.models import save_model
from pyrl_sb3.training.request import TrainingResult
from pyrl_sb3.training.setup import Run, SetUp
from pyrl_sb3.training.signals import StopAskedError, StopCallback
from pyrl_sb3.training.whole_steps import WholeSteps

log = logging.getLogger("pyrl_sb3")


def learn(run: Run, made: SetUp, added: Sequence[BaseCallback]) -> TrainingResult:
    """
    Train, evaluate, save: a model that is set up, into which a checkpoint's state is loaded here.

    The callbacks that are added come before those of the experiment.
    """
    request, path, model = run.request, run.folder / MODEL, made.model
    save: Save = partial(save_model, uses=run.uses)
    with run.signals as signals, saying_what_is_left(run) as saved:
        checkpoints = _checkpoints(run, save, made.theirs)
        end = _EarlyEnd(run, checkpoints, save)
        every = [checkpoints, StopCallback(signals), end, *added, *made.callbacks]
        if request.eval_freq != 0:
            every.append(_periodic_evaluation(run, made.eval_env, save))
        if run.checkpoint:
            checkpoints.resume(model, run.checkpoint)
        left = request.timesteps - model.num_timesteps
        whole = WholeSteps(every)
        with saved_where_whole(run, model, made.evaluating, checkpoints, whole):
            # Copies wait for each other: what one raises is to be heard at once
            called = every if run.signals.together else whole
            model.learn(left, callback=called, reset_num_timesteps=not run.checkpoint)
        if signals.received:
            _take_at_a_stop(checkpoints, model, path)
        save(model, path)
        saved.append(path)
        if end.has_come:
            log.info(noted_end(run, model, whole))
        evaluation = None
        with saved_where_whole(run, model, made.evaluating, checkpoints):
            evaluation = _final_evaluation(run, model, made.eval_env)
        if evaluation and last_evaluated(run.folder) < model.num_timesteps:
            add_evaluation(run.folder / EVALUATIONS, model.num_timesteps, evaluation)
        # Without one of its end, a run that was stopped before would go on from there again.
        if signals.received or request.save_freq or run.checkpoint:
            keep_evaluations(run.folder, checkpoints.take())
    return TrainingResult(
        request.env_id, run.folder, path, model.num_timesteps, evaluation, signals.received
    )


def _take_at_a_stop(checkpoints: Checkpoints, model: OffPolicyAlgorithm, path: Path) -> None:
    """
    Take a checkpoint before the model is saved: whoever asked to stop may not wait for long. Where
    none can be taken, and that is not for the disk, the model is saved all the same.
    """
    try:
        checkpoints.take()
    except OSError:
        raise
    except Exception:
        checkpoints.save(model, path)
        log.warning("no checkpoint can be taken; model saved: %s", path)
        raise


def _checkpoints(run: Run, save: Save, evaluating: Sequence[VecEnv]) -> Checkpoints:
    return Checkpoints(
        run.folder / CHECKPOINTS,
        save_freq=run.request.save_freq,
        keep_last=run.request.keep_last,
        exact=run.request.exact,
        by_steps=run.signals.together,
        save=save,
        evaluating=evaluating,
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
        self.has_come = is_early(self.run, self.model)
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
