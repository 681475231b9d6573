"""The squashed Gaussian of SAC, with its backward pass written out."""

import math

import torch as th
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN

# As in SB3's SquashedDiagGaussianDistribution: keeps the logarithm finite where |a| = 1.
EPSILON = 1e-6


class SquashedGaussian:
    """
    a = tanh(u), u = mu + sigma eps, eps ~ N(0, I) (Haarnoja 2018,
    https://arxiv.org/abs/1801.01290, appendix C), and
    log pi(a) = log N(u; mu, sigma) - sum log(1 - a^2 + 1e-6).
    """

    def forward(self, head: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        :param head: ``(B, 2 action_dim)``, the means and the logarithms of the deviations
        :param noise: ``(B, action_dim)``, eps
        :return: actions ``(B, action_dim)`` and their log-probabilities ``(B, 1)``
        """
        mean, self._raw_log_std = head.tensor_split(2, dim=-1)
        log_std = self._raw_log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        self._scaled_noise = log_std.exp().mul_(noise)
        self._actions = (mean + self._scaled_noise).tanh_()
        # 1 - a^2 + 1e-6, the slope of tanh
        self._slope = self._actions.square().neg_().add_(1 + EPSILON)
        log_density = noise.square().mul_(0.5).add_(log_std).add_(self._slope.log())
        constant = 0.5 * math.log(2 * math.pi) * noise.shape[-1]
        return self._actions, log_density.sum(dim=-1, keepdim=True).neg_().sub_(constant)

    def backward(self, da: th.Tensor, dlog_prob: th.Tensor) -> th.Tensor:
        """
        :param da: ``(rows, action_dim)``, the gradient of the first rows of the last actions
        :param dlog_prob: ``(rows, 1)``, and of their log-probabilities
        :return: the gradient of the head, ``(rows, 2 action_dim)``
        """
        rows = len(da)
        a, slope = self._actions[:rows], self._slope[:rows]
        # log pi holds -log(slope), and dslope/da = -2a; da/du = 1 - a^2
        du = (da + 2 * dlog_prob * a / slope) * (1 - a.square())
        # u moves by sigma eps when log sigma moves by 1; log pi holds -log sigma
        dlog_std = du * self._scaled_noise[:rows] - dlog_prob
        raw = self._raw_log_std[:rows]
        dlog_std.mul_((raw >= LOG_STD_MIN) & (raw <= LOG_STD_MAX))
        return th.cat([du, dlog_std], dim=-1)
