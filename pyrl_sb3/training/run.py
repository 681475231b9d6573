"""One training run: from what was asked for to a folder with a model in it."""

import dataclasses
import logging
import secrets
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import yaml
from gymnasium.spaces import Box
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, sync_envs_normalization

from pyrl_sb3 import __version__
from pyrl_sb3.config import Experiment
from pyrl_sb3.plugins import get_plugin_manager
from pyrl_sb3.plugins.saved import Record
from pyrl_sb3.training.agents import AGENTS, Agent
from pyrl_sb3.training.environments import check_fit, env_spec, has_goal, open_env, vector_env
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.evaluation import Evaluation, PeriodicEvaluation, evaluate
from pyrl_sb3.training.folders import BEST_MODEL, MODEL, new_run_folder
from pyrl_sb3.training.hyperparams import CONFIG, experiment_of, for_goals
from pyrl_sb3.training.models import (
    build_model,
    check_components,
    check_device,
    save_model,
    set_threads,
)
from pyrl_sb3.training.request import TrainingRequest, TrainingResult
from pyrl_sb3.training.signals import StopAskedError, StopCallback, StopSignals

log = logging.getLogger("pyrl_sb3")

Save = Callable[[OffPolicyAlgorithm, Path], None]


def train(request: TrainingRequest, callbacks: Sequence[BaseCallback] = ()) -> TrainingResult:
    """
    Train as asked; Ctrl-C or SIGTERM ends the training early and still saves.

    The run's folder gets the model, the best model of the evaluations, `evaluations.npz`,
    `*.monitor.csv`, `progress.csv`, TensorBoard's file where it is installed, `run.yml`, and
    `config.yml` with the hyperparameters.

    Raises:
        InputError: what was asked for cannot be done; nothing has been written.
        ConfigError: the same of the hyperparameters.
    """
    agent = AGENTS[request.agent]
    if request.stock:
        agent = agent.stock()
    check_device(request.device)
    request = dataclasses.replace(request, env_id=env_spec(request.env_id).id)
    experiment = _experiment(agent, request)
    request = dataclasses.replace(
        request,
        timesteps=request.timesteps or experiment.n_timesteps,
        n_envs=request.n_envs or experiment.n_envs,
        seed=secrets.randbelow(2**31) if request.seed is None else request.seed,
        threads=set_threads(request.threads),
    )
    if request.timesteps is None:
        raise InputError(f"{experiment.source} has no n_timesteps; say --timesteps N")
    folder = new_run_folder(request.save or Path(agent.name), request.env_id)
    uses = _uses(agent, experiment)
    _write_facts(folder, request, experiment, uses)
    env, eval_env = _environments(request, experiment, folder)
    logger = configure(str(folder), _log_formats())
    try:
        model = _model(agent, env, request, experiment)
        model.set_logger(logger)
        _say_what(request, experiment, model, folder)
        ours = [each.load()(**each.params) for each in experiment.callback]
        save = partial(save_model, uses=uses)
        return _learn(model, eval_env, request, folder, [*callbacks, *ours], save)
    finally:
        logger.close()
        env.close()
        eval_env.close()


def _experiment(agent: Agent, request: TrainingRequest) -> Experiment:
    """Return the experiment, if all can be done."""
    experiment = experiment_of(request)
    probe = open_env(request.env_id, experiment)
    try:
        check_fit(agent, probe, request.env_id)
        assert isinstance(probe.action_space, Box)
        check_components(agent, experiment, probe.observation_space, probe.action_space)
        goal = has_goal(probe.observation_space)
    finally:
        probe.close()
    return for_goals(experiment) if goal else experiment


def _environments(
    request: TrainingRequest, experiment: Experiment, folder: Path
) -> tuple[VecEnv, VecEnv]:
    """Open the environments to learn in, and the one to be evaluated in."""
    assert request.seed is not None
    assert request.n_envs is not None
    learning = evaluating = None
    if experiment.normalize is not None:
        keywords = experiment.normalize
        learning = partial(VecNormalize, **keywords)
        evaluating = partial(VecNormalize, **{**keywords, "training": False, "norm_reward": False})
    env_id, n_envs, seed = request.env_id, request.n_envs, request.seed
    env = vector_env(env_id, n_envs, seed, experiment, monitor=folder, normalize=learning)
    return env, vector_env(env_id, 1, seed + n_envs, experiment, normalize=evaluating)


def _model(
    agent: Agent, env: VecEnv, request: TrainingRequest, experiment: Experiment
) -> OffPolicyAlgorithm:
    assert request.seed is not None
    assert request.timesteps is not None
    seed, device = request.seed, request.device
    timesteps = request.timesteps
    return build_model(agent, env, experiment, timesteps=timesteps, seed=seed, device=device)


def _log_formats() -> list[str]:
    return ["csv", "tensorboard"] if find_spec("tensorboard") else ["csv"]


def _uses(agent: Agent, experiment: Experiment) -> list[Record]:
    """What this run takes from the registry, by its full name and with its version."""
    uses = experiment.records()
    if not agent.is_stock:
        uses.append(get_plugin_manager().find("algorithm", agent.registered).record())
    return uses


def _write_facts(
    folder: Path, request: TrainingRequest, experiment: Experiment, uses: Sequence[Record]
) -> None:
    config = str(request.config) if request.config else None
    asked = {**vars(request), "save": str(folder.parent), "config": config}
    asked["overrides"] = list(request.overrides)
    facts = {
        "pyrl_sb3": __version__,
        "command": sys.argv,
        "request": asked,
        "source": experiment.source,
        "components": uses,
    }
    text = yaml.safe_dump(facts, sort_keys=False)
    (folder / "run.yml").write_text(text, encoding="utf-8")
    (folder / CONFIG).write_text(experiment.as_yaml(), encoding="utf-8")


def _say_what(
    request: TrainingRequest, experiment: Experiment, model: OffPolicyAlgorithm, folder: Path
) -> None:
    title = AGENTS[request.agent].title
    log.info("%s on %s: %s steps, seed %s", title, request.env_id, request.timesteps, request.seed)
    log.info("hyperparameters of %s:", experiment.source)
    for line in experiment.as_yaml().splitlines()[1:]:
        log.info("%s", line)
    assert request.n_envs is not None
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
    if "tensorboard" not in _log_formats():
        log.info("no TensorBoard log: pip install 'pyrl-sb3[tensorboard]' brings it")
    log.info("writing to %s", folder)


def _learn(
    model: OffPolicyAlgorithm,
    eval_env: VecEnv,
    request: TrainingRequest,
    folder: Path,
    callbacks: Sequence[BaseCallback],
    save: Save,
) -> TrainingResult:
    assert request.timesteps is not None
    path = folder / MODEL
    with StopSignals() as signals:
        every = [StopCallback(signals), *callbacks]
        if request.eval_freq != 0:
            best = _SaveBest(folder, save)
            every.append(_periodic_evaluation(eval_env, request, folder, signals, best))
        model.learn(request.timesteps, callback=every)
        save(model, path)
        evaluation = _final_evaluation(model, eval_env, request, signals)
    return TrainingResult(folder, path, model.num_timesteps, evaluation, signals.received)


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


def _periodic_evaluation(
    eval_env: VecEnv,
    request: TrainingRequest,
    folder: Path,
    signals: StopSignals,
    on_new_best: BaseCallback,
) -> BaseCallback:
    assert request.timesteps is not None
    assert request.n_envs is not None
    every = request.eval_freq or max(request.timesteps // 20, 500)
    return PeriodicEvaluation(
        eval_env,
        verbose=0,
        signals=signals,
        callback_on_new_best=on_new_best,
        n_eval_episodes=request.eval_episodes,
        eval_freq=max(every // request.n_envs, 1),
        log_path=str(folder),
    )


def _final_evaluation(
    model: OffPolicyAlgorithm, eval_env: VecEnv, request: TrainingRequest, signals: StopSignals
) -> Evaluation | None:
    env = model.get_env()
    assert env is not None
    sync_envs_normalization(env, eval_env)
    try:
        signals.check()
        return evaluate(model, eval_env, request.eval_episodes, signals.check)
    except StopAskedError:
        return None
