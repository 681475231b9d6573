"""Soft actor-critic for discrete actions."""

import math
from contextlib import suppress
from numbers import Integral, Real
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, Schedule

from pyrl_sb3 import discrete_losses, losses
from pyrl_sb3.algorithms.autograd import Follower, Temperature
from pyrl_sb3.algorithms.discrete import DiscreteSteps, check_flags, descend
from pyrl_sb3.algorithms.named import by_every_name
from pyrl_sb3.algorithms.step import Batch, Metrics, update_temperature
from pyrl_sb3.discrete_policies import DiscreteSACPolicy


class DiscreteSAC(DiscreteSteps, OffPolicyAlgorithm):
    """
    Soft actor-critic with expectations over discrete actions in the place of samples (Christodoulou
    2019, https://arxiv.org/abs/1910.07207), and remedies of Zhou 2022
    (https://arxiv.org/abs/2209.10081).

    Deviations: the critics are averaged unless ``average_q=False`` (Zhou 2022, the first paper has
    their minimum); the earlier policy of the entropy penalty is one that follows the actor by
    ``tau``, in the place of entropies kept with the transitions; log alpha is learned, as in SB3;
    the actor's loss uses the critics from before their step.

    Other parameters: see ``stable_baselines3.SAC``; all after ``learning_rate`` are keyword-only.
    ``action_noise`` and ``use_sde`` are refused: actions are drawn from the policy already.

    :param ent_coef: temperature, ``auto`` or ``auto_0.1`` to learn it (from 0.1), as in SB3's SAC
    :param target_entropy: ``auto`` for ``target_entropy_scale`` * log(number of actions)
    :param target_entropy_scale: 0.98 in Christodoulou 2019: almost uniform; lower values let the
        policy decide
    :param final_entropy_share: what is left of the target entropy at the end of the training, to
        where it falls linearly; with less than 1 the policy explores before it decides
    :param backup_entropy: whether entropy counts as return in the critics' targets, as in SAC;
        without, the policy still seeks it, but is not paid for making episodes last (Ball 2023,
        https://arxiv.org/abs/2302.02948)
    :param average_q: value actions by the mean of the critics, or by their minimum
    :param entropy_penalty: beta, weight of the squared change of the policy's entropy; 0.5 in
        Zhou 2022, 0 for none
    :param q_clip: how far from the target critics Q-values are drawn, in units of the return; 0.5
        in Zhou 2022, for rewards in [-1, 1]; None for any distance
    :param target_update_interval: gradient steps between updates of the targets
    :param max_grad_norm: of actor and critics; None for any
    :raises ValueError: an argument that is none of these, or out of range
    """

    policy_aliases = by_every_name(DiscreteSACPolicy)
    _bound = (*DiscreteSteps._bound, "_followers")
    policy: DiscreteSACPolicy

    def __init__(
        self,
        policy: str | type[DiscreteSACPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 3e-4,
        *,
        ent_coef: str | float = "auto",
        target_entropy: str | float = "auto",
        target_entropy_scale: float = 0.98,
        final_entropy_share: float = 1.0,
        backup_entropy: bool = True,
        average_q: bool = True,
        entropy_penalty: float = 0.0,
        q_clip: float | None = None,
        target_update_interval: int = 1,
        max_grad_norm: float | None = None,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        self.ent_coef = ent_coef
        self.target_entropy = target_entropy
        self.target_entropy_scale = target_entropy_scale
        self.final_entropy_share = final_entropy_share
        self.backup_entropy = backup_entropy
        self.average_q = average_q
        self.entropy_penalty = entropy_penalty
        self.q_clip = q_clip
        self.target_update_interval = target_update_interval
        self.max_grad_norm = max_grad_norm
        if (noise := kwargs.get("action_noise")) is not None:
            kind = type(noise).__name__
            raise ValueError(f"action_noise is a {kind}: actions are discrete, and drawn already")
        super().__init__(
            policy,
            env,
            learning_rate,
            supported_action_spaces=(spaces.Discrete,),
            sde_support=False,
            support_multi_env=True,
            **kwargs,
        )
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self._check_arguments()
        super()._setup_model()
        assert isinstance(self.action_space, spaces.Discrete)
        self.actor, self.critic = self.policy.actor, self.policy.critic
        if self.target_entropy == "auto":
            self.target_entropy = self.target_entropy_scale * math.log(self.action_space.n)
        self.target_entropy = float(self.target_entropy)
        self.ent_coef_optimizer: th.optim.Adam | None = None
        if isinstance(self.ent_coef, str):
            start = math.log(_first_temperature(self.ent_coef))
            self.log_ent_coef = th.tensor([start], device=self.device).requires_grad_()
            self.ent_coef_optimizer = th.optim.Adam([self.log_ent_coef], lr=self.lr_schedule(1))
        else:
            self.ent_coef_tensor = th.tensor(float(self.ent_coef), device=self.device)

    def _check_arguments(self) -> None:
        check_flags(self, "average_q", "backup_entropy")
        inf = float("inf")
        for name, least, most, valid in (
            ("target_entropy_scale", 0.0, 1.0, "from 0 to 1"),
            ("final_entropy_share", 0.0, 1.0, "from 0 to 1"),
            ("entropy_penalty", 0.0, inf, "0 or more"),
            ("q_clip", 0.0, inf, "0 or more, or None"),
            ("max_grad_norm", 0.0, inf, "0 or more, or None"),
            ("target_update_interval", 1, inf, "a whole number, at least 1"),
        ):
            value = getattr(self, name)
            if value is None and "None" in valid:
                continue
            number = isinstance(value, Integral if name == "target_update_interval" else Real)
            if not (number and least <= value <= most and value < inf):
                raise ValueError(f"{name}={value!r}: must be {valid}")
        entropy, ent_coef = self.target_entropy, self.ent_coef
        if entropy != "auto" and not (isinstance(entropy, Real) and math.isfinite(entropy)):
            raise ValueError(f"target_entropy={entropy!r}: must be a number, or auto")
        fixed = isinstance(ent_coef, Real) and 0 <= ent_coef < inf
        if not (fixed or (isinstance(ent_coef, str) and _first_temperature(ent_coef))):
            raise ValueError(
                f"ent_coef={ent_coef!r}: must be a number, 0 or more, or auto, or such as auto_0.1"
            )

    def _bind(self) -> None:
        super()._bind()
        policy = self.policy
        self._followers = (
            Follower(policy.critic, policy.critic_target),
            Follower(policy.actor, policy.actor_target),
        )

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """
        Take gradient steps; `learn` calls it.

        :param gradient_steps: how many
        :param batch_size: transitions in the batch of each
        :raises NotANumberError: a loss is NaN
        """
        self._ensure_bound()
        self.policy.set_training_mode(True)
        self._update_learning_rate(self._optimizers())
        temperature = (
            self.ent_coef_tensor
            if self.ent_coef_optimizer is None
            else Temperature(self.log_ent_coef, self.ent_coef_optimizer)
        )
        metrics = Metrics()
        for step in range(gradient_steps):
            batch = self._sample(batch_size)
            log_pi = self.actor.log_prob(batch.observations)
            # Its negative is the expectation of log pi, in the place of a sample.
            entropy = discrete_losses.policy_entropy(log_pi.detach())
            alpha = update_temperature(temperature, -entropy, self._wanted_entropy(), metrics)

            y = self._target(batch, alpha)
            all_q = self.critic(batch.observations)
            q = _of_actions(all_q, batch.actions)
            critic_loss = self._critic_loss(batch, q, y)
            descend(self.critic.optimizer, critic_loss, self.max_grad_norm)

            policy_value = discrete_losses.expected_soft_value(
                self._ensemble_q(all_q.detach()), alpha, log_pi
            )
            actor_loss = self._penalty(batch, log_pi) - policy_value.mean()
            descend(self.actor.optimizer, actor_loss, self.max_grad_norm)

            if (self._n_updates + step) % self.target_update_interval == 0:
                for follower in self._followers:
                    follower.track(self.tau)
            self._update_priorities(batch, q.detach(), y)
            metrics.add(
                actor_loss=actor_loss.detach(),
                critic_loss=critic_loss.detach(),
                entropy=entropy.mean(),
            )
        self._n_updates += gradient_steps
        self._record(metrics)

    def _ensemble_q(self, q: th.Tensor) -> th.Tensor:
        """The critics' mean or minimum: ``(N, B, n_actions)`` to ``(B, n_actions)``."""
        return q.mean(dim=0) if self.average_q else q.amin(dim=0)

    @th.no_grad()
    def _target(self, batch: Batch, alpha: th.Tensor) -> th.Tensor:
        """``(B, 1)``"""
        next_q = self._ensemble_q(self.policy.critic_target(batch.next_observations))
        next_log_pi = self.actor.log_prob(batch.next_observations)
        bonus = alpha if self.backup_entropy else alpha.new_zeros(())
        value = discrete_losses.expected_soft_value(next_q, bonus, next_log_pi)
        return losses.td_target(batch.rewards, batch.dones, batch.gamma, value.unsqueeze(0))

    def _critic_loss(self, batch: Batch, q: th.Tensor, y: th.Tensor) -> th.Tensor:
        if self.q_clip is None:
            return losses.critic_loss(q, y, batch.weights, scale=0.5)
        with th.no_grad():
            target_q = _of_actions(self.policy.critic_target(batch.observations), batch.actions)
        return discrete_losses.clipped_critic_loss(
            q, target_q, y, self.q_clip, batch.weights, scale=0.5
        )

    def _penalty(self, batch: Batch, log_pi: th.Tensor) -> th.Tensor | float:
        if self.entropy_penalty == 0:
            return 0.0
        with th.no_grad():
            old_log_pi = self.policy.actor_target.log_prob(batch.observations)
        return self.entropy_penalty * discrete_losses.entropy_penalty(log_pi, old_log_pi)

    def _wanted_entropy(self) -> float:
        """The target entropy now."""
        left = 1 - (1 - self.final_entropy_share) * (1 - self._current_progress_remaining)
        return float(self.target_entropy) * left

    def _optimizers(self) -> list[th.optim.Optimizer]:
        own = [self.actor.optimizer, self.critic.optimizer]
        return own if self.ent_coef_optimizer is None else [*own, self.ent_coef_optimizer]

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "actor", "critic"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        modules = ["policy", "actor.optimizer", "critic.optimizer"]
        if self.ent_coef_optimizer is None:
            return modules, ["ent_coef_tensor"]
        return [*modules, "ent_coef_optimizer"], ["log_ent_coef"]


def _first_temperature(ent_coef: str) -> float:
    """Of ``auto`` and ``auto_0.1``; 0 for anything else."""
    kind, underscore, number = ent_coef.partition("_")
    with suppress(ValueError):
        found = float(number) if underscore else 1.0
        return found if kind == "auto" and 0 < found < float("inf") else 0.0
    return 0.0


def _of_actions(q: th.Tensor, actions: th.Tensor) -> th.Tensor:
    """Of ``(N, B, n_actions)`` those of ``actions``, ``(B, 1)``: ``(N, B, 1)``."""
    return q.gather(2, actions.long().expand(len(q), -1, -1))
