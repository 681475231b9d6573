"""
Checks of shapes, for equations that would broadcast wrong ones.

They run in each gradient step: no operation on tensors.
"""

from typing import NoReturn

import torch as th


def check_same(**pair: th.Tensor) -> None:
    """Raise unless both tensors have the same shape."""
    (name, tensor), (other_name, other) = pair.items()
    if tensor.shape != other.shape:
        raise ValueError(f"{name} is {tuple(tensor.shape)}, {other_name} is {tuple(other.shape)}")


def check_axes(axes: int, **tensors: th.Tensor) -> None:
    """Raise unless each tensor has so many axes."""
    for name, tensor in tensors.items():
        if tensor.dim() != axes:
            _refuse(name, tensor, f"have {axes} axes")


def check_rows(rows: th.Tensor, **others: th.Tensor | None) -> None:
    """Raise unless ``rows`` and each of ``others`` are ``(B, 1)``."""
    shape = rows.shape
    if len(shape) != 2 or shape[1] != 1:
        raise ValueError(f"expected one column, (batch, 1), not {tuple(shape)}")
    for name, tensor in others.items():
        if tensor is not None and tensor.shape != shape:
            _refuse(name, tensor, f"be {tuple(shape)}")


def check_critics(rows: th.Tensor, **ensembles: th.Tensor) -> None:
    """Raise unless each ensemble's values are ``(N, B, 1)``, where ``rows`` is ``(B, 1)``."""
    for name, tensor in ensembles.items():
        if tensor.dim() != 3 or tensor.shape[1:] != rows.shape:
            _refuse(name, tensor, f"be (N, {len(rows)}, 1)")


def check_one_critic(**values: th.Tensor) -> None:
    """Raise unless each is ``(1, B, 1)``, of a single critic."""
    for name, tensor in values.items():
        if tensor.dim() != 3 or tensor.shape[0] != 1 or tensor.shape[2] != 1:
            _refuse(name, tensor, "be (1, B, 1)")


def check_actions(rows: th.Tensor, **others: th.Tensor) -> None:
    """Raise unless each of ``others`` is ``(B, n)``, where ``rows`` is ``(B, 1)``."""
    for name, tensor in others.items():
        if tensor.dim() != 2 or len(tensor) != len(rows):
            _refuse(name, tensor, f"be ({len(rows)}, n)")


def check_discount(rows: th.Tensor, gamma: float | th.Tensor) -> None:
    """Raise unless ``gamma`` is a number, or ``(B, 1)`` as ``rows`` is."""
    if isinstance(gamma, th.Tensor) and gamma.dim() and gamma.shape != rows.shape:
        _refuse("gamma", gamma, f"be a number or {tuple(rows.shape)}")


def check_temperature(**temperatures: float | th.Tensor) -> None:
    """Raise unless each is a number or ``(1,)``."""
    for name, alpha in temperatures.items():
        if isinstance(alpha, th.Tensor) and alpha.dim() and alpha.shape != (1,):
            _refuse(name, alpha, "be a number or (1,)")


def check_number(**numbers: float | th.Tensor) -> None:
    """Raise unless each is a number, or a tensor without axes."""
    for name, number in numbers.items():
        if isinstance(number, th.Tensor) and number.dim():
            _refuse(name, number, "be a number")


def _refuse(name: str, tensor: th.Tensor, must: str) -> NoReturn:
    raise ValueError(f"{name} is {tuple(tensor.shape)}, must {must}")
