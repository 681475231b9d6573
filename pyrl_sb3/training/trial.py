"""Trying out a saved model."""

import logging
import math
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from pyrl_sb3.config import Experiment, read_experiment
from pyrl_sb3.config.overrides import Override
from pyrl_sb3.errors import counted
from pyrl_sb3.training.agents import find_agent
from pyrl_sb3.training.environments import env_spec, open_env, vector_env
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.evaluation import EachStep, Evaluation, evaluate
from pyrl_sb3.training.facts import FACTS
from pyrl_sb3.training.fit import check_fit
from pyrl_sb3.training.folders import (
    CHECKPOINTS,
    MODEL,
    find_model,
    find_statistics,
    is_group,
    model_in,
    runs_of,
    zoo_settings,
)
from pyrl_sb3.training.hyperparams import CONFIG, packaged_config
from pyrl_sb3.training.loading import load_model
from pyrl_sb3.training.logs import EVALUATIONS, evaluation_tables
from pyrl_sb3.training.missing import naming_packages
from pyrl_sb3.training.models import check_device, set_threads
from pyrl_sb3.training.normalization import load_statistics
from pyrl_sb3.training.request import make_plain, require_at_least
from pyrl_sb3.training.seeds import SeedGroup, read_group
from pyrl_sb3.training.unwritable import request_for_trials
from pyrl_sb3.training.zoo_runs import environment_asked_for, say_what_is_used

log = logging.getLogger("pyrl_sb3")

# What a config says of the training, whose plugins need not be there any more.
_OF_THE_TRAINING = (
    *("noise", "policy", "policy_kwargs", "callback"),
    *("replay_buffer_class", "replay_buffer_kwargs"),
)
_ONLY_THE_ENVIRONMENT = (
    *(Override((key,), None) for key in _OF_THE_TRAINING),
    Override(("optimize_memory_usage",), False),
)


@dataclass(frozen=True, kw_only=True)
class TrialRequest:
    """
    What was asked for; numbers and the path are taken as by `TrainingRequest`.

    Attributes:
        agent: a name in `AGENTS`.
        env_id: a Gymnasium id.
        path: see `find_model`; None means the agent's folder.
        episodes: how many.
        seed: of the environment.
        device: as in PyTorch, or `auto`.
        render_mode: as in `gymnasium.make`.
        trust: run what model and statistics hold, and take wrappers from any package, where the
            run's config names them.

    Raises:
        InputError: a number is too small or not whole.
    """

    agent: str
    env_id: str
    path: Path | None = None
    episodes: int = 20
    seed: int = 0
    device: str = "auto"
    render_mode: str | None = None
    trust: bool = False

    def __post_init__(self) -> None:
        make_plain(self)
        require_at_least(1, "episodes", self.episodes)
        require_at_least(0, "seed", self.seed)


def open_trial(request: TrialRequest) -> tuple[OffPolicyAlgorithm, VecEnv]:
    """
    Load a model and open an environment as the model knows it, normalisation included.

    Raises:
        ConfigError: the config beside the model is not one, or needs trust.
        InputError: no such environment or model, or they do not go together.
        MissingPluginError: a plugin that the run was made with is not installed.
    """
    with naming_packages(request.path or Path(request.agent)):
        return _opened(request)


def _opened(request: TrialRequest) -> tuple[OffPolicyAlgorithm, VecEnv]:
    agent = find_agent(request.agent)
    device = check_device(request.device)
    env_id = env_spec(request.env_id).id
    path = find_model(run_meant(request.path or Path(agent.name), env_id), env_id, agent.name)
    config, trained_in, changes = _settings(path, agent.name, env_id, trust=request.trust)
    experiment = read_experiment(
        config,
        agent.name,
        trained_in,
        overrides=[*changes, *_ONLY_THE_ENVIRONMENT],
        trust=request.trust,
    )
    if config != packaged_config(agent.name):
        _say_what_lacks(experiment, path)
    with closing(open_env(env_id, experiment)) as probe:
        wrapped = bool(experiment.vec_env_wrapper)
        check_fit(agent, probe, env_id, vec_env_wrapper=wrapped, trained=True)
    set_threads(1)  # one observation at a time is too little work to share
    env = vector_env(
        env_id,
        1,
        request.seed,
        experiment,
        training=False,
        normalize=partial(load_statistics, path, trust=request.trust),
        render_mode=request.render_mode,
    )
    try:
        model = load_model(path, agent, env, device, trust=request.trust)
    except Exception:
        env.close()
        raise
    env.seed(request.seed)  # loading has just seeded it as in training
    return model, env


def _settings(
    model: Path, agent: str, env_id: str, *, trust: bool
) -> tuple[Path, str, list[str | Override]]:
    """The config that a model was trained with, or else its agent's, for which environment, and
    what was changed in it.
    """
    run = run_of(model)
    config = run / CONFIG
    if config.is_file():
        was, changes = request_for_trials(_one_run(run), trust=trust)
        if was is None or was.config is None:
            return config, env_id, [*changes]
        many = Override(("n_envs",), was.n_envs)
        return was.config, env_spec(was.env_id).id, [*was.overrides, many]
    if zoo := zoo_settings(model.parent):
        say_what_is_used(zoo)
        return zoo / CONFIG, env_id, [*environment_asked_for(zoo)]
    return packaged_config(agent), env_id, []


def run_of(model: Path) -> Path:
    """Return the folder of the run that a model is of: its own, or that of its checkpoint."""
    above = model.parent.resolve().parent
    checkpoint = above.name == CHECKPOINTS and (above.parent / FACTS).is_file()
    return above.parent if checkpoint else model.parent


def _one_run(folder: Path) -> Path:
    """A run's folder, or in that of copies, which have the same config, the first one's."""
    if not is_group(folder):
        return folder
    group = read_group(folder)
    return group.run(group.seeds[0])


def _say_what_lacks(experiment: Experiment, model: Path) -> None:
    """Say that a model was trained with normalised observations, where it will not have them."""
    normalized = experiment.normalize is not None and experiment.normalize.get("norm_obs", True)
    statistics = find_statistics(model)
    if normalized and not statistics.is_file():
        log.info("%s is not there: observations are not normalised as in training", statistics)


def run_meant(path: Path, env_id: str) -> Path:
    """
    Return the run that a path means: of a group, or the latest run in a folder; else the path.

    Synchronised copies have one agent for all in the group's folder, independent seeds a best one.
    A run without a model, which is running or has failed, is passed over.
    """
    if is_group(path):
        return _agent_of(path)
    runs = runs_of(path, env_id)[::-1]
    if model_in(path) or not runs:
        return path
    latest = next((run for run in runs if _has_agent(run)), None)
    if latest is None:
        return path
    if latest != runs[0]:
        log.info("%s has no %s yet: that of %s is taken", runs[0], MODEL, latest)
    return _agent_of(latest) if is_group(latest) else latest


def _has_agent(run: Path) -> bool:
    return bool(model_in(run) or (is_group(run) and _with_model(read_group(run))))


def _agent_of(group: Path) -> Path:
    if (group / MODEL).is_file():
        log.info("%s: synchronised copies; %s stands for all of them", group, MODEL)
        return group
    best = best_seed(read_group(group))
    log.info("%s: several seeds; %s is the best by its last evaluation", group, best.name)
    return best


def best_seed(group: SeedGroup) -> Path:
    """
    Return the run whose last evaluation had the highest mean return that is a finite number.

    Raises:
        InputError: none of its runs has a model.
    """
    runs = _with_model(group)
    if not runs:
        raise InputError(f"no seed of {group.folder} has a {MODEL} yet")
    return max(runs, key=_last_return)


def _with_model(group: SeedGroup) -> list[Path]:
    return [run for seed in group.seeds if ((run := group.run(seed)) / MODEL).is_file()]


def _last_return(run: Path) -> float:
    try:
        results = evaluation_tables(run / EVALUATIONS)["results"]
    except InputError:  # never evaluated, or in a file that is damaged
        return -math.inf
    with np.errstate(invalid="ignore"):  # infinities of both signs
        last = float(results[-1].mean())
    return last if math.isfinite(last) else -math.inf


def try_out(request: TrialRequest, each_step: EachStep | None = None) -> Evaluation:
    """Run the episodes that were asked for; raises what `open_trial` raises, and `each_step`."""
    model, env = open_trial(request)
    steps = counted(model.num_timesteps, "step")
    log.info("%s: trained for %s", find_agent(request.agent).title, steps)
    try:
        return evaluate(model, env, request.episodes, each_step)
    finally:
        env.close()
