"""
Acting in numpy, on the memory of the parameters.

For the few rows of a step in the environments, numpy needs less than half of torch's time, most of
which is dispatch.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from stable_baselines3.sac import policies as sac

from pyrl_sb3.algorithms.layers import Layer, LayerNorm, Linear, Mlp, ReLU, Tanh

Array: TypeAlias = npt.NDArray[Any]


def features_of(space: spaces.Space[Any], keys: list[str]) -> Callable[[Any], Array]:
    """
    A function from observations of the environments to features, ``(n_envs, features_dim)``.

    :param keys: of a dict space, in the order in which they are joined
    """
    if not isinstance(space, spaces.Dict):
        return lambda observations: observations.reshape(len(observations), -1)
    return lambda observations: np.concatenate(
        [observations[key].reshape(len(observations[key]), -1) for key in keys], axis=1
    )


class Forward:
    """The forward pass of the first network of ``mlp``, keeping nothing."""

    def __init__(self, mlp: Mlp) -> None:
        self._functions = [_function(layer) for layer in mlp.layers]

    def __call__(self, features: Array) -> Array:
        """
        :param features: ``(n_envs, features_dim)``
        :return: ``(n_envs, outputs)``
        """
        x = features
        for function in self._functions:
            x = function(x)
        return x


def _function(layer: Layer) -> Callable[[Array], Array]:
    if isinstance(layer, Linear):
        weight, bias = layer.weight[0].T.numpy(), layer.bias[0].numpy()
        # SB3 reads observations in the precision of the parameters.
        return lambda x: x.astype(weight.dtype, copy=False) @ weight + bias
    if isinstance(layer, LayerNorm):
        scale, shift, eps = layer.weight[0].numpy(), layer.bias[0].numpy(), layer.eps
        return lambda x: (x - x.mean(-1, keepdims=True)) / _deviation(x, eps) * scale + shift
    if isinstance(layer, ReLU):
        return lambda x: np.maximum(x, 0)
    if isinstance(layer, Tanh):
        return np.tanh
    return lambda x: layer.forward(th.from_numpy(x)).numpy()


def _deviation(x: Array, eps: float) -> Array:
    return np.sqrt(x.var(-1, keepdims=True) + eps)


def gaussian_actions(head: Array) -> Array:
    """
    Draw squashed Gaussian actions, from torch's generator as SB3 does.

    :param head: ``(n_envs, 2 action_dim)``, the means and the logarithms of the deviations
    :return: ``(n_envs, action_dim)``, in [-1, 1]
    """
    half = head.shape[1] // 2
    mean, log_std = head[:, :half], head[:, half:]
    noise = th.randn(mean.shape, dtype=th.from_numpy(head).dtype).numpy()
    deviation = np.exp(np.minimum(np.maximum(log_std, sac.LOG_STD_MIN), sac.LOG_STD_MAX))
    return np.tanh(mean + deviation * noise)
