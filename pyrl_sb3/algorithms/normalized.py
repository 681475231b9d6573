"""Goals and observations normalised inside the policy."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

GOALS = ("achieved_goal", "desired_goal")


class RunningNorm(nn.Module):
    """
    Values to zero mean and unit variance, as known from all batches seen in training mode.

    The names of the buffers are those that SB3 copies to target networks as they are.

    :param size: of one value
    :param clip: the values are kept in [-clip, clip]
    """

    running_mean: th.Tensor
    running_var: th.Tensor
    running_count: th.Tensor

    def __init__(self, size: int, clip: float) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("running_mean", th.zeros(size))
        self.register_buffer("running_var", th.ones(size))
        self.register_buffer("running_count", th.zeros(1))

    def learn(self, values: th.Tensor) -> None:
        """
        Take account of more values, by the method of Chan 1979
        (http://i.stanford.edu/pub/cstr/reports/cs/tr/79/773/CS-TR-79-773.pdf).

        :param values: ``(B, size)``
        """
        var, mean = th.var_mean(values.detach(), dim=0, correction=0)
        share = len(values) / (self.running_count + len(values))
        difference = mean - self.running_mean
        self.running_var.lerp_(var + difference.square() * (1 - share), share)
        self.running_mean.add_(difference * share)
        self.running_count.add_(len(values))

    def forward(self, values: th.Tensor) -> th.Tensor:
        """:param values: ``(B, size)``, like the result"""
        scale = (self.running_var + 1e-4).rsqrt()
        return ((values - self.running_mean) * scale).clamp(-self.clip, self.clip)


class NormalizedGoals(BaseFeaturesExtractor):
    """
    Achieved and desired goals normalised by one set of statistics, so that they stay comparable,
    and everything else by its own; then joined like SB3's ``CombinedExtractor`` does.

    As in the work on hindsight (Andrychowicz 2017, https://arxiv.org/abs/1707.01495, appendix A),
    statistics are of training batches, relabelled goals included. They are part of the policy:
    saved with it, and with no VecNormalize to keep beside it.

    :param observation_space: a dict of vectors with the keys of a goal
    :param clip: of normalised values
    :raises ValueError: for another space
    """

    def __init__(self, observation_space: spaces.Space[Any], clip: float = 5.0) -> None:
        keyed = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {}
        sizes = {
            key: part.shape[0]
            for key, part in keyed.items()
            if isinstance(part, spaces.Box) and len(part.shape) == 1
        }
        if not set(GOALS) <= set(sizes) or len(sizes) < len(keyed):
            raise ValueError(f"NormalizedGoals is for dicts of vectors with {' and '.join(GOALS)}")
        if not clip > 0:
            raise ValueError(f"clip must be positive, not {clip!r}")
        super().__init__(observation_space, sum(sizes.values()))
        self.keys = list(sizes)
        of_size = {_statistics_of(key): size for key, size in sizes.items()}
        self.norms = nn.ModuleDict({name: RunningNorm(n, clip) for name, n in of_size.items()})

    def forward(self, observations: dict[str, th.Tensor]) -> th.Tensor:
        """:return: ``(B, features_dim)``"""
        if self.training:
            for name, norm in self.norms.items():
                own = [
                    values for key, values in observations.items() if _statistics_of(key) == name
                ]
                assert isinstance(norm, RunningNorm)
                norm.learn(th.cat(own))
        parts = [self.norms[_statistics_of(key)](observations[key]) for key in self.keys]
        return th.cat(parts, dim=1)


def _statistics_of(key: str) -> str:
    return "goal" if key in GOALS else key
