"""Values against the types that a constructor declares, and the ranges that make sense."""

import inspect
import math
import typing
from collections.abc import Mapping
from inspect import Parameter
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pyrl_sb3.errors import did_you_mean, short

# Least and most, both allowed; None for any finite number.
_BOUNDS: dict[str, tuple[float, float | None]] = {
    "batch_size": (1, None),
    "buffer_size": (1, None),
    "clip_obs": (0, math.inf),
    "clip_reward": (0, math.inf),
    "ent_coef": (0, None),
    "epsilon": (0, None),
    "exploration_final_eps": (0, 1),
    "exploration_fraction": (0, 1),
    "exploration_initial_eps": (0, 1),
    "frame_stack": (1, None),
    "gamma": (0, 1),
    "gradient_steps": (-1, None),
    "learning_starts": (0, None),
    "max_grad_norm": (0, math.inf),
    "n_critics": (1, None),
    "n_envs": (1, None),
    "n_steps": (1, None),
    "n_timesteps": (1, None),
    "noise_std": (0, None),
    "policy_delay": (1, None),
    "sde_sample_freq": (-1, None),
    "target_noise_clip": (0, None),
    "target_policy_noise": (0, None),
    "target_update_interval": (1, None),
    "tau": (0, 1),
    "top_quantiles_to_drop_per_net": (0, None),
}
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "a mapping",
    list: "a list",
    tuple: "a list",
    NoneType: "null",
}
# What YAML has: declarations of these alone are taken at their word.
_PLAIN = (*_WORDS, Mapping, Literal)


def as_declared(value: Any, hint: Any) -> Any:
    """
    The value with its number in the declared type: YAML reads ``1e-3`` as text, and the zoo writes
    ``!!float 1e6`` for whole numbers. A list becomes a tuple where only a tuple will do, and a
    tuple a list.
    """
    kinds = _kinds(hint)
    if isinstance(value, str) and kinds & {int, float}:
        value = _number(value)
    if isinstance(value, float) and int in kinds and float not in kinds and value.is_integer():
        return int(value)
    if isinstance(value, list) and tuple in kinds and list not in kinds:
        return tuple(value)
    if isinstance(value, tuple) and list in kinds and tuple not in kinds:
        return list(value)
    return value


def problem(key: str, value: Any, hint: Any) -> str | None:
    """What is wrong with a value, or None."""
    if not fits(value, hint):
        shown = list(value) if isinstance(value, tuple) else value  # as YAML has it
        words = [part for part in _parts(hint) if get_origin(part) is Literal]
        advice = did_you_mean(value, [str(word) for part in words for word in get_args(part)])
        return f"must be {_wording(hint)}, not {short(shown)}{advice}"
    if type(value) in (int, float) and key in _BOUNDS:
        least, most = _BOUNDS[key]
        if not (value >= least and (math.isfinite(value) if most is None else value <= most)):
            unbounded = most in (None, math.inf)
            above = f"at least {least}" if unbounded else f"from {least} to {most}"
            return f"must be {above}, not {short(value)}"
    return None


def argument(value: Any, parameter: Parameter, key: str = "") -> Any:
    """
    The value as in `as_declared`, for a parameter of a class that is not the algorithm.

    Such declarations may be narrower than what works (`int` with the default None, `np.floating`),
    so that the default is let through, and whatever is, or is declared as, more than YAML has.

    :param key: Whose range it is to be in.
    :raises ValueError: saying what is wrong with it.
    """
    hint = _evaluated(parameter.annotation)
    if value is parameter.default or type(value) not in _WORDS or not _is_plain(hint):
        return value
    kinds = _kinds(hint)
    if type(value) is int and value in (0, 1) and bool in kinds and not kinds & {int, float}:
        return bool(value)  # many write flags so
    value = as_declared(value, hint)
    if message := problem(key, value, hint):
        raise ValueError(message)
    return value


def _evaluated(hint: Any) -> Any:
    """
    A declaration that its module keeps as text, where it is made of Python's own types.

    It is code of the class that was imported and will be called, and no config's.
    """
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, dict(vars(typing)))
    except Exception:
        return Any


def _is_plain(hint: Any) -> bool:
    # Compared by identity: a stranger's annotation may be anything.
    return all(any((get_origin(part) or part) is kind for kind in _PLAIN) for part in _parts(hint))


def fits(value: Any, hint: Any) -> bool:
    """Whether a value has the declared type; what the declaration leaves open fits."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple and _length(hint):
        return (
            isinstance(value, tuple)
            and len(value) == len(arguments)
            and all(fits(each, kind) for each, kind in zip(value, arguments, strict=True))
        )
    if origin is type:
        bases = [each for each in arguments if inspect.isclass(each)]
        return inspect.isclass(value) and all(issubclass(value, base) for base in bases)
    kind = origin or hint
    if kind is None or kind is NoneType:
        return value is None
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    if kind in (bool, str, dict, list, tuple, Mapping):
        return isinstance(value, kind)
    if inspect.isclass(kind) and type(value) in (bool, int, float, str, list, dict, tuple):
        return kind.__module__ == "typing"
    return value is not None or not inspect.isclass(kind)


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _kinds(hint: Any) -> set[Any]:
    return {get_origin(part) or part for part in _parts(hint)}


def _length(hint: Any) -> int | None:
    """How many items a tuple must have; ``tuple[str]``, as many write for some strings, any."""
    arguments = get_args(hint)
    return len(arguments) if len(arguments) > 1 and arguments[-1] is not Ellipsis else None


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else text
    return text


def _wording(hint: Any) -> str:
    parts = [part for part in _parts(hint) if part is not NoneType] or [NoneType]
    return " or ".join(sorted({_word(part) for part in parts}))


def _word(hint: Any) -> str:
    kind = get_origin(hint) or hint
    if kind is Literal:
        return " or ".join(map(str, get_args(hint)))
    if kind is tuple and (length := _length(hint)):
        return f"a list of {length}"
    return _WORDS.get(kind) or f"a {getattr(kind, '__name__', kind)}"
