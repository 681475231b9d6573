"""DQN, with double Q-learning where that is wanted."""

from typing import Any

import stable_baselines3
import torch as th

from pyrl_sb3 import discrete_losses
from pyrl_sb3.algorithms.discrete import DiscreteSteps, check_flags, descend
from pyrl_sb3.algorithms.named import by_every_name
from pyrl_sb3.algorithms.step import Batch, Metrics
from pyrl_sb3.discrete_policies import DQNPolicy


class DQN(DiscreteSteps, stable_baselines3.DQN):
    """
    Deep Q-learning (Mnih 2015, https://doi.org/10.1038/nature14236).

    From the same weights, batches and random state it takes the steps of SB3's DQN, up to rounding.
    Importance weights and priorities of prioritised replay buffers are used. Other parameters,
    saving and logging: see ``stable_baselines3.DQN``.

    :param double_q: choose the next action by the network that is trained and value it by the
        target network (van Hasselt 2016, https://arxiv.org/abs/1509.06461)
    :raises ValueError: ``double_q`` is neither True nor False
    """

    policy_aliases = by_every_name(DQNPolicy)

    def __init__(self, *args: Any, double_q: bool = False, **kwargs: Any) -> None:
        self.double_q = double_q
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        check_flags(self, "double_q")
        super()._setup_model()

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """
        Take gradient steps; `learn` calls it.

        :param gradient_steps: how many
        :param batch_size: transitions in the batch of each
        :raises NotANumberError: a loss is NaN
        """
        self._ensure_bound()
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        metrics = Metrics()
        for _ in range(gradient_steps):
            batch = self._sample(batch_size)
            y = self._target(batch)
            q = self.q_net(batch.observations).gather(1, batch.actions.long())
            loss = discrete_losses.huber_loss(q, y, batch.weights)
            descend(self.policy.optimizer, loss, self.max_grad_norm)
            self._update_priorities(batch, q.detach().unsqueeze(0), y)
            metrics.add(loss=loss.detach())
        self._n_updates += gradient_steps
        self._record(metrics)

    @th.no_grad()
    def _target(self, batch: Batch) -> th.Tensor:
        """``(B, 1)``"""
        next_q = self.q_net_target(batch.next_observations)
        choosing_q = self.q_net(batch.next_observations) if self.double_q else next_q
        return discrete_losses.q_learning_target(
            batch.rewards, batch.dones, batch.gamma, next_q, choosing_q
        )
