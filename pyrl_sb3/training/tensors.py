"""The tensors of a network."""

from collections.abc import Iterator
from typing import Any

import torch as th


def tensors_of(module: th.nn.Module) -> Iterator[tuple[str, th.Tensor]]:
    """Yield parameters and buffers by name; extra states, of any kind, are for the module alone."""
    for name, value in module.state_dict().items():
        if name.rpartition(".")[2] != "_extra_state" and isinstance(value, th.Tensor):
            yield name, value


def may_be_finite(values: Any) -> bool:
    """Whether numbers are all finite; of kinds of tensors that torch does not say it of, True."""
    try:
        tensor = th.as_tensor(values)
        if tensor.layout != th.strided:
            tensor = (tensor.coalesce() if tensor.is_sparse else tensor).values()
        return bool(th.isfinite(tensor).all())
    except (TypeError, ValueError, RuntimeError):
        return True
