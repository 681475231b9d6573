"""One training run: from what was asked for to a folder with a model in it."""

import dataclasses
import logging
import secrets
import shutil
from collections.abc import Container, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.spaces import Box
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq

from pyrl_sb3.config import Experiment
from pyrl_sb3.errors import NoStackError, counted
from pyrl_sb3.plugins import get_plugin_manager
from pyrl_sb3.plugins.environments import plugin_environment
from pyrl_sb3.plugins.records import Record
from pyrl_sb3.training.agents import NamedAgent, find_agent
from pyrl_sb3.training.begun_with import trained_model
from pyrl_sb3.training.demos import check_demonstrations
from pyrl_sb3.training.environments import env_spec, open_env
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.facts import FACTS, Facts, write_facts
from pyrl_sb3.training.failures import is_first_step, stops_in_one_line
from pyrl_sb3.training.fit import check_fit, check_new_goals, has_goal
from pyrl_sb3.training.folders import held, make_folder, new_run_folder
from pyrl_sb3.training.hyperparams import experiment_of, for_goals, with_normalized_keys
from pyrl_sb3.training.learning import learn
from pyrl_sb3.training.logs import why_no_tensorboard
from pyrl_sb3.training.models import check_components, check_device, set_threads
from pyrl_sb3.training.request import CompleteRequest, TrainingRequest, TrainingResult, complete
from pyrl_sb3.training.seeds import refuse_changed_config
from pyrl_sb3.training.setup import Callbacks, Run, callback_list, check_beginning, set_up
from pyrl_sb3.training.signals import StopSignals, ending_in_order
from pyrl_sb3.training.unwritable import as_it_was_begun, refuse_others, say_unwritable

log = logging.getLogger("pyrl_sb3")

# By default there are at most so many checkpoints, and none in a run that is soon repeated.
_CHECKPOINTS, _LEAST_SAVE_FREQ = 10, 10_000


def train(
    request: TrainingRequest,
    callbacks: Callbacks = (),
    *,
    signals: StopSignals | None = None,
    notes: Mapping[str, Any] | None = None,
) -> TrainingResult:
    """
    Train as asked; Ctrl-C or SIGTERM ends the training early and still saves.

    The run's folder gets the model, the best model of the evaluations, `evaluations.npz`,
    `*.monitor.csv`, `progress.csv`, TensorBoard's file where it is installed, `run.yml`,
    `config.yml` with the hyperparameters, and `checkpoints/`, from the latest of which `resume`
    goes on.

    Args:
        request: what to do.
        callbacks: besides those of the experiment; None, one, several or a function, as SB3's
            `learn` takes them.
        signals: that stop it.
        notes: what else `run.yml` is to say.

    Raises:
        InputError: what was asked for cannot be done; nothing has been written, but the model
            where it is after some steps that observations are no stacks of frames.
        ConfigError: the same of the hyperparameters.
        RunStoppedError: there is no space left on the disk, or what is learned is NaN.
    """
    added = callback_list(callbacks)
    refuse_changed_config(request)
    agent, completed, experiment = checked(request)
    root = request.folder.parent if request.folder else request.save or Path(agent.name)
    above = [path for path in (root, *root.parents) if not path.exists()]
    if request.folder and (request.folder / FACTS).exists():
        raise InputError(f"{request.folder} has a run already; --resume goes on with it")
    there = set(request.folder.glob("*")) if request.folder and request.folder.exists() else None
    folder = request.folder or new_run_folder(root, completed.env_id)
    make_folder(folder)
    run = Run(
        folder=folder,
        request=completed,
        experiment=experiment,
        uses=_uses(agent, completed, experiment),
        signals=signals or StopSignals(),
    )
    with stops_in_one_line(run), held(folder), ending_in_order(), ExitStack() as opened:
        try:
            write_facts(folder, completed, experiment, run.uses, notes or {})
            made = set_up(run, opened)
            say_what(run, made.model)
        except BaseException:
            _remove(folder, above, there)
            raise
        try:
            return learn(run, made, added)
        except NoStackError:
            if is_first_step(run, made.model):  # which tells it, as a rule
                _remove(folder, above, there)
            raise


def checked(request: TrainingRequest) -> tuple[NamedAgent, CompleteRequest, Experiment]:
    """Return the agent, the request with all filled in, and its experiment; raises as `train`."""
    agent = find_agent(request.agent, stock=request.stock)
    check_device(request.device)
    request = dataclasses.replace(request, env_id=env_spec(request.env_id).id)
    if request.trained_agent is not None:
        model = trained_model(request.trained_agent, request.env_id)
        request = dataclasses.replace(request, trained_agent=model)
    experiment = checked_experiment(agent, request)
    return agent, _completed(request, experiment), experiment


def checked_for_others(
    request: TrainingRequest,
) -> tuple[NamedAgent, CompleteRequest, Experiment]:
    """
    Return the same where other processes will train: what they begin with has been tried out.

    Raises:
        as `train`.
    """
    agent, completed, experiment = checked(request)
    check_beginning(completed, experiment)
    return agent, completed, experiment


def _remove(folder: Path, above: Sequence[Path], earlier: Container[Path] | None) -> None:
    """Remove what a run that cannot begin has left: its folder, or what was not in it earlier."""
    if earlier is not None:
        for path in folder.glob("*"):
            if path not in earlier:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return
    shutil.rmtree(folder)
    with suppress(OSError):  # another run has put its folder there
        for path in above:
            path.rmdir()


def checked_experiment(
    agent: NamedAgent, request: TrainingRequest, *, begun: bool = False
) -> Experiment:
    """
    Return the experiment of a request with a full `env_id`, if all of it can be done.

    One that has `begun` goes on with all as its config says.

    Raises:
        InputError, ConfigError: it cannot.
    """
    get_plugin_manager().scan()  # saved models name plugins: none is imported for that later on
    experiment = experiment_of(request)
    with closing(open_env(request.env_id, experiment)) as probe:
        wrapped = bool(experiment.vec_env_wrapper)
        check_fit(agent, probe, request.env_id, vec_env_wrapper=wrapped, trained=begun)
        if not wrapped:  # which may compute rewards: it is asked once it is there
            options = experiment.arguments.get("replay_buffer_kwargs") or {}
            check_new_goals(agent, probe, request.env_id, options)
        observations, actions = probe.observation_space, probe.action_space
    check_components(agent, experiment, observations, actions)
    if isinstance(actions, Box):
        check_demonstrations(agent, experiment, actions, request.env_id, request.processes)
    if has_goal(observations):
        experiment = for_goals(experiment)
    return experiment if begun else with_normalized_keys(experiment, observations)


def begun_experiment(
    folder: Path, facts: Facts, agent: NamedAgent, request: TrainingRequest
) -> Experiment:
    """
    Return what a run goes on with: its config, or its Python file where that cannot hold all.

    Args:
        folder: of the run.
        facts: what it was.
        agent: the algorithm.
        request: by which it goes on with its config.

    Raises:
        InputError, ConfigError: as `checked_experiment`, `as_it_was_begun` and `refuse_others`.
    """
    begun = as_it_was_begun(folder, facts, request)
    experiment = checked_experiment(agent, begun, begun=begun is request)
    refuse_others(facts, experiment, begun.config)
    return experiment


def _completed(request: TrainingRequest, experiment: Experiment) -> CompleteRequest:
    """Fill in what was left open."""
    timesteps = request.timesteps or experiment.n_timesteps
    if timesteps is None:
        raise InputError(f"{experiment.source} has no n_timesteps; say --timesteps N")
    save_freq = request.save_freq
    if save_freq is None:
        save_freq = max(timesteps // _CHECKPOINTS, _LEAST_SAVE_FREQ)
    return complete(
        request,
        timesteps=timesteps,
        n_envs=request.n_envs or experiment.n_envs,
        seed=secrets.randbelow(2**31) if request.seed is None else request.seed,
        threads=set_threads(request.threads),
        save_freq=save_freq,
    )


def _uses(agent: NamedAgent, request: TrainingRequest, experiment: Experiment) -> list[Record]:
    """What this run takes from the registry, by its full name and with its version."""
    uses = experiment.records()
    if not agent.is_stock:
        uses.append(get_plugin_manager().find("algorithm", agent.registered).record())
    if request.env_id not in gym.registry:
        uses.append(plugin_environment(request.env_id).record())
    return uses


def say_what(run: Run, model: OffPolicyAlgorithm) -> None:
    """Log what a run is, before it begins."""
    request, experiment = run.request, run.experiment
    title, steps = find_agent(request.agent).title, counted(request.timesteps, "step")
    log.info("%s on %s: %s, seed %s", title, request.env_id, steps, request.seed)
    log.info("hyperparameters of %s:", experiment.source)
    for line in experiment.as_yaml().splitlines()[1:]:
        log.info("%s", line)
    assert isinstance(model.train_freq, TrainFreq)
    per_rollout = model.train_freq.frequency * request.n_envs
    updates = model.gradient_steps if model.gradient_steps >= 0 else per_rollout
    log.info(
        "device %s, threads %s, environments %s, gradient steps per environment step %.3g",
        model.device,
        request.threads,
        request.n_envs,
        updates / per_rollout,
    )
    if request.timesteps <= model.learning_starts:
        starts = f"learning_starts is {model.learning_starts}"
        log.info("no gradient step is taken in %s: %s", steps, starts)
    if why := why_no_tensorboard(run.folder):
        log.info("no TensorBoard log: %s", why)
    log.info("writing to %s", run.folder)
    say_unwritable(experiment)
