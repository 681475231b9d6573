"""Checks of shapes, for equations that would broadcast wrong ones."""

import torch as th


def check_same(**pair: th.Tensor) -> None:
    """Raise unless both tensors have the same shape."""
    (name, tensor), (other_name, other) = pair.items()
    if tensor.shape != other.shape:
        raise ValueError(f"{name} is {tuple(tensor.shape)}, {other_name} is {tuple(other.shape)}")


def check_rows(rows: th.Tensor, **others: th.Tensor | None) -> None:
    """Raise unless ``rows`` is ``(B, 1)`` and the last two axes of each of ``others`` are too."""
    if rows.dim() != 2 or rows.shape[1] != 1:
        raise ValueError(f"expected one column, (batch, 1), not {tuple(rows.shape)}")
    for name, tensor in others.items():
        if tensor is not None and tensor.shape[-2:] != rows.shape:
            raise ValueError(
                f"{name} is {tuple(tensor.shape)}, its last axes must be {tuple(rows.shape)}"
            )
