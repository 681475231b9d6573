"""
What the keys of an entry mean in RL Baselines3 Zoo (Raffin 2020,
https://github.com/DLR-RM/rl-baselines3-zoo), key by key.

Each function takes the value as it stands in the file and raises ValueError saying what is wrong.
"""

import math
from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import Any

from pyrl_sb3.config import checks
from pyrl_sb3.config.expressions import read_expression
from pyrl_sb3.errors import did_you_mean, short

# Keys that are no argument of the algorithm, and the types of those that are plain values.
RUN_KEYS: dict[str, Any] = {
    "n_timesteps": int | None,
    "n_envs": int,
    "frame_stack": int | None,
    "noise_type": str | None,
    "noise_std": float | None,
    "policy": Any,
    "normalize": Any,
    "env_kwargs": Any,
    "monitor_kwargs": Any,
    "env_wrapper": Any,
    "vec_env_wrapper": Any,
    "callback": Any,
    "noise": Any,
    "sync": Any,
}
# The zoo writes these as Python in a string; a mapping does as well.
MAPPINGS = ("policy_kwargs", "replay_buffer_kwargs", "env_kwargs", "monitor_kwargs", "normalize")
# Arguments of the algorithm that the command line sets.
FROM_COMMAND_LINE = frozenset({"env", "seed", "device", "verbose", "tensorboard_log"})
# Arguments that SB3 may choose, and how it is told to.
AUTOMATIC = {"ent_coef": ("auto", "auto_0.1"), "target_entropy": ("auto",)}
NOISES = {
    "normal": "stable_baselines3.common.noise:NormalActionNoise",
    "ornstein-uhlenbeck": "stable_baselines3.common.noise:OrnsteinUhlenbeckActionNoise",
}


def mapping(value: Any) -> dict[str, Any] | None:
    """A mapping written as one, or as a string of Python."""
    if isinstance(value, str):
        value = read_expression(value)
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"must be a mapping of names, such as dict(a=1), not {short(value)}")
    return dict(value)


def normalization(value: Any, gamma: float | None) -> dict[str, Any] | None:
    """
    Keyword arguments of ``VecNormalize``; None for no normalisation.

    The discount factor is the algorithm's where the entry gives one.
    """
    keywords = {} if value is True else None if value is False else mapping(value)
    if keywords is not None and gamma is not None:
        keywords = {**keywords, "gamma": gamma}
    return keywords


def monitoring(value: Any) -> dict[str, Any] | None:
    """Keyword arguments of ``Monitor``, which adds its lists of names to tuples."""
    keywords = mapping(value)
    if keywords is None:
        return None
    for key, names in keywords.items():  # in their order, in which mistakes are named
        if key not in ("info_keywords", "reset_keywords"):
            continue
        if not isinstance(names, (list, tuple)) or not all(isinstance(each, str) for each in names):
            raise ValueError(f"{key} must be a list of names, not {short(names)}")
        keywords[key] = tuple(names)
    if "filename" in keywords:
        raise ValueError("filename: what is monitored is written to the run's folder; leave it out")
    if keywords.get("reset_keywords"):
        raise ValueError("reset_keywords: environments are reset without any; leave it out")
    return keywords


def schedule(value: Any) -> float | Callable[[float], float]:
    """A learning rate: a number, or ``lin_7.3e-4``, which falls to zero over the training."""
    if callable(value):
        return value  # of a trusted Python file
    start: Any = value
    if isinstance(value, str):
        kind, underscore, start = value.strip().rpartition("_")
        if underscore and kind not in ("lin", "linear"):
            raise ValueError(f"no schedule {short(kind)}{did_you_mean(kind, ('lin', 'linear'))}")
    try:
        number = float(start)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number < float("inf"):
        raise ValueError(f"must be a number such as 0.001, or lin_0.001, not {short(value)}")
    if not (isinstance(value, str) and "_" in value):
        return number
    from stable_baselines3.common.utils import LinearSchedule

    return LinearSchedule(number, 0.0, 1.0)


def automatic(key: str, text: str) -> str:
    """An entropy coefficient or a target entropy in text: a number, or what SB3 chooses."""
    number = text.removeprefix("auto_") if key == "ent_coef" else text
    try:
        right = math.isfinite(float(number)) and (number == text or float(number) > 0)
    except ValueError:
        right = text == "auto"
    if not right:
        choices = AUTOMATIC[key]
        advice = did_you_mean(text, choices)
        raise ValueError(f"must be a number, or {' or '.join(choices)}, not {short(text)}{advice}")
    return text


def layers(value: Any) -> Any:
    """The widths of layers, those of several networks by name; anything else is left alone."""
    if isinstance(value, dict):
        return {name: _widths(part) for name, part in value.items()}
    return _widths(value)


def _widths(part: Any) -> Any:
    return type(part)(map(_width, part)) if isinstance(part, (list, tuple)) else part


def _width(value: Any) -> Any:
    if not isinstance(value, (str, int, float, type(None))):
        return value  # of a policy of one's own
    width = checks.as_declared(value, int)
    if type(width) is not int or width < 1:
        raise ValueError(f"layers have a whole number of units from 1 on, not {value}")
    return width


def references(value: Any) -> list[tuple[Any, dict[str, Any]]]:
    """Names and arguments of wrappers or callbacks: one or a list, a name or ``{name: {...}}``."""
    if value is None:
        return []
    return [_reference(item) for item in (value if isinstance(value, list) else [value])]


def _reference(item: Any) -> tuple[Any, dict[str, Any]]:
    name, params = item, None
    if isinstance(item, dict):
        if len(item) != 1:
            raise ValueError(f"each must be a name or one name with arguments, not {short(item)}")
        ((name, params),) = item.items()
    params = params or {}
    if not isinstance(params, Mapping):
        raise ValueError(f"the arguments of {short(name)} must be a mapping, not {short(params)}")
    if name is None or isinstance(name, (bool, int, float, list)) or name == "":
        raise ValueError(f"must be the name of a class, not {short(name)}")
    return name, dict(params)


def action_noise(noise_type: str, noise_std: float, action_dim: int | tuple[int, ...]) -> Any:
    """The zoo's action noise, of the shape ``(action_dim,)``, or `action_dim` where that is one."""
    import numpy as np

    mean, sigma = np.zeros(action_dim), noise_std * np.ones(action_dim)
    if noise_type == "normal" and action_dim == ():
        # SB3's class fails without dimensions. Noise that returns within a step is independent.
        return resolve_name(NOISES["ornstein-uhlenbeck"])(mean, sigma, theta=1, dt=1)
    return resolve_name(NOISES[noise_type])(mean, sigma)


# Arguments of policies that are more than one value.
POLICY_ARGUMENTS: dict[str, Callable[[Any], Any]] = {
    "features_extractor_kwargs": mapping,
    "net_arch": layers,
    "optimizer_kwargs": mapping,
}
