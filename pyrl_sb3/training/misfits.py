"""What does not fit into the place that it was kept for: code that goes on with it would fail."""

import dis
import inspect
import numbers
from functools import cache
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.save_util import recursive_getattr

# Others' code may well keep a list, or nothing, where it began with a number.
_KEEP_THEIR_KINDS = ("pyrl_sb3", "stable_baselines3", "sb3_contrib")
_NUMBERS = "biufc"
# What the optimisers of PyTorch keep for each element of a parameter.
_MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "square_avg", "momentum_buffer")


def misfit(new: Any, old: Any, owner: type, name: str) -> str | None:
    """
    Tell what is wrong with a value that was captured; None where it may be put in.

    Args:
        new: the value.
        old: what the object was built with: a number remains one, and an array that is no
            placeholder keeps its shape. Of noise, the same may be written otherwise.
        owner: the object's class, of this package or SB3's; others may do as they like.
        name: of the attribute; those that the class knows nothing of may be anything.
    """
    if owner.__module__.partition(".")[0] not in _KEEP_THEIR_KINDS or name not in _known_to(owner):
        return None
    if issubclass(owner, ActionNoise) and _same_repeated(new, old):
        return None
    if _is_number(old):
        return None if _is_number(new) else f"{_shown(new)} is no number"
    if isinstance(old, np.ndarray) and old.size and old.dtype.kind in _NUMBERS:
        first = 1 if issubclass(owner, BaseBuffer) else 0  # rows that are filled, of all
        there = isinstance(new, np.ndarray) and new.dtype.kind in _NUMBERS
        if not there or new.ndim != old.ndim or new.shape[first:] != old.shape[first:]:
            return f"{_shown(new)} is no array of numbers of shape {old.shape}"
    return None


@cache
def _known_to(owner: type) -> frozenset[str]:
    """Names of the attributes that the code of a class sets; its methods and globals are none."""
    functions = (
        inspect.unwrap(value)
        for each in owner.__mro__
        for member in vars(each).values()
        if inspect.isfunction(value := getattr(member, "fset", member))
    )
    return frozenset(
        operation.argval
        for each in functions
        for operation in dis.get_instructions(each)
        if operation.opname == "STORE_ATTR"
    )


def _same_repeated(new: Any, old: Any) -> bool:
    """Whether of a number and an array of numbers one is the other, written once or for each."""
    both = [
        np.asarray(each) for each in (new, old) if isinstance(each, np.ndarray | numbers.Number)
    ]
    sound = len(both) == 2 and all(each.size and each.dtype.kind in _NUMBERS for each in both)
    return sound and not all(each.ndim for each in both) and bool(np.all(np.equal(*both)))


def _is_number(value: Any) -> bool:
    """Whether it is one; numpy makes scalars of arrays without a dimension."""
    if isinstance(value, (np.ndarray, np.generic)):
        return not value.ndim and value.dtype.kind in _NUMBERS
    return isinstance(value, numbers.Number)


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    return f"a {type(value).__name__}"


def optimizer_misfit(model: BaseAlgorithm) -> str | None:
    """Tell which of a model's optimisers has a state that is not of its parameters, and what."""
    for name in model._get_torch_save_params()[0]:
        optimizer = recursive_getattr(model, name)
        if not type(optimizer).__module__.startswith("torch.optim."):
            continue  # others keep other things by the same names
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                if key in (*_MOMENTS, "step") and not _is_state(key, value, parameter):
                    return f"{name}: {key} does not fit its parameter"
    return None


def _is_state(key: str, value: Any, parameter: th.Tensor) -> bool:
    if not isinstance(value, th.Tensor):
        return value is None or (key == "step" and isinstance(value, (int, float)))
    plain = value.layout == th.strided and not value.requires_grad and value.device.type != "meta"
    if key == "step":
        return plain and value.numel() == 1 and not value.is_complex()
    alike = value.shape == parameter.shape and value.is_complex() == parameter.is_complex()
    return plain and alike
