"""Policies for discrete actions: SB3's DQN and QR-DQN with cheaper acting, and discrete SAC's."""

from typing import Any

import numpy.typing as npt
import torch as th
from gymnasium import spaces
from sb3_contrib.qrdqn import policies as qrdqn
from stable_baselines3.common.policies import BaseModel, BasePolicy
from stable_baselines3.common.torch_layers import create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.dqn import policies as dqn
from stable_baselines3.sac import policies as sac
from torch import nn

from pyrl_sb3.networks import lean_forward, refuse_nan
from pyrl_sb3.policies import LeanActing


class LeanDiscretePolicy(LeanActing):
    """`LeanActing` for discrete actions; mixed in before a policy of SB3 or sb3-contrib."""

    # What is NaN counts as the largest for NumPy and PyTorch, and would choose an action.

    def _as_actions(self, acted: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if acted.ndim == 1:  # drawn
            return acted
        refuse_nan(acted)
        return acted.argmax(axis=1)


class DQNPolicy(LeanDiscretePolicy, dqn.DQNPolicy):
    """SB3's DQN policy, for vectors, images and dicts; see `LeanActing`."""

    plain_network = dqn.QNetwork

    def _acting_network(self) -> Any:
        return self.q_net

    def _act(self, features: th.Tensor, deterministic: bool) -> th.Tensor:
        return lean_forward(self.q_net.q_net, features)


class QRDQNPolicy(LeanDiscretePolicy, qrdqn.QRDQNPolicy):
    """sb3-contrib's QR-DQN policy, for vectors, images and dicts; see `LeanActing`."""

    plain_network = qrdqn.QuantileNetwork

    def _acting_network(self) -> Any:
        return self.quantile_net

    def _act(self, features: th.Tensor, deterministic: bool) -> th.Tensor:
        quantiles = lean_forward(self.quantile_net.quantile_net, features)
        # Not -1, which zero rows leave open
        n_actions = quantiles.shape[1] // self.n_quantiles
        return quantiles.view(-1, self.n_quantiles, n_actions).mean(dim=1)


def _perceptron(
    action_space: spaces.Discrete, net_arch: list[int], features_dim: int, activation_fn: Any
) -> nn.Sequential:
    """From features, ``(B, features_dim)``, to a number for each action."""
    return nn.Sequential(*create_mlp(features_dim, int(action_space.n), net_arch, activation_fn))


class CategoricalActor(BasePolicy):
    """
    The probabilities of discrete actions.

    :param net_arch: hidden layers; others: see ``stable_baselines3.sac.policies.Actor``
    """

    action_space: spaces.Discrete

    def __init__(
        self,
        *,
        net_arch: list[int],
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.logits = _perceptron(self.action_space, net_arch, features_dim, activation_fn)

    def log_prob(self, observations: PyTorchObs) -> th.Tensor:
        """Log pi(a|s) of all actions: ``(B, n_actions)``."""
        assert self.features_extractor is not None
        features = self.extract_features(observations, self.features_extractor)
        logits: th.Tensor = self.logits(features)
        return logits.log_softmax(dim=1)

    def forward(self, observations: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        """Actions, ``(B,)``."""
        return draw(self.log_prob(observations), deterministic)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self(observation, deterministic)


class DiscreteCritic(BaseModel):
    """
    Critics that know the values of all actions in a state.

    :param n_critics: how many; others: see ``stable_baselines3.common.policies.ContinuousCritic``
    """

    action_space: spaces.Discrete

    def __init__(
        self,
        *,
        net_arch: list[int],
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        n_critics: int = 2,
        share_features_extractor: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.share_features_extractor = share_features_extractor
        self.q_networks = nn.ModuleList(
            _perceptron(self.action_space, net_arch, features_dim, activation_fn)
            for _ in range(n_critics)
        )

    def forward(self, observations: PyTorchObs) -> th.Tensor:
        """Q-values, ``(N, B, n_actions)``."""
        assert self.features_extractor is not None
        features = self.extract_features(observations, self.features_extractor)
        if self.share_features_extractor:
            features = features.detach()  # it learns from the policy's loss, as in SB3's SAC
        return th.stack([q(features) for q in self.q_networks])


def draw(logits: th.Tensor, deterministic: bool) -> th.Tensor:
    """
    The likeliest action of each row, or one drawn: ``(B, n_actions)`` to ``(B,)``.

    :raises NotANumberError: a number is NaN
    """
    if deterministic:
        refuse_nan(logits.numpy(force=True))
        return logits.argmax(dim=1)
    try:
        return logits.softmax(dim=1).multinomial(1).squeeze(1)
    except RuntimeError:  # PyTorch looks for NaN too; its message names tensors
        refuse_nan(logits.numpy(force=True))
        raise


class DiscreteSACPolicy(LeanDiscretePolicy, sac.SACPolicy):
    """
    Actor and critics of discrete SAC, for observations of any kind; arguments as of SB3's
    SACPolicy, of which those of Gaussian exploration (``use_sde``, ``log_std_init``, ``use_expln``,
    ``clip_mean``) have no meaning here. Differences from SB3's policies: see `LeanActing`.

    ``actor_target`` follows the actor: the earlier policy of the entropy penalty.
    """

    plain_network = CategoricalActor
    actor: CategoricalActor  # type: ignore[assignment]  # SB3's is Gaussian
    critic: DiscreteCritic  # type: ignore[assignment]  # SB3's reads actions
    critic_target: DiscreteCritic  # type: ignore[assignment]

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.actor_target = self.make_actor()
        self.actor_target.load_state_dict(self.actor.state_dict())
        self.actor_target.set_training_mode(False)

    def make_actor(self, features_extractor: Any = None) -> Any:
        keywords = self._update_features_extractor(self.net_args, features_extractor)
        return CategoricalActor(**keywords).to(self.device)

    def make_critic(self, features_extractor: Any = None) -> Any:
        keywords = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return DiscreteCritic(**keywords).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        # SB3's SACPolicy forgets it.
        data.update(share_features_extractor=self.share_features_extractor)
        return data

    def _act(self, features: th.Tensor, deterministic: bool) -> th.Tensor:
        logits = lean_forward(self.actor.logits, features)
        return logits if deterministic else draw(logits, deterministic)
