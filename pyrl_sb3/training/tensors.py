"""The tensors of a network."""

from collections.abc import Iterator

import torch as th


def tensors_of(module: th.nn.Module) -> Iterator[tuple[str, th.Tensor]]:
    """Yield parameters and buffers by name; extra states, of any kind, are for the module alone."""
    for name, value in module.state_dict().items():
        if name.rpartition(".")[2] != "_extra_state" and isinstance(value, th.Tensor):
            yield name, value
