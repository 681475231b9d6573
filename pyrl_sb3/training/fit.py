"""Whether an agent can learn and act in an environment."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from pyrl_sb3.training.agents import AGENTS, NamedAgent
from pyrl_sb3.training.errors import InputError

Env = gym.Env[Any, Any]

GOAL_KEYS = ("observation", "achieved_goal", "desired_goal")


def has_goal(space: spaces.Space[Any]) -> bool:
    """Tell whether observations come with an achieved and a desired goal."""
    return isinstance(space, spaces.Dict) and all(key in space.spaces for key in GOAL_KEYS)


def check_fit(
    agent: NamedAgent,
    env: Env,
    env_id: str,
    *,
    vec_env_wrapper: bool = False,
    trained: bool = False,
) -> None:
    """
    Raise InputError, naming what would fit, when the agent cannot act in the environment.

    Observations are not checked where a `vec_env_wrapper` is to come around it, which may give
    others, nor the range of actions where the agent is `trained`: it has learned in that one.
    """
    _check_actions(agent, env, env_id)
    if not trained:
        _check_range(env.action_space, env_id)
    if agent.needs_goal and not has_goal(env.observation_space):
        raise InputError(
            f"{env_id} has no goal: {agent.title} needs observations with {', '.join(GOAL_KEYS)}; "
            f"without a goal use {agent.name.removeprefix('her-')}"
        )
    if not vec_env_wrapper:
        _check_observations(agent, env.observation_space, env_id)


def check_new_goals(
    agent: NamedAgent, env: Env | VecEnv, env_id: str, options: Mapping[str, Any]
) -> None:
    """
    Raise InputError when the agent learns from other goals, whose rewards nobody computes.

    The options are of its replay buffer, which may be to make no new goals.
    """
    mix = options.get("goal_mix") or {"future": options.get("n_sampled_goal", 1)}
    made = any(weight for kind, weight in mix.items() if kind != "real")
    if agent.needs_goal and made and not _computes_rewards(env):
        raise InputError(
            f"{env_id} has no compute_reward, which {agent.title} asks for the rewards of new "
            f"goals; without hindsight use {agent.name.removeprefix('her-')}"
        )


def _computes_rewards(env: Env | VecEnv) -> bool:
    """Whether somebody may answer, of environments together by overriding what asks each."""
    if isinstance(env, gym.Env):
        return env.has_wrapper_attr("compute_reward")
    while isinstance(env, VecEnvWrapper):
        if type(env).env_method is not VecEnvWrapper.env_method:
            return True
        env = env.venv
    return env.has_attr("compute_reward")


def _check_observations(agent: NamedAgent, space: spaces.Space[Any], env_id: str) -> None:
    """Look for what SB3 itself fails on, some of it only when learning starts."""
    parts = space.spaces if isinstance(space, spaces.Dict) else {None: space}
    for key, part in parts.items():
        problem = _observation_problem(part)
        if problem is None:
            continue
        advice = ""
        if _flattenable(space) and not agent.needs_goal:
            advice = "; env_wrapper: gymnasium.wrappers.FlattenObservation makes one vector of them"
        where = "" if key is None else f" ({key!r})"
        raise InputError(f"{env_id} has {problem}{where}, which SB3 does not take{advice}")


def _flattenable(space: spaces.Space[Any]) -> bool:
    try:
        return space.is_np_flattenable
    except NotImplementedError:  # a space of somebody's own that does not say
        return False


def _observation_problem(space: spaces.Space[Any]) -> str | None:
    """What SB3 does not take of observations, or of one key of theirs; None where it does."""
    kind = type(space).__name__
    if isinstance(space, spaces.Dict):
        return "a Dict within its observations"
    if not isinstance(
        space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    ):
        return f"{kind} observations"
    first = np.unique(getattr(space, "start", 0))
    if first.any():
        return f"{kind} observations counted from {first[first != 0][0]}"
    if isinstance(space, spaces.MultiDiscrete) and len(space.shape) > 1:
        return "MultiDiscrete observations of several dimensions"
    if isinstance(space, spaces.Box) and not space.shape:
        return "observations without dimensions"
    return None


def _check_actions(agent: NamedAgent, env: Env, env_id: str) -> None:
    space = env.action_space
    if isinstance(space, spaces.Discrete):
        if space.start != 0:
            raise InputError(f"{env_id} counts its actions from {space.start}: SB3 counts from 0")
        if not (agent.discrete or agent.any_actions):
            raise InputError(
                f"{env_id} has Discrete actions: {agent.title} needs continuous (Box) ones; "
                f"{_fitting(env, discrete=True)} fit"
            )
    elif not isinstance(space, spaces.Box):
        needs = "Discrete" if agent.discrete else "continuous (Box)"
        others = isinstance(space, (spaces.MultiDiscrete, spaces.MultiBinary))
        advice = "; PPO and A2C of stable-baselines3 fit" if others else ""
        kind = type(space).__name__
        raise InputError(f"{env_id} has {kind} actions: {agent.title} needs {needs} ones{advice}")
    elif agent.discrete:
        raise InputError(
            f"{env_id} has continuous (Box) actions: {agent.title} needs Discrete ones; "
            f"{_fitting(env, discrete=False)} fit"
        )
    elif not np.isfinite([space.low, space.high]).all():
        raise InputError(f"{env_id} has unbounded actions: {agent.title} needs finite limits")


def _check_range(space: spaces.Space[Any], env_id: str) -> None:
    if not isinstance(space, spaces.Box) or space.dtype.kind != "i":
        return
    if (space.high - space.low < 0).any():
        raise InputError(
            f"{env_id} has {space.dtype} actions from {space.low.min()} to {space.high.max()}: SB3 "
            f"scales by their difference, which is too large for {space.dtype}; declare them as "
            "float32, or in another wider dtype"
        )


def _fitting(env: Env, *, discrete: bool) -> str:
    """The agents for such actions, with hindsight where there is a goal."""
    goal = has_goal(env.observation_space)
    names = [
        agent.name
        for agent in AGENTS.values()
        if agent.discrete == discrete and agent.needs_goal == goal
    ]
    return f"{', '.join(names[:-1])} and {names[-1]}"
