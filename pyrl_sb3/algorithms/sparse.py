"""What is known of Q-values where rewards are sparse."""

from typing import Any

import torch as th

from pyrl_sb3 import losses
from pyrl_sb3.algorithms.step import GradientSteps


class SparseTargets(GradientSteps):
    """
    Clipped targets for an SB3 off-policy algorithm; mixed in before it.

    :param clip_targets: clip what the target critics say to [-1/(1-gamma), 0]: only for rewards of
        -1 and 0 (Andrychowicz 2017, https://arxiv.org/abs/1707.01495). SAC's entropy is added to
        the clipped value (Hiraoka 2023, https://arxiv.org/abs/2312.05787).
    """

    def __init__(self, *args: Any, clip_targets: bool = False, **kwargs: Any) -> None:
        self.clip_targets = clip_targets
        super().__init__(*args, **kwargs)

    def _clip_target_q(self, next_q: th.Tensor) -> th.Tensor:
        """The Q-values, in the range of the returns where that is known: ``(N, B, 1)``."""
        if not self.clip_targets:
            return next_q
        return losses.clipped_to_sparse_returns(next_q, self.gamma)
