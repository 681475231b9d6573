"""Environments by name: found, and opened alone or side by side."""

import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

from pyrl_sb3.config import Experiment, wrapping
from pyrl_sb3.errors import did_you_mean
from pyrl_sb3.plugins import get_plugin_manager
from pyrl_sb3.plugins.environments import check_arguments, plugin_ids, plugin_spec
from pyrl_sb3.plugins.errors import RAISED
from pyrl_sb3.training.errors import InputError, complaint, first_line
from pyrl_sb3.training.outermost import Outermost
from pyrl_sb3.training.processes import RenewableSubprocVecEnv
from pyrl_sb3.training.renewable import RenewableVecEnv

Env = gym.Env[Any, Any]

# Packages that register their environments when they are imported: how these names begin.
_PACKAGES = {
    "gymnasium_robotics": ("Fetch", "Hand", "PointMaze", "AntMaze", "Adroit", "FrankaKitchen"),
    "highway_env": ("parking", "highway", "merge", "roundabout", "intersection", "racetrack"),
}
# Where an environment's code lives, and the extra that brings what the code needs.
_EXTRAS = {
    "gymnasium.envs.box2d": "box2d",
    "gymnasium.envs.mujoco": "robotics",
    "gymnasium_robotics": "robotics",
    "highway_env": "highway",
}
_OWN = "-p MODULE, or a .py file, loads what registers one of your own"


def register_installed(env_id: str = "") -> None:
    """
    Register the environments of the packages that are known here and installed; of these no more
    are imported than it takes to find `env_id`.
    """
    likely_first = sorted(_PACKAGES, key=lambda each: not env_id.startswith(_PACKAGES[each]))
    for package in likely_first:
        if env_id in gym.registry or find_spec(package) is None:
            continue
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            # Importing them warns and prints about environments nobody has asked for.
            warnings.simplefilter("ignore")
            gym.register_envs(import_module(package))


def env_spec(env_id: str) -> EnvSpec:
    """
    Return the specification of an environment, which may be one of a plugin's.

    Raises:
        InputError: there is no such environment, or the package that has it is not installed.
        PluginError: several plugins have one of that name.
    """
    register_installed(env_id)
    if ":" in env_id:
        module, _, name = env_id.partition(":")
        raise InputError(
            f"environment {env_id!r}: a name imports no module such as {module}; a plugin that "
            f"offers {name} by the hook pyrl_environments does, or -p {module} if it registers it"
        )
    if env_id not in gym.registry:
        get_plugin_manager().scan()  # modules may register it while they are imported
    spec = gym.registry.get(env_id) or plugin_spec(env_id)
    if spec is None:
        raise InputError(f"no environment {env_id!r}{_what_instead(env_id)}")
    return spec


def _what_instead(env_id: str) -> str:
    for package, names in _PACKAGES.items():
        if env_id.startswith(names) and find_spec(package) is None:
            name, extra = package.replace("_", "-"), _EXTRAS[package]
            return f": install {name} with pip install 'pyrl-sb3[{extra}]'"
    # Both: the nearest name may be that of something else altogether.
    advice = f"{did_you_mean(env_id, [*newest_ids(), *plugin_ids()]) or ';'} {_OWN}"
    return "; ".join([advice, *get_plugin_manager().absent()])


def newest_ids() -> list[str]:
    """Return the ids of all registered environments, of each the newest version only."""
    newest: dict[tuple[str | None, str], EnvSpec] = {}
    for spec in gym.registry.values():
        key = (spec.namespace, spec.name)
        if key not in newest or (spec.version or 0) > (newest[key].version or 0):
            newest[key] = spec
    return sorted(spec.id for spec in newest.values())


class UndrawnError(InputError):
    """An environment that was to draw itself has no way of drawing."""


def open_env(env_id: str, experiment: Experiment) -> Env:
    """
    Open one environment as an experiment has it, wrappers included.

    Raises:
        InputError: unknown id, missing package, or the environment itself refuses.
        PluginError: it is a plugin's, and does not take `env_kwargs`.
    """
    spec = env_spec(env_id)
    try:
        return _wrapped(env_id, experiment)
    except (gym.error.Error, ImportError) as error:
        newer = [name for name in newest_ids() if name.rpartition("-v")[0] == spec.name]
        home = str(spec.entry_point)
        extra = next((extra for path, extra in _EXTRAS.items() if home.startswith(path)), None)
        advice = ""
        if newer and spec.id not in newer:
            advice = f"; did you mean {newer[0]}?"
        elif extra:
            advice = f"; pip install 'pyrl-sb3[{extra}]' brings what it needs"
        raise InputError(f"environment {spec.id}: {first_line(error)}{advice}") from error
    except RAISED as error:
        # Only now: a constructor may take more than its signature says.
        if isinstance(error, TypeError) and spec.id not in gym.registry:
            check_arguments(spec.id, experiment.env_kwargs)
        advice = "check env_kwargs and env_wrapper"
        raise InputError(f"environment {spec.id}: {complaint(error)}; {advice}") from error


def _wrapped(env_id: str, experiment: Experiment, render_mode: str | None = None) -> Env:
    env = _made(env_spec(env_id), experiment.env_kwargs, render_mode)
    wrap = wrapping(experiment.env_wrapper)
    return Outermost(wrap(env) if wrap else env)


def _made(spec: EnvSpec, given: Mapping[str, Any], mode: str | None) -> Env:
    if mode is None:
        return gym.make(spec, **given)
    try:
        return gym.make(spec, **{**given, "render_mode": mode})
    except TypeError as error:
        if "render_mode" not in first_line(error):
            raise
        raise UndrawnError(f"{spec.id} takes no render_mode, by which it could draw") from error


def _opened(env_id: str, experiment: Experiment, training: bool, render_mode: str | None) -> Env:
    env = _wrapped(env_id, experiment, render_mode)
    if not training:
        _tell_of_evaluation(env)
    return env


def _tell_of_evaluation(env: Env) -> None:
    """Set `training` to False wherever it is: each wrapper has its own."""
    if hasattr(env, "training"):
        env.training = False
    if isinstance(env, gym.Wrapper):
        _tell_of_evaluation(env.env)


def vector_env(
    env_id: str,
    n_envs: int,
    seed: int,
    experiment: Experiment,
    *,
    training: bool = True,
    monitor: Path | None = None,
    continued: int | None = None,
    normalize: Callable[[VecEnv], VecEnv] | None = None,
    render_mode: str | None = None,
    processes: bool = False,
) -> VecEnv:
    """
    Open environments side by side, seeded `seed`, `seed + 1`, ...

    Args:
        env_id: a checked id, see `env_spec`.
        n_envs: how many.
        seed: of the first environment.
        experiment: their arguments, wrappers and stacking.
        training: whether an agent learns in them; where it does not, what has an attribute
            `training` has it set to False.
        monitor: a folder for `<i>.monitor.csv`, episode returns as they come.
        continued: the steps, over all environments, after which files that are there go on.
        normalize: wraps them in `VecNormalize`; None leaves observations as they are.
        render_mode: as in `gymnasium.make`.
        processes: each in one of its own.
    """
    makers = [partial(_opened, env_id, experiment, training, render_mode)] * n_envs
    logs = [str(monitor / str(index)) if monitor else None for index in range(n_envs)]
    each = None if continued is None else continued // n_envs
    side_by_side = RenewableSubprocVecEnv if processes else RenewableVecEnv
    venv: VecEnv = side_by_side(makers, logs, experiment.monitor_kwargs, each)
    venv.seed(seed)
    try:
        wrap = wrapping(experiment.vec_env_wrapper)
        venv = wrap(venv) if wrap else venv
        if experiment.frame_stack:
            # Before normalisation: the buffer keeps what VecNormalize was given.
            venv = VecFrameStack(venv, experiment.frame_stack)
        return normalize(venv) if normalize else venv
    except Exception:
        venv.close()
        raise
