"""The written-out passes against autograd, in double precision."""

import pytest
import torch as th
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN
from torch import nn

from pyrl_sb3.algorithms.flat import FlatParameters
from pyrl_sb3.algorithms.gaussian import SquashedGaussian
from pyrl_sb3.algorithms.layers import Mlp
from pyrl_sb3.algorithms.layout import flat_mlp

ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "gelu-tanh": lambda: nn.GELU(approximate="tanh"),
}
CLOSE = {"rtol": 0, "atol": 1e-10}
INPUTS, OUTPUTS, ROWS = 7, 3, 11


def network(activation: str, layer_norm: bool, hidden: list[int], squash: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = INPUTS
    for width in hidden:
        layers.append(nn.Linear(inputs, width))
        if layer_norm:
            layers.append(nn.LayerNorm(width))
        layers.append(ACTIVATIONS[activation]())
        inputs = width
    layers.append(nn.Linear(inputs, OUTPUTS))
    net = nn.Sequential(*layers, *([nn.Tanh()] if squash else []))
    for p in net.parameters():  # so that the weights of the norms are not all one
        nn.init.normal_(p, 0.2, 0.5)
    return net.double()


def ensemble(n: int, *arguments: object) -> tuple[list[nn.Sequential], FlatParameters, Mlp]:
    th.manual_seed(n)
    nets = [network(*arguments) for _ in range(n)]  # type: ignore[arg-type]
    return nets, *flat_mlp([[(layer,) for layer in net] for net in nets])


COMBINATIONS = pytest.mark.parametrize(
    ("n", "activation", "layer_norm", "hidden", "squash"),
    [(n, a, ln, [6, 5], False) for n in (1, 2, 3) for a in ACTIVATIONS for ln in (False, True)]
    + [(1, "relu", False, [6], True), (2, "relu", True, [], False), (1, "silu", True, [4], True)],
)


def assert_reads(nets: list[nn.Sequential], flat: FlatParameters, mlp: Mlp, x: th.Tensor) -> None:
    """A forward pass and one back from the first rows, against autograd."""
    for rows in (len(x), len(x) // 2):
        expected = th.stack([net(x) for net in nets])
        g = th.randn(len(nets), rows, OUTPUTS, dtype=th.float64)
        gradients = th.autograd.grad(expected[:, :rows], [*flat.parameters], g)
        th.testing.assert_close(mlp.forward(x.unsqueeze(0)), expected, **CLOSE)
        mlp.backward(g)
        for actual, wanted in zip(flat.views(flat.grad), gradients, strict=True):
            th.testing.assert_close(actual, wanted, **CLOSE)


@COMBINATIONS
def test_forward_and_backward_are_autograds(n, activation, layer_norm, hidden, squash):
    parts = ensemble(n, activation, layer_norm, hidden, squash)
    assert_reads(*parts, th.randn(ROWS, INPUTS, dtype=th.float64))


@COMBINATIONS
def test_input_gradient_is_autograds(n, activation, layer_norm, hidden, squash):
    nets, flat, mlp = ensemble(n, activation, layer_norm, hidden, squash)
    x = th.randn(ROWS, INPUTS, dtype=th.float64, requires_grad=True)
    g = th.randn(n, ROWS, OUTPUTS, dtype=th.float64)
    (expected,) = th.autograd.grad(th.stack([net(x) for net in nets]), x, g)
    mlp.forward(x.detach().unsqueeze(0))
    actual = mlp.input_gradient(g.clone(), slice(-2, None))
    th.testing.assert_close(actual, expected[:, -2:], **CLOSE)
    assert not flat.grad.any()


@pytest.mark.parametrize("activation", ["relu", "silu", "gelu"])
def test_batches_may_change_their_size(activation: str) -> None:
    nets, flat, mlp = ensemble(2, activation, True, [6, 5], False)
    for rows in (4, 8, 4):
        assert_reads(nets, flat, mlp, th.randn(rows, INPUTS, dtype=th.float64))


def test_a_tensor_may_change_its_numbers() -> None:
    """What was seen of a tensor is not looked up again when the same one comes."""
    nets, _, mlp = ensemble(2, "relu", False, [6, 5], False)
    x = th.zeros(1, 4, INPUTS, dtype=th.float64)
    for _ in range(2):
        x.normal_()
        expected = th.stack([net(x[0]) for net in nets])
        th.testing.assert_close(mlp.forward(x), expected, **CLOSE)


def test_parallel_linear_layers_become_one() -> None:
    th.manual_seed(0)
    trunk, mu, log_std = (nn.Linear(4, 4).double() for _ in range(3))
    flat, mlp = flat_mlp([[(trunk,), (nn.ReLU(),), (mu, log_std)]])
    x = th.randn(5, 4, dtype=th.float64)
    latent = trunk(x).relu()
    expected = th.cat([mu(latent), log_std(latent)], dim=1)
    th.testing.assert_close(mlp.forward(x[None])[0], expected, **CLOSE)
    assert len(mlp.layers) == 3
    g = th.randn(1, 5, 8, dtype=th.float64)
    gradients = th.autograd.grad(expected, flat.parameters, g[0])
    mlp.backward(g)
    for actual, wanted in zip(flat.views(flat.grad), gradients, strict=True):
        th.testing.assert_close(actual, wanted, **CLOSE)


@pytest.mark.parametrize("rows", [9, 4])
def test_gaussian_is_autograds(rows: int) -> None:
    th.manual_seed(0)
    head = 2 * th.randn(9, 6, dtype=th.float64)
    head[0, 3], head[1, 4] = LOG_STD_MAX + 1, LOG_STD_MIN - 1
    head.requires_grad_()
    noise = th.randn(9, 3, dtype=th.float64)
    mean, raw = head.chunk(2, dim=1)
    log_std = raw.clamp(LOG_STD_MIN, LOG_STD_MAX)
    a = (mean + log_std.exp() * noise).tanh()
    # Normal.log_prob of u = mean + std * noise would cancel digits where std is e^-20.
    density = th.distributions.Normal(0, 1).log_prob(noise) - log_std
    log_prob = (density - (1 - a**2 + 1e-6).log()).sum(dim=1, keepdim=True)

    gaussian = SquashedGaussian()
    actual = gaussian.forward(head.detach(), noise)
    th.testing.assert_close(actual, (a.detach(), log_prob.detach()), **CLOSE)

    da, dlog_prob = th.randn(rows, 3, dtype=th.float64), th.randn(rows, 1, dtype=th.float64)
    (expected,) = th.autograd.grad((a[:rows], log_prob[:rows]), head, (da, dlog_prob))
    th.testing.assert_close(gaussian.backward(da, dlog_prob), expected[:rows], **CLOSE)
