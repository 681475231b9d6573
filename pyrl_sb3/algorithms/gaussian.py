"""The squashed Gaussian of SAC, with its backward pass written out."""

import math

import torch as th
from stable_baselines3.sac import policies as sac

# As in SB3's SquashedDiagGaussianDistribution: keeps the logarithm finite where |a| = 1.
EPSILON = 1e-6
# A Python number among tensors is made a tensor and converted on each use, at twice the time of the
# operation; a factor (`alpha`, `value`) of this is not.
ONE = th.ones(())


class SquashedGaussian:
    """
    a = tanh(u), u = mu + sigma eps, eps ~ N(0, I) (Haarnoja 2018,
    https://arxiv.org/abs/1801.01290, appendix C), and
    log pi(a) = log N(u; mu, sigma) - sum log slope, slope = 1 - a^2 + 1e-6.

    Quickest where the transposed arguments are contiguous: what is done to the means and what to
    the deviations then has its numbers side by side.
    """

    def forward(self, head: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        :param head: ``(B, 2 action_dim)``, the means and the logarithms of the deviations
        :param noise: ``(B, action_dim)``, eps
        :return: actions ``(B, action_dim)`` and their log-probabilities ``(B, 1)``
        """
        mean, self._raw_log_std = head.tensor_split(2, dim=-1)
        self._log_std = self._raw_log_std.clamp(sac.LOG_STD_MIN, sac.LOG_STD_MAX)
        self._scaled_noise = self._log_std.exp().mul_(noise)
        self._actions = a = (mean + self._scaled_noise).tanh_()
        self._da_du = th.addcmul(ONE, a, a, value=-1)
        self._slope = th.add(self._da_du, ONE, alpha=EPSILON)
        # eps^2 / 2 + log sigma + log slope
        negative = th.addcmul(self._log_std, noise, noise, value=0.5).add_(self._slope.log())
        constant = 0.5 * math.log(2 * math.pi) * noise.shape[-1]
        return a, negative.sum(dim=-1, keepdim=True).neg_().sub_(ONE, alpha=constant)

    def backward(self, da: th.Tensor, dlog_prob: th.Tensor) -> th.Tensor:
        """
        :param da: ``(rows, action_dim)``, the gradient of the first rows of the last actions
        :param dlog_prob: ``(rows, 1)``, and of their log-probabilities
        :return: the gradient of the head, ``(rows, 2 action_dim)``
        """
        a, da_du, slope, scaled_noise, log_std, raw = (
            each[: len(da)]
            for each in (
                self._actions,
                self._da_du,
                self._slope,
                self._scaled_noise,
                self._log_std,
                self._raw_log_std,
            )
        )
        # log pi holds -log(slope), and dslope/da = -2a
        du = th.addcdiv(da, dlog_prob * a, slope, value=2).mul_(da_du)
        # u moves by sigma eps when log sigma moves by 1; log pi holds -log sigma
        dlog_std = (du * scaled_noise).sub_(dlog_prob)
        dlog_std.mul_(log_std == raw)  # where it was not clamped
        return th.cat([du.T, dlog_std.T]).T
