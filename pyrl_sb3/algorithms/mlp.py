"""Perceptrons of the layers in :mod:`pyrl_sb3.algorithms.layers`."""

from collections.abc import Iterable

import torch as th

from pyrl_sb3.algorithms.layers import Layer, Linear

# From here on a product costs more than to look up which of its rows are needed.
WIDE = 192


class Mlp:
    """
    ``N`` perceptrons as one.

    :param layers: the first one is linear
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.layers = list(layers)
        linear = [layer for layer in self.layers if isinstance(layer, Linear)]
        self._wide = len(linear) > 2 and min(each.weight.shape[1] for each in linear[:-1]) >= WIDE

    def forward(self, x: th.Tensor) -> th.Tensor:
        """
        :param x: ``(1, B, inputs)``, the same for all networks
        :return: ``(N, B, outputs)``, a workspace
        """
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, g: th.Tensor) -> None:
        """
        Store the gradients of the parameters; ``g`` is overwritten.

        :param g: ``(N, rows, outputs)``, the gradient of the first rows of the last output
        """
        for layer in reversed(self.layers[1:]):
            layer.parameter_gradients(g)
            g = layer.input_gradient(g)
        self.layers[0].parameter_gradients(g)

    def input_gradient(self, g: th.Tensor, columns: slice) -> th.Tensor:
        """
        The gradient of the given columns of the last input, which all networks saw, without those
        of the parameters; ``g`` is overwritten.

        :param g: ``(N, rows, outputs)``
        :return: ``(rows, columns)``
        """
        first = self.layers[0]
        assert isinstance(first, Linear)
        # The transposed products, of weights that lie together, are quicker.
        weight = first.weight[:, :, columns].mT.contiguous()
        if self._wide and len(g) > 1:
            return self._row_gradients(g, weight)
        for layer in reversed(self.layers[1:]):
            g = layer.input_gradient(g)
        return th.bmm(weight, g.mT).sum(dim=0).T

    def _row_gradients(self, g: th.Tensor, weight: th.Tensor) -> th.Tensor:
        """Network by network, without the rows for which ``g`` has nothing but zeros."""
        dx = g.new_zeros(weight.shape[1], g.shape[1])
        for i, gradient in enumerate(g):
            rows = gradient.any(dim=1).nonzero().flatten()
            d = gradient.index_select(0, rows)
            for layer in reversed(self.layers[1:]):
                d = layer.row_gradient(i, rows, d)
            dx.index_add_(1, rows, weight[i].mm(d.T))
        return dx.T
