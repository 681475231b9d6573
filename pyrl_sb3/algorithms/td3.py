"""TD3 with a faster gradient step."""

from typing import TypeAlias

import stable_baselines3
import torch as th

from pyrl_sb3 import losses
from pyrl_sb3.algorithms.learners import Backend, Critics, DeterministicActor
from pyrl_sb3.algorithms.named import by_every_name
from pyrl_sb3.algorithms.rollout import Rollouts
from pyrl_sb3.algorithms.step import Metrics, takes_gradient_steps
from pyrl_sb3.policies import TD3Policy

_Learners: TypeAlias = tuple[DeterministicActor, Critics]


class TD3(Rollouts, stable_baselines3.TD3):
    """
    Twin delayed deep deterministic policy gradient (Fujimoto 2018,
    https://arxiv.org/abs/1802.09477).

    From the same weights, batches and random state it takes the steps of SB3's TD3, up to
    rounding. Parameters, saving and logging: see ``stable_baselines3.TD3``.
    """

    policy_aliases = by_every_name(TD3Policy)
    _learners: _Learners

    def _make_learners(self, kind: Backend) -> _Learners:
        mu = kind.DeterministicActor(self.actor, self.actor_target)
        return mu, kind.Critics(self.critic, self.critic_target)

    @takes_gradient_steps
    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """
        Take gradient steps; `learn` calls it.

        :param gradient_steps: how many
        :param batch_size: transitions in the batch of each
        :raises NotANumberError: a loss is NaN
        """
        self._begin_training()
        mu, critics = self._learners
        metrics = Metrics()
        for _ in range(gradient_steps):
            self._n_updates += 1
            batch = self._sample(batch_size)
            s, s_next, w = batch.observations, batch.next_observations, batch.weights

            noise = th.empty_like(batch.actions).normal_(0, self.target_policy_noise)
            a_next = losses.smoothed_action(mu.target_act(s_next), noise, self.target_noise_clip)
            q_next = self._clip_target_q(critics.target_q_values(s_next, a_next))
            y = losses.td_target(batch.rewards, batch.dones, batch.gamma, q_next)
            q = critics.q_values(s, batch.actions)
            critics.descend(losses.critic_gradient(q, y, w))
            metrics.add(critic_loss=losses.critic_loss(q, y, w))

            if self._n_updates % self.policy_delay == 0:
                a_mu = mu.act(s)
                q_mu = critics.q_of_policy(s, a_mu, first=True)
                da = critics.action_gradient(losses.deterministic_policy_gradient(q_mu))
                mu.descend(*self._cloned(batch, critics, a_mu, q_mu, (da,), metrics))
                metrics.add(actor_loss=losses.deterministic_policy_loss(q_mu))
                critics.track(self.tau)
                mu.track(self.tau)
            self._update_priorities(batch, q, y)
        self._record(metrics)
