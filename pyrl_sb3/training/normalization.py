"""Normalised environments, new or with statistics that were saved with a model."""

import math
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.save_util import load_from_pkl
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecNormalize,
    VecTransposeImage,
    is_vecenv_wrapped,
    unwrap_vec_normalize,
)

from pyrl_sb3.errors import did_you_mean
from pyrl_sb3.training.errors import InputError, damage, first_line
from pyrl_sb3.training.folders import MODEL, find_statistics, with_zip
from pyrl_sb3.training.untrusted import Captured, read_pickle

_MOST = 64 * 2**20


def normalized(env: VecEnv, **keywords: Any) -> VecNormalize:
    """
    Return an environment in a `VecNormalize`, which takes the keywords.

    Raises:
        InputError: it is to normalise keys that are not there.
    """
    space = env.observation_space
    norm_obs, keys = keywords.get("norm_obs", True), keywords.get("norm_obs_keys")
    if norm_obs and isinstance(space, spaces.Dict):
        for key in keys or ():
            if key not in space.spaces:
                hint = did_you_mean(key, space.spaces)
                raise InputError(f"norm_obs_keys: observations have no {key!r}{hint}")
    env = _turned(env, norm_obs, keys)
    # VecNormalize writes into a Dict, by which environments are checked.
    env.observation_space = deepcopy(env.observation_space)
    return VecNormalize(env, **keywords)


def _turned(env: VecEnv, norm_obs: bool, keys: Iterable[str] | None) -> VecEnv:
    """
    Put the channels of images first that `VecNormalize` will leave images.

    SB3 does so around it, and then stores observations as they were before. What is normalised is
    an image no longer, and flattened as it comes.
    """
    space = env.observation_space
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    taken = set(parts if keys is None else keys) if norm_obs else set()
    last = any(
        is_image_space(part) and not is_image_space_channels_first(part)  # type: ignore[arg-type]
        for key, part in parts.items()
        if key not in taken
    )
    return VecTransposeImage(env) if last and not is_vecenv_wrapped(env, VecTransposeImage) else env


def load_statistics(
    path: Path | str, env: VecEnv, *, trust: bool = False, returns: bool = False
) -> VecEnv:
    """
    Return `env` normalised as the model at `path` saw it in training, and no longer updated.

    The statistics are beside the model; those of RL Zoo in the folder of its settings. Without
    `trust` the file is read without running any of it; with `returns` those of returns too, which
    only learning needs.

    Raises:
        InputError: damaged, of other observations, or it would run code; or `path` is a folder.
    """
    path = with_zip(Path(path))
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the model's file, such as {path / MODEL}")
    statistics = find_statistics(path)
    if not statistics.is_file():
        return env
    try:
        found = _trusted(statistics, env) if trust else _read(statistics, env, returns)
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file comes to
        problem = first_line(error) if trust else damage(error)
        raise InputError(f"{statistics} cannot be read: {problem}") from error
    found.training = False
    found.norm_reward = False
    return found


def adopt_statistics(path: Path, env: VecEnv, *, trust: bool = False) -> None:
    """
    Have an environment begin with the statistics that are beside the model at `path`: those of
    observations, and of returns, by which rewards are scaled, where both have them.

    Raises:
        InputError: as `load_statistics`; or observations are normalised for one of them alone.
    """
    own = unwrap_vec_normalize(env)
    inner = env if own is None else own.venv
    found = load_statistics(path, inner, trust=trust, returns=True)
    theirs = found if isinstance(found, VecNormalize) else None
    seen, here = _seen(theirs), _seen(own)
    if seen != here:
        file = "see `normalize`" if theirs else f"there is no {find_statistics(with_zip(path))}"
        raise InputError(f"{path} has learned from {seen}, here are {here}; {file}")
    if own is None or theirs is None:
        return
    if own.norm_obs:
        own.obs_rms = theirs.obs_rms
    if own.norm_reward:
        own.ret_rms = theirs.ret_rms


def _seen(env: VecNormalize | None) -> str:
    """Say how a model sees observations in an environment."""
    if env is None or not env.norm_obs:
        return "observations as they are"
    if isinstance(env.obs_rms, dict):
        return f"observations with {', '.join(sorted(env.obs_rms)) or 'no key'} normalised"
    return "normalised observations"


def _trusted(statistics: Path, env: VecEnv) -> VecNormalize:
    found = load_from_pkl(statistics)
    if not isinstance(found, VecNormalize):
        raise ValueError("it holds no VecNormalize")
    if found.norm_obs:
        _check_kind(found.obs_rms, env)
    found.set_venv(_turned(env, found.norm_obs, found.norm_obs_keys))
    return found


def _read(statistics: Path, env: VecEnv, returns: bool) -> VecNormalize:
    if statistics.stat().st_size > _MOST:
        raise InputError(f"{statistics} is larger than {_MOST} bytes")
    captured = read_pickle(statistics.read_bytes(), str(statistics))
    state = _state(captured, "VecNormalize")
    moments: Any = state.get("obs_rms")
    norm_obs = state["norm_obs"] is True
    if norm_obs:
        _check_kind(moments, env)
    found = normalized(
        env,
        norm_obs=norm_obs,
        norm_obs_keys=list(moments) if isinstance(moments, dict) else None,
        clip_obs=_positive(state["clip_obs"], "clip_obs"),
        epsilon=_positive(state["epsilon"], "epsilon"),
    )
    if norm_obs and isinstance(found.obs_rms, dict):
        for key, target in found.obs_rms.items():
            _copy(moments[key], target, f"{statistics}: {key}")
    elif norm_obs:
        _copy(moments, found.obs_rms, str(statistics))
    if returns:
        _copy(state["ret_rms"], found.ret_rms, f"{statistics}: ret_rms")
    return found


def _check_kind(moments: Any, env: VecEnv) -> None:
    """Check that observations are dicts for both, with the keys there are, or for neither."""
    space = env.observation_space
    if not isinstance(space, spaces.Dict):
        if isinstance(moments, dict):
            raise ValueError("its observations are dicts, those here are no dicts")
        return
    if not isinstance(moments, dict):
        raise ValueError("its observations are no dicts, those here are dicts")
    for key in moments:
        if key not in space.spaces:
            raise ValueError(f"its observations have {key!r}, those here have not")


def _state(captured: Any, name: str) -> dict[str, Any]:
    if not (isinstance(captured, Captured) and captured.name == name):
        raise ValueError(f"it holds no {name}")
    return captured.state


def _positive(value: Any, name: str) -> float:
    if isinstance(value, (int, float)) and 0 < value < math.inf:
        return float(value)
    raise ValueError(f"its {name} is no positive number")


def _copy(captured: Any, target: RunningMeanStd, what: str) -> None:
    """Copy the moments, each of the shape of an observation, where they are sound."""
    state = _state(captured, "RunningMeanStd")
    for name in ("mean", "var"):
        _check(state[name], target.mean.shape, f"{what}: its {name}")
    if np.min(state["var"], initial=0.0) < 0:
        raise InputError(f"{what}: its var is negative")
    target.mean, target.var = state["mean"], state["var"]
    target.count = _positive(state["count"], "count")


def _check(values: Any, shape: tuple[int, ...], what: str) -> None:
    if not isinstance(values, (np.ndarray, np.generic, int, float)):  # NumPy would unfold lists
        raise InputError(f"{what} is not all finite numbers")
    array: npt.NDArray[Any] = np.asarray(values)
    if array.shape != shape:
        raise InputError(f"{what} is of shape {array.shape}, observations here of {shape}")
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise InputError(f"{what} is not all finite numbers")
