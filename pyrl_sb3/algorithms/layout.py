"""From the modules of SB3's networks to flat parameters and layers over them."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch as th
from torch import nn

from pyrl_sb3.algorithms.flat import FlatParameters
from pyrl_sb3.algorithms.layers import GELU, Layer, LayerNorm, Linear, Mlp, ReLU, SiLU, Tanh

# One layer: the modules that read the same input, mostly a single one.
Block: TypeAlias = tuple[Any, ...]
Network: TypeAlias = Sequence[Block]


def containers(module: Any) -> list[Any]:
    """What holds the layers of an actor of SAC or TD3 (one network) or of critics (one each)."""
    if hasattr(module, "q_networks"):
        return list(module.q_networks)
    return [getattr(module, "latent_pi", module.mu)]


def networks(module: Any) -> list[Network]:
    """The layers in `containers`, one network for each."""
    heads = [(module.mu, module.log_std)] if hasattr(module, "latent_pi") else []
    return [[*((layer,) for layer in each), *heads] for each in containers(module)]


def flat_mlp(ensemble: Sequence[Network]) -> tuple[FlatParameters, Mlp]:
    """
    Lay the parameters of equal networks out flat, and the layers over them.

    :param ensemble: ``N`` networks; their modules keep their parameters, which become views
    """
    flat = FlatParameters([list(_parameters(network)) for network in ensemble])
    return flat, Mlp(layers(ensemble[0], flat.data, flat.grad))


def _parameters(network: Network) -> Iterator[th.Tensor]:
    """The weights of a block before its biases: so parallel linear modules become one."""
    for block in network:
        for name in ("weight", "bias"):
            yield from (getattr(part, name) for part in block if hasattr(part, name))


def layers(network: Network, data: th.Tensor, grad: th.Tensor) -> Iterator[Layer]:
    """
    The layers over flat parameters and gradients.

    :param network: any of the ``N``, for the kinds and sizes of its layers
    :param data: ``(N, size)``, parameters in the order of `flat_mlp`
    :param grad: ``(N, size)``, their gradients
    """
    start = 0

    def take(*shape: int) -> tuple[th.Tensor, th.Tensor]:
        nonlocal start
        part = slice(start, start := start + th.Size(shape).numel())
        return data[:, part].view(len(data), *shape), grad[:, part].view(len(grad), *shape)

    for block in network:
        match block[0]:
            case nn.Linear(in_features=inputs):
                outputs = sum(part.out_features for part in block)
                (weight, dweight), (bias, dbias) = take(outputs, inputs), take(1, outputs)
                yield Linear(weight, bias, dweight, dbias)
            case nn.LayerNorm(normalized_shape=(features,), eps=eps):
                (weight, dweight), (bias, dbias) = take(1, features), take(1, features)
                yield LayerNorm(weight, bias, dweight, dbias, eps)
            case nn.GELU(approximate=approximate):
                yield GELU(approximate)
            case nn.ReLU():
                yield ReLU()
            case nn.Tanh():
                yield Tanh()
            case nn.SiLU():
                yield SiLU()
