"""One training run: from what was asked for to a folder with a model in it."""

import dataclasses
import logging
import secrets
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.vec_env import VecEnv, sync_envs_normalization

from pyrl_sb3 import __version__
from pyrl_sb3.training.agents import AGENTS, Agent
from pyrl_sb3.training.environments import check_fit, env_spec, has_goal, open_env, vector_env
from pyrl_sb3.training.evaluation import Evaluation, PeriodicEvaluation, evaluate
from pyrl_sb3.training.folders import BEST_MODEL, MODEL, new_run_folder
from pyrl_sb3.training.hyperparams import hyperparameters
from pyrl_sb3.training.models import build_model, check_device, save_model, set_threads
from pyrl_sb3.training.request import TrainingRequest, TrainingResult
from pyrl_sb3.training.signals import StopAskedError, StopCallback, StopSignals

log = logging.getLogger("pyrl_sb3")

# Goals and positions are lengths of centimetres: without scaling, networks see almost nothing.
_GOAL_NORMALIZATION = {"norm_reward": False, "clip_obs": 5.0}


def train(request: TrainingRequest, callbacks: Sequence[BaseCallback] = ()) -> TrainingResult:
    """
    Train as asked; Ctrl-C or SIGTERM ends the training early and still saves.

    The run's folder gets the model, the best model of the evaluations, `evaluations.npz`,
    `*.monitor.csv`, `progress.csv`, TensorBoard's file where it is installed, and `run.yml`.

    Raises:
        InputError: what was asked for cannot be done; nothing has been written.
    """
    agent = AGENTS[request.agent]
    if request.stock:
        agent = agent.stock()
    env_id, goal = _check(agent, request)
    parameters, entry = hyperparameters(agent.name, env_id)
    if goal:
        parameters = {"normalize": _GOAL_NORMALIZATION, **parameters}
    request = dataclasses.replace(
        request,
        env_id=env_id,
        timesteps=request.timesteps or int(parameters["n_timesteps"]),
        seed=secrets.randbelow(2**31) if request.seed is None else request.seed,
        threads=set_threads(request.threads),
    )
    folder = new_run_folder(request.save or Path(agent.name), env_id)
    _write_facts(folder, request, parameters)
    env, eval_env = _environments(request, parameters, folder)
    logger = configure(str(folder), _log_formats())
    try:
        model = _model(agent, env, request, parameters)
        model.set_logger(logger)
        _say_what(request, entry, model, folder)
        return _learn(model, eval_env, request, folder, callbacks)
    finally:
        logger.close()
        env.close()
        eval_env.close()


def _check(agent: Agent, request: TrainingRequest) -> tuple[str, bool]:
    """Return the environment's full id and whether it has a goal, if all can be done."""
    check_device(request.device)
    env_id = env_spec(request.env_id).id
    probe = open_env(env_id)
    try:
        check_fit(agent, probe, env_id)
        return env_id, has_goal(probe.observation_space)
    finally:
        probe.close()


def _environments(
    request: TrainingRequest, parameters: dict[str, Any], folder: Path
) -> tuple[VecEnv, VecEnv]:
    """Open the environments to learn in, and the one to be evaluated in."""
    assert request.seed is not None
    learning = evaluating = parameters.get("normalize")
    if learning is not None:
        learning = {"gamma": parameters.get("gamma", 0.99), **learning}
        evaluating = {**learning, "training": False, "norm_reward": False}
    n_envs = request.n_envs
    env = vector_env(request.env_id, n_envs, request.seed, monitor=folder, normalize=learning)
    return env, vector_env(request.env_id, 1, request.seed + n_envs, normalize=evaluating)


def _model(
    agent: Agent, env: VecEnv, request: TrainingRequest, parameters: dict[str, Any]
) -> OffPolicyAlgorithm:
    assert request.seed is not None
    others = ("n_timesteps", "normalize")
    keywords = {key: value for key, value in parameters.items() if key not in others}
    return build_model(agent, env, keywords, seed=request.seed, device=request.device)


def _log_formats() -> list[str]:
    return ["csv", "tensorboard"] if find_spec("tensorboard") else ["csv"]


def _write_facts(folder: Path, request: TrainingRequest, parameters: dict[str, Any]) -> None:
    asked = {**vars(request), "save": str(folder.parent)}
    facts = {
        "pyrl_sb3": __version__,
        "command": sys.argv,
        "request": asked,
        "hyperparameters": parameters,
    }
    text = yaml.safe_dump(facts, sort_keys=False)
    (folder / "run.yml").write_text(text, encoding="utf-8")


def _say_what(
    request: TrainingRequest, entry: str, model: OffPolicyAlgorithm, folder: Path
) -> None:
    title = AGENTS[request.agent].title
    log.info("%s on %s: %s steps, seed %s", title, request.env_id, request.timesteps, request.seed)
    log.info("hyperparameters: entry %s of %s.yml", entry, request.agent)
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
) -> TrainingResult:
    assert request.timesteps is not None
    path = folder / MODEL
    with StopSignals() as signals:
        every = [StopCallback(signals), *callbacks]
        if request.eval_freq != 0:
            every.append(_periodic_evaluation(eval_env, request, folder, signals))
        model.learn(request.timesteps, callback=every)
        save_model(model, path)
        evaluation = _final_evaluation(model, eval_env, request, signals)
    return TrainingResult(folder, path, model.num_timesteps, evaluation, signals.received)


class _SaveBest(BaseCallback):
    """Saves model and statistics together: SB3's evaluation saves the model alone."""

    model: OffPolicyAlgorithm

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / BEST_MODEL

    def _on_step(self) -> bool:
        save_model(self.model, self.path)
        return True


def _periodic_evaluation(
    eval_env: VecEnv, request: TrainingRequest, folder: Path, signals: StopSignals
) -> BaseCallback:
    assert request.timesteps is not None
    every = request.eval_freq or max(request.timesteps // 20, 500)
    return PeriodicEvaluation(
        eval_env,
        verbose=0,
        signals=signals,
        callback_on_new_best=_SaveBest(folder),
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
