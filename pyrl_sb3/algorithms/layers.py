"""
Forward and backward passes of multilayer perceptrons, written out.

For networks this small, autograd's bookkeeping and one dispatch per parameter cost more than the
matrix products. Here ``N`` networks of one layout (an ensemble of critics, or one actor) run as
one: arrays are ``(N, B, features)``, each operation handles all networks, and results go to
workspaces that are allocated once and overwritten by the next forward or backward pass. Only the
output of a narrow linear layer is a new tensor each time.

A layer has ``forward(x)``, ``parameter_gradients(g)`` (stores what follows from ``g``, the
gradient of its output) and ``input_gradient(g)``. ``g`` may have fewer rows than ``x`` had: the
gradient of the first rows.
"""

from collections.abc import Iterable
from typing import Protocol

import torch as th

NARROW = 32


def _workspace(current: th.Tensor, like: th.Tensor, *shape: int) -> th.Tensor:
    """``current`` where it has this shape, else a new tensor of the kind of ``like``."""
    return current if current.shape == shape else like.new_empty(shape)


class Layer(Protocol):
    def forward(self, x: th.Tensor) -> th.Tensor: ...
    def parameter_gradients(self, g: th.Tensor) -> None: ...
    def input_gradient(self, g: th.Tensor) -> th.Tensor: ...


class Linear:
    """
    y = x W^T + b.

    :param weight: ``(N, outputs, inputs)``; :param bias: ``(N, 1, outputs)``; and their gradients
    """

    def __init__(
        self, weight: th.Tensor, bias: th.Tensor, dweight: th.Tensor, dbias: th.Tensor
    ) -> None:
        self.weight, self.bias, self.dweight, self.dbias = weight, bias, dweight, dbias
        self._transposed, self._bias_column = weight.mT, bias.mT
        # Then the transposed product is quicker, and its rows, such as the means of a Gaussian, are
        # contiguous. The result is small enough to be a new tensor each time.
        self._narrow = weight.shape[1] <= NARROW
        self._few_inputs = weight.shape[2] <= NARROW
        self.y = self.dx = self._ones = weight.new_empty(0)
        # What was read last. Views are made anew only when it is another tensor: in most layers it
        # is a workspace, the same in every step.
        self.x: th.Tensor | None = None
        self.g: th.Tensor | None = None

    def forward(self, x: th.Tensor) -> th.Tensor:
        """:param x: ``(N, B, inputs)``, or ``(1, B, inputs)`` when all networks see the same"""
        if x is not self.x:
            self._read(x)
        if self._narrow:
            return th.baddbmm(self._bias_column, self.weight, self._x_transposed).mT
        return th.baddbmm(self.bias, self._x, self._transposed, out=self.y)

    def _read(self, x: th.Tensor) -> None:
        n, outputs, _ = self.weight.shape
        self.x, self.g = x, None
        self._x = x if len(x) == n else x.expand(n, -1, -1)
        self._x_transposed = self._x.mT
        self.y = _workspace(self.y, x, n, x.shape[1], outputs)

    def parameter_gradients(self, g: th.Tensor) -> None:
        if g is not self.g:
            self._read_gradient(g)
        # Half the time of a sum, and first, while what was just written is in the cache
        th.bmm(self._ones, g, out=self.dbias)
        if self._few_inputs:
            # At half the time, with the copy
            self.dweight.copy_(th.bmm(self._x_rows_transposed, g).mT)
        else:
            th.bmm(self._g_transposed, self._x_rows, out=self.dweight)

    def _read_gradient(self, g: th.Tensor) -> None:
        n, rows, _ = g.shape
        self.g, self._g_transposed, self._x_rows = g, g.mT, self._x[:, :rows]
        self._x_rows_transposed = self._x_rows.mT
        if self._ones.shape != (n, 1, rows):
            self._ones = g.new_ones(n, 1, rows)

    def input_gradient(self, g: th.Tensor) -> th.Tensor:
        self.dx = _workspace(self.dx, g, *g.shape[:2], self.weight.shape[2])
        if self.weight.shape[1] == 1:
            return th.mul(g, self.weight, out=self.dx)
        return th.bmm(g, self.weight, out=self.dx)


class LayerNorm:
    """y = w (x - mean) / sqrt(var + eps) + b (Ba 2016, https://arxiv.org/abs/1607.06450)."""

    def __init__(
        self,
        weight: th.Tensor,
        bias: th.Tensor,
        dweight: th.Tensor,
        dbias: th.Tensor,
        eps: float,
    ) -> None:
        """Parameters and gradients are ``(N, 1, features)``."""
        self.weight, self.bias, self.dweight, self.dbias = weight, bias, dweight, dbias
        self.eps, self._features = eps, weight.shape[2:]
        self.y = weight.new_empty(0)

    def forward(self, x: th.Tensor) -> th.Tensor:
        self.x = x
        # Without the parameters, which PyTorch's would have the same for all networks.
        self.normal, self.mean, self.inverse_std = th.native_layer_norm(
            x, self._features, None, None, self.eps
        )
        self.y = _workspace(self.y, x, *x.shape)
        return th.addcmul(self.bias, self.normal, self.weight, out=self.y)

    def parameter_gradients(self, g: th.Tensor) -> None:
        th.sum(g * self.normal[:, : g.shape[1]], dim=1, keepdim=True, out=self.dweight)
        th.sum(g, dim=1, keepdim=True, out=self.dbias)

    def input_gradient(self, g: th.Tensor) -> th.Tensor:
        rows = slice(g.shape[1])
        dx, _, _ = th.ops.aten.native_layer_norm_backward(
            g.mul_(self.weight),
            self.x[:, rows].contiguous(),
            self._features,
            self.mean[:, rows].contiguous(),
            self.inverse_std[:, rows].contiguous(),
            None,
            None,
            [True, False, False],
        )
        return dx


class Activation:
    """What all activations share: no parameters, and of what they keep, the rows that g has."""

    kept: th.Tensor | None = None
    _g: th.Tensor | None = None

    def _keep(self, tensor: th.Tensor) -> th.Tensor:
        if tensor is not self.kept:
            self.kept, self._g = tensor, None
        return tensor

    def _kept_rows(self, g: th.Tensor) -> th.Tensor:
        if g is not self._g:
            assert self.kept is not None
            self._g, self._rows = g, self.kept[:, : g.shape[1]]
        return self._rows

    def parameter_gradients(self, g: th.Tensor) -> None:
        pass


class ReLU(Activation):
    def forward(self, x: th.Tensor) -> th.Tensor:
        return self._keep(x.relu_())

    def input_gradient(self, g: th.Tensor) -> th.Tensor:
        y = self._kept_rows(g)
        return th.ops.aten.threshold_backward.grad_input(g, y, 0, grad_input=g)


class Tanh(Activation):
    def forward(self, x: th.Tensor) -> th.Tensor:
        return self._keep(x.tanh_())

    def input_gradient(self, g: th.Tensor) -> th.Tensor:
        return th.ops.aten.tanh_backward.grad_input(g, self._kept_rows(g), grad_input=g)


class SiLU(Activation):
    y = th.empty(0)

    def forward(self, x: th.Tensor) -> th.Tensor:
        self.y = _workspace(self.y, x, *x.shape)
        return th.ops.aten.silu.out(self._keep(x), out=self.y)

    def input_gradient(self, g: th.Tensor) -> th.Tensor:
        return th.ops.aten.silu_backward.grad_input(g, self._kept_rows(g), grad_input=g)


class GELU(Activation):
    """:param approximate: ``"none"`` or ``"tanh"``, as in ``torch.nn.GELU``"""

    y = th.empty(0)

    def __init__(self, approximate: str) -> None:
        self.approximate = approximate

    def forward(self, x: th.Tensor) -> th.Tensor:
        self.y = _workspace(self.y, x, *x.shape)
        return th.ops.aten.gelu.out(self._keep(x), approximate=self.approximate, out=self.y)

    def input_gradient(self, g: th.Tensor) -> th.Tensor:
        x = self._kept_rows(g)
        return th.ops.aten.gelu_backward.grad_input(
            g, x, approximate=self.approximate, grad_input=g
        )


class Mlp:
    """
    ``N`` perceptrons as one.

    :param layers: the first one is linear
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.layers = list(layers)

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
        for layer in reversed(self.layers[1:]):
            g = layer.input_gradient(g)
        first = self.layers[0]
        assert isinstance(first, Linear)
        # The transposed product, of weights that lie together, is quicker.
        each = th.bmm(first.weight[:, :, columns].mT.contiguous(), g.mT)
        return each.sum(dim=0).T
