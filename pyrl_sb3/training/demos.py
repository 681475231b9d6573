"""Recording demonstrations, and checking those that a training is to use."""

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from pyrl_sb3.algorithms.cloning import check_for, require_room
from pyrl_sb3.algorithms.demo_observations import as_recorded, recorded_space
from pyrl_sb3.algorithms.demo_rewards import show_true_rewards
from pyrl_sb3.buffers import ReplayBuffer, keep_raw_terminals
from pyrl_sb3.buffers.demofiles import load_demonstrations, save_demonstrations
from pyrl_sb3.buffers.demonstrations import DemonstrationError, Demonstrations, Episode
from pyrl_sb3.buffers.fields import WHOLE
from pyrl_sb3.buffers.tap import RAW_TERMINAL
from pyrl_sb3.config import Experiment, read_experiment
from pyrl_sb3.errors import counted, did_you_mean
from pyrl_sb3.training.agents import NamedAgent
from pyrl_sb3.training.environments import env_spec, vector_env
from pyrl_sb3.training.errors import InputError, made_by
from pyrl_sb3.training.evaluation import EachStep
from pyrl_sb3.training.folders import require_writable, write_whole
from pyrl_sb3.training.hyperparams import packaged_config
from pyrl_sb3.training.recorded import trial_of_run
from pyrl_sb3.training.request import require_at_least
from pyrl_sb3.training.scripted import CONTROLLERS
from pyrl_sb3.training.trial import open_trial

log = logging.getLogger("pyrl_sb3")

SCRIPTED = "scripted"

# From the observations of the one environment to its actions, ``(1, action_dim)``
Act = Callable[[Any], Any]


@dataclass(frozen=True)
class Recording:
    """
    What was recorded.

    Attributes:
        success_rate: as of an `Evaluation`.
        kept: episodes in the file.
        steps: in these.
    """

    success_rate: float | None
    kept: int
    steps: int


def record(
    env_id: str,
    policy: str,
    out: Path | str,
    *,
    episodes: int = 100,
    seed: int = 0,
    failures: bool = False,
    trust: bool = False,
    each_step: EachStep | None = None,
) -> Recording:
    """
    Record episodes into an ``.npz``, for `load_demonstrations`.

    Args:
        env_id: where.
        policy: ``scripted``, or the folder of a run.
        out: the file; what is there already is replaced when all is recorded.
        episodes: how many.
        seed: of the environment.
        failures: also keep episodes that did not end in success.
        trust: run code that the run's config names.
        each_step: called after every step with the number of episodes that had ended before it.

    Raises:
        InputError: no script for the environment, no such run, its actions are discrete, nothing
            worth writing, or the file cannot be written.
    """
    episodes = require_at_least(1, "episodes", episodes)
    seed = require_at_least(0, "seed", seed)
    out = Path(out)
    require_writable(out, "--out", "demos.npz")
    env_id = env_spec(env_id).id
    act, env = (
        _scripted(env_id, seed) if policy == SCRIPTED else _trained(env_id, policy, seed, trust)
    )
    try:
        if not isinstance(env.action_space, spaces.Box):
            raise InputError(
                f"demonstrations are of continuous actions, {env_id} has {env.action_space}"
            )
        found = _episodes(env, act, episodes, each_step)
        space = recorded_space(env), env.action_space
    finally:
        env.close()
    known = [share for _, share in found if share is not None]
    kept = [each for each, _ in found if failures or each.success is not False]
    if not kept:
        many = counted(episodes, "episode")
        raise InputError(f"none of {many} was a success: nothing to write to {out}")
    demonstrations = Demonstrations(episodes=kept, source=str(out), env_id=env_id)
    demonstrations.check(*space)
    write_whole(out, lambda part: save_demonstrations(demonstrations, part))
    rate = float(np.mean(known)) if known else None
    return Recording(rate, len(kept), demonstrations.n_steps)


def _scripted(env_id: str, seed: int) -> tuple[Act, VecEnv]:
    name = env_spec(env_id).name
    if name not in CONTROLLERS:
        known = ", ".join(CONTROLLERS)
        raise InputError(
            f"no script for {env_id}, only for {known}{did_you_mean(name, CONTROLLERS)}; "
            "--policy RUN records a trained agent"
        )
    controller = CONTROLLERS[name]

    def act(observations: Any) -> Any:
        return controller({key: values[0] for key, values in observations.items()})[None]

    settings = read_experiment(packaged_config("her-sac"), "her-sac", env_id)
    plain = replace(settings, env_wrapper=())  # scripts know the environments as they are
    return act, vector_env(env_id, 1, seed, plain)


def _trained(env_id: str, policy: str, seed: int, trust: bool) -> tuple[Act, VecEnv]:
    path = Path(policy)
    if not path.exists():
        raise InputError(f"--policy {policy}: neither `{SCRIPTED}` nor the folder of a run")
    model, env = open_trial(replace(trial_of_run(path, seed=seed, trust=trust), env_id=env_id))
    show_true_rewards(env)  # training does to them what it does to those of the agent
    return lambda observations: model.predict(observations, deterministic=True)[0], env


def _episodes(
    env: VecEnv, act: Act, count: int, each_step: EachStep | None = None
) -> list[tuple[Episode, float | None]]:
    """Return episodes, each with the share of success at its end, where that is known."""
    keep_raw_terminals(env)
    found: list[tuple[Episode, float | None]] = []
    observations = env.reset()
    while len(found) < count:
        steps, states = [], [_raw(env, observations)]
        done = False
        while not done:
            actions = act(observations)
            observations, rewards, dones, infos = env.step(actions)
            if each_step:
                each_step(len(found))
            if isinstance(env, VecNormalize):
                rewards = env.get_original_reward()
            done, info = bool(dones[0]), infos[0]
            steps.append((np.array(actions[0]), float(rewards[0])))
            states.append(_terminal(info) if done else _raw(env, observations))
        episode = _episode([as_recorded(env, state) for state in states], steps, info)
        success = info.get("is_success")
        found.append((episode, None if success is None else float(success)))
    return found


def _raw(env: VecEnv, observations: Any) -> dict[str, Any]:
    """What the environment itself has shown, by key."""
    if isinstance(env, VecNormalize):
        observations = env.get_original_obs()
    return {key: np.array(values[0]) for key, values in _keyed(observations).items()}


def _terminal(info: dict[str, Any]) -> dict[str, Any]:
    return _keyed(info.get(RAW_TERMINAL, info["terminal_observation"]))


def _keyed(observations: Any) -> dict[str, Any]:
    return observations if isinstance(observations, dict) else {WHOLE: observations}


def _episode(
    states: list[dict[str, Any]], steps: list[tuple[Any, float]], info: dict[str, Any]
) -> Episode:
    """Return an episode of observations, one more than steps, and of actions with rewards."""
    actions, rewards = zip(*steps, strict=True)
    success = info.get("is_success")
    return Episode(
        observations={key: np.array([state[key] for state in states]) for key in states[0]},
        actions=np.array(actions),
        rewards=np.array(rewards, dtype=np.float32),
        terminated=not info.get("TimeLimit.truncated", False),
        success=None if success is None else bool(success),
    )


def check_demonstrations(
    agent: NamedAgent, experiment: Experiment, actions: spaces.Box, env_id: str, processes: bool
) -> None:
    """
    Check the demonstrations that an experiment names, if it names any; `processes` as `vector_env`.

    Raises:
        InputError: they cannot be read, are of something else, or another setting of the training
            leaves no place for them.
    """
    source = experiment.arguments.get("demonstrations")
    if source is None:
        return
    if agent.is_stock:
        raise InputError("SB3's algorithms do not learn from demonstrations: leave out --stock")
    buffer = experiment.arguments.get("replay_buffer_class") or ReplayBuffer
    try:
        require_room(buffer, experiment.arguments.get("batch_size", 2))
        found = load_demonstrations(source)
        # As in training, so that nothing is refused there that has passed here, nor the reverse.
        make = partial(vector_env, env_id, 1, 0, experiment, processes=processes)
        with closing(made_by(make, "vec_env_wrapper, frame_stack")) as env:
            check_for(env, actions, found)
    except DemonstrationError as error:
        raise InputError(str(error)) from error
