"""SAC with a faster gradient step."""

from typing import TypeAlias

import stable_baselines3

from pyrl_sb3 import losses
from pyrl_sb3.algorithms.learners import Backend, Critics, GaussianActor, Temperature
from pyrl_sb3.algorithms.named import by_every_name
from pyrl_sb3.algorithms.rollout import Rollouts
from pyrl_sb3.algorithms.step import Metrics, takes_gradient_steps, update_temperature
from pyrl_sb3.noise.parameter import ParameterNoise
from pyrl_sb3.noise.policy import PolicyNoise
from pyrl_sb3.policies import SACPolicy

_Learners: TypeAlias = tuple[GaussianActor, Critics, Temperature | None]


class SAC(Rollouts, stable_baselines3.SAC):
    """
    Soft actor-critic (Haarnoja 2018, https://arxiv.org/abs/1812.05905).

    From the same weights, batches and random state it takes the steps of SB3's SAC, up to
    rounding. Parameters, saving and logging: see ``stable_baselines3.SAC``.
    """

    policy_aliases = by_every_name(SACPolicy)
    takes_noise = frozenset({ParameterNoise, PolicyNoise})

    _learners: _Learners

    def _make_learners(self, kind: Backend) -> _Learners:
        critics = kind.Critics(self.critic, self.critic_target)
        pi = kind.GaussianActor(self.actor, critics)
        if self.ent_coef_optimizer is None:
            return pi, critics, None
        assert self.log_ent_coef is not None
        return pi, critics, kind.Temperature(self.log_ent_coef, self.ent_coef_optimizer)

    @takes_gradient_steps
    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """
        Take gradient steps; `learn` calls it.

        :param gradient_steps: how many
        :param batch_size: transitions in the batch of each
        :raises NotANumberError: a loss is NaN
        """
        self._begin_training()
        pi, critics, temperature = self._learners
        metrics = Metrics()
        for step in range(gradient_steps):
            batch = self._sample(batch_size)
            s, s_next, w = batch.observations, batch.next_observations, batch.weights
            a_pi, log_pi, a_next, log_pi_next = pi.sample(s, s_next)
            alpha = update_temperature(
                temperature or self.ent_coef_tensor, log_pi, float(self.target_entropy), metrics
            )

            q_next = self._clip_target_q(critics.target_q_values(s_next, a_next))
            y = losses.soft_td_target(
                batch.rewards, batch.dones, batch.gamma, q_next, alpha, log_pi_next
            )
            q = critics.q_values(s, batch.actions)
            critics.descend(losses.critic_gradient(q, y, w, scale=0.5))

            q_pi = critics.q_of_policy(s, a_pi)
            dq, dlog_pi = losses.soft_policy_gradient(q_pi, alpha, log_pi)
            gradients = critics.action_gradient(dq), dlog_pi
            pi.descend(*self._cloned(batch, critics, a_pi, q_pi, gradients, metrics))

            if step % self.target_update_interval == 0:
                critics.track(self.tau)
            self._update_priorities(batch, q, y)
            metrics.add(
                actor_loss=losses.soft_policy_loss(q_pi, alpha, log_pi),
                critic_loss=losses.critic_loss(q, y, w, scale=0.5),
            )
        self._n_updates += gradient_steps
        self._record(metrics)
