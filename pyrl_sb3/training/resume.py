"""Going on with a run that was killed, stopped, or is to be longer."""

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from pyrl_sb3.config import ConfigError
from pyrl_sb3.plugins import PluginError
from pyrl_sb3.training.agents import find_agent
from pyrl_sb3.training.begun_with import may_mean
from pyrl_sb3.training.checkpoint import Checkpoint
from pyrl_sb3.training.checkpoint_folder import CheckpointFolder
from pyrl_sb3.training.command_line import said, said_before
from pyrl_sb3.training.environments import env_spec
from pyrl_sb3.training.errors import InputError, begun_otherwise
from pyrl_sb3.training.evaluation import Evaluation
from pyrl_sb3.training.facts import Facts, check_run, completed, read_facts, refuse_edited
from pyrl_sb3.training.failures import ended_by_a_stop, stops_in_one_line
from pyrl_sb3.training.folders import CHECKPOINTS, MODEL, check_writable, held, is_group
from pyrl_sb3.training.hyperparams import CONFIG
from pyrl_sb3.training.learning import learn
from pyrl_sb3.training.loading import saved_timesteps
from pyrl_sb3.training.logs import (
    EVALUATIONS,
    add_evaluation,
    keep_evaluations,
    last_evaluated,
    put_back_logs,
)
from pyrl_sb3.training.models import check_device, set_threads
from pyrl_sb3.training.request import (
    CompleteRequest,
    TrainingRequest,
    TrainingResult,
    require_if_given,
)
from pyrl_sb3.training.run import begun_experiment, say_what
from pyrl_sb3.training.setup import Callbacks, Run, callback_list, set_up
from pyrl_sb3.training.signals import StopSignals, ending_in_order
from pyrl_sb3.training.trial import TrialRequest, try_out
from pyrl_sb3.training.versions import other_versions

log = logging.getLogger("pyrl_sb3")

# What may be another than when the run began; a device or a number of threads may round otherwise.
CHANGEABLE = ("timesteps", "device", "threads", "keep_last", "trust")


def resume(
    folder: Path | str,
    *,
    timesteps: int | None = None,
    device: str | None = None,
    threads: int | None = None,
    keep_last: int | None = None,
    trust: bool = False,
    callbacks: Callbacks = (),
    signals: StopSignals | None = None,
) -> TrainingResult:
    """
    Go on with a run from its latest checkpoint; everything else is as in `train`.

    Args:
        folder: of the run.
        timesteps: environment steps it is to have in the end, those it has had included.
        device: as in `TrainingRequest`; by default that which the run began with.
        threads: likewise.
        keep_last: likewise.
        trust: run code that the run's config names, and have its weights read by PyTorch alone.
        callbacks: as in `train`; those that were there before go on where they were.
        signals: that stop it.

    Returns:
        what became of it; of a run that was finished already, what there is.

    Raises:
        InputError: there is nothing to go on with, or it is damaged, or cannot be written to.
        ConfigError, RunStoppedError: as `train`.
    """
    timesteps = require_if_given(1, "timesteps", timesteps)
    threads = require_if_given(1, "threads", threads)
    keep_last = require_if_given(1, "keep_last", keep_last)
    added = callback_list(callbacks)
    folder = Path(folder)
    check_run(folder)
    signals = signals or StopSignals()
    with held(folder), ending_in_order():  # before reading: who trained here has written by now
        facts = read_facts(folder)
        _refuse_one_copy(folder, facts, signals)
        refuse_edited(folder, facts)
        latest = CheckpointFolder(folder / CHECKPOINTS).latest()
        checkpoint = Checkpoint(latest, trust=trust) if latest else None
        saved = saved_timesteps(folder / MODEL)
        done = checkpoint.moment.timesteps if checkpoint else saved or 0
        request = completed(
            folder,
            _as_it_was(folder, facts.request),
            trust=trust,
            timesteps=_total(folder, facts, done, timesteps),
            device=check_device(facts.request.device if device is None else str(device)),
            keep_last=keep_last or facts.request.keep_last,
        )
        lacks_evaluation = last_evaluated(folder) < done
        owes = lacks_evaluation and checkpoint is not None and checkpoint.owes_evaluation
        why = facts.why_finished(done, request.timesteps)
        # It may have been killed before its last model was saved.
        if why and saved == done and not owes and (checkpoint or lacks_evaluation):
            log.info("%s is finished: %s", folder, why)
            return _finished(folder, request, done, lacks_evaluation, checkpoint, signals)
        if checkpoint is None:
            raise _no_checkpoint(folder, request.agent, saved)
        check_writable(folder)
        threads = set_threads(threads or facts.request.threads)
        request = dataclasses.replace(request, threads=threads)
        return _go_on(folder, facts, request, checkpoint, added, signals)


def _as_it_was(folder: Path, request: TrainingRequest) -> TrainingRequest:
    return dataclasses.replace(
        request,
        env_id=env_spec(request.env_id).id,
        config=folder / CONFIG,  # with all that was changed on the command line
        overrides=(),
        noise=None,
        buffer=None,
    )


def check_configs(request: TrainingRequest, runs: Iterable[Path]) -> None:
    """
    Check by the configs of runs that at least one can go on: what damages one leaves the others
    alone, but `--trust`, or the file of demonstrations, all may lack.

    Args:
        request: by which they were begun, with the trust that there is now.
        runs: their folders; those without a config are passed over.

    Raises:
        InputError, ConfigError, PluginError: that of the first, where none can.
    """
    first: Exception | None = None
    agent = find_agent(request.agent, stock=request.stock)
    for run in runs:
        if (run / CONFIG).is_file():
            try:
                facts = read_facts(run)
                begun_experiment(run, facts, agent, _as_it_was(run, request))
                refuse_edited(run, facts)
                return
            except (InputError, ConfigError, PluginError) as error:
                first = first or error
    if first:
        raise first


def changes_in(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of the given attributes of a `TrainingRequest` a run takes when it goes on."""
    return {name: given[name] for name in CHANGEABLE if name in given}


def _go_on(
    folder: Path,
    facts: Facts,
    request: CompleteRequest,
    checkpoint: Checkpoint,
    callbacks: Sequence[BaseCallback],
    signals: StopSignals,
) -> TrainingResult:
    for change in other_versions(facts.versions, facts.components):
        log.info(change)  # first: the config may not be for these
    agent = find_agent(request.agent, stock=request.stock)
    experiment = begun_experiment(folder, facts, agent, request)
    run = Run(
        folder=folder,
        request=request,
        experiment=experiment,
        uses=facts.components,
        checkpoint=checkpoint,
        signals=signals,
    )
    checkpoint.check()
    with stops_in_one_line(run), ExitStack() as opened:
        put_back_logs(folder, checkpoint.folder, checkpoint.logs)
        made = set_up(run, opened)
        say_what(run, made.model)
        return learn(run, made, callbacks)


def _finished(
    folder: Path,
    request: CompleteRequest,
    done: int,
    lacks_evaluation: bool,
    checkpoint: Checkpoint | None,
    signals: StopSignals,
) -> TrainingResult:
    """Return what there is of a finished run; its last evaluation is made where it lacks one."""
    evaluation = None
    if lacks_evaluation:
        log.info("it is evaluated, since that was interrupted")
        with signals:
            evaluation = _evaluated(folder, request, signals)
        if evaluation:
            add_evaluation(folder / EVALUATIONS, done, evaluation)
            if checkpoint:
                keep_evaluations(folder, checkpoint.folder)
    elif not signals.together:
        log.info("--timesteps N, with more than these, goes on with it")
    return TrainingResult(
        request.env_id, folder, folder / MODEL, done, evaluation, signals.received
    )


def _evaluated(folder: Path, request: CompleteRequest, signals: StopSignals) -> Evaluation | None:
    """Evaluate the saved model, in the environment of evaluations; None when stopped."""
    trial = TrialRequest(
        agent=request.agent,
        env_id=request.env_id,
        path=folder / MODEL,
        episodes=request.eval_episodes,
        seed=request.seed + request.n_envs,
        device=request.device,
        trust=request.trust,
    )
    with ended_by_a_stop(signals):
        return try_out(trial, signals.check)
    return None


def refuse_changes(folder: Path, given: Mapping[str, Any]) -> None:
    """
    Check attributes of a `TrainingRequest` that were given besides the run to resume.

    Raises:
        InputError: naming one that is not as in the run.
    """
    check_run(folder)
    refuse_differences(folder, read_facts(folder).request, given)


def refuse_differences(folder: Path, request: TrainingRequest, given: Mapping[str, Any]) -> None:
    """Raise InputError where an option is not as in `request`, by which `folder` was begun."""
    if request.agent != given["agent"]:
        raise InputError(f"{folder} is a run of {request.agent}-train, not {given['agent']}-train")
    request = dataclasses.replace(request, save=folder.absolute().parent)  # wherever it is by now
    given = {**given, "env_id": env_spec(given.get("env_id", request.env_id)).id}
    for name, value in given.items():
        there = getattr(request, name)
        same = _comparable(there) == _comparable(value)
        if name == "trained_agent":
            same = there is not None and may_mean(value, there)
        if name not in CHANGEABLE and not same:
            raise begun_otherwise(said(name, value), folder, said_before(name, there))


def _comparable(value: Any) -> Any:
    return value.resolve() if isinstance(value, Path) else value


def _refuse_one_copy(folder: Path, facts: Facts, signals: StopSignals) -> None:
    if facts.sync is not None and not signals.together:
        raise InputError(
            f"{folder} is one of several copies, synchronised by {facts.sync}, and does not learn "
            f"alone: --resume {folder.parent} goes on with all of them"
        )


def _no_checkpoint(folder: Path, agent: str, saved: int | None) -> InputError:
    damaged = saved is None and (folder / MODEL).exists()
    again = f"pyrl {agent}-train must begin again"
    if is_group(folder.parent):
        again = f"when it is deleted, --resume {folder.parent} begins it again"
    return InputError(
        f"{folder} has no checkpoint{f', and its {MODEL} is damaged' if damaged else ''}: {again}"
    )


def _total(folder: Path, facts: Facts, done: int, wanted: int | None) -> int:
    # It may have had some more than it was to have, which environments or rollouts do not divide.
    if wanted is not None and wanted < min(done, facts.timesteps):
        raise InputError(f"--timesteps {wanted}: {folder} has had {done} steps already")
    return wanted or facts.timesteps
