"""
DDPG, TD3, SAC, TQC and CrossQ policies: SB3's, with cheaper acting and layer normalisation.

They are passed to stock algorithms, ``SAC(pyrl_sb3.SACPolicy, env).learn(...)``, take every keyword
of the SB3 policy they extend, and compute the same actions and losses from the same weights.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy.typing as npt
import torch as th
from gymnasium import spaces
from sb3_contrib.common.torch_layers import BatchRenorm1d
from sb3_contrib.crossq import policies as crossq
from sb3_contrib.tqc import policies as tqc
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.sac import policies as sac
from stable_baselines3.td3 import policies as td3

from pyrl_sb3.agent import Observation
from pyrl_sb3.critics import ConstantForPolicies, make_constant
from pyrl_sb3.networks import (
    FlatFeatures,
    default_features_extractor,
    gaussian_action,
    insert_layer_norm,
    insert_layer_norms,
    is_untouched,
    lean_forward,
    refuse_nan,
)

LayerNorm = bool | Literal["actor", "critic"]

# Methods that someone may have put another in place of, for one policy
_PATCHABLE = frozenset({"_predict", "obs_to_tensor"})

if TYPE_CHECKING:
    # What the mixin may rely on: an actor-critic policy of SB3.
    class _Base(BasePolicy):
        actor: Any
        critic: Any

        def _build(self, lr_schedule: Schedule) -> None: ...
        def make_actor(self, features_extractor: Any = None) -> Any: ...
        def make_critic(self, features_extractor: Any = None) -> Any: ...
else:
    _Base = object


class LeanActing(_Base):
    """
    Acting with few calls for an SB3 policy; mixed in before it.

    Differences from SB3's policies:

    - arguments after ``lr_schedule`` are keyword-only;
    - the features extractor, unless given, is chosen from the observation space, so that one
      class serves as Mlp-, Cnn- and MultiInputPolicy;
    - Adam is PyTorch's fused one unless ``optimizer_kwargs`` says otherwise: the same update in
      one call, equal up to rounding;
    - ``set_training_mode`` visits the modules only when the mode changes;
    - actions that are NaN are refused, whatever the algorithm; discrete ones where their values or
      probabilities are. DQN and QR-DQN look at these only where they do not act as in SB3.

    A policy with an own `_predict` or `obs_to_tensor`, and networks of a user's class, with hooks
    or with methods of their own, or for images, act as in SB3.
    """

    # To be filled in: this and `_act`; `_acting_network` where there is no actor, and `_as_actions`
    # where actions are no Box.
    plain_network: ClassVar[Any] = None

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        **kwargs: Any,
    ) -> None:
        extractor = default_features_extractor(
            observation_space, kwargs.get("normalize_images", True)
        )
        kwargs.setdefault("features_extractor_class", extractor)
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self._set_up_acting()

    def set_training_mode(self, mode: bool) -> None:
        parts = (self, self._acting_network(), getattr(self, "critic", self))
        if any(part.training != mode for part in parts):
            super().set_training_mode(mode)

    def _build(self, lr_schedule: Schedule) -> None:
        # Adam's implementations exclude one another, so a choice of the user's stands.
        chosen = {"fused", "foreach", "capturable", "differentiable"} & set(self.optimizer_kwargs)
        if self.optimizer_class in (th.optim.Adam, th.optim.AdamW) and not chosen:
            self.optimizer_kwargs = {**self.optimizer_kwargs, "fused": True}
        super()._build(lr_schedule)

    def _acting_network(self) -> Any:
        """SB3's network with a features extractor, whose features are acted on."""
        return self.actor

    def _set_up_acting(self) -> None:
        network = self._acting_network()
        self._flat_features = FlatFeatures(self.observation_space, network.features_extractor)
        # In a tuple, so that they are not registered a second time: the extractor, and a parameter
        # to ask for the device, which SB3's property walks the modules to find.
        self._anchors = network.features_extractor, next(network.parameters())
        kind = type(self)
        self._own_predict = (
            kind._predict is not super(LeanActing, kind)._predict
            or kind.obs_to_tensor is not BasePolicy.obs_to_tensor
        )

    def _acts_plainly(self) -> bool:
        if "_anchors" not in vars(self):  # pickled by an earlier version
            self._set_up_acting()
        network = self._acting_network()
        return (
            type(network) is self.plain_network
            and network.features_extractor is self._anchors[0]
            and not self._own_predict
            and _PATCHABLE.isdisjoint(vars(self))
            and is_untouched(network)
        )

    def predict(
        self,
        observation: Observation,
        state: tuple[npt.NDArray[Any], ...] | None = None,
        episode_start: npt.NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], tuple[npt.NDArray[Any], ...] | None]:
        """
        Act, as SB3's policies do; ``state`` and ``episode_start`` are for recurrent ones.

        :param observation: ``(n_envs, *shape)``, or one, ``shape``; or a dict of such arrays
        :return: actions, ``(n_envs, *action_shape)``, of one ``action_shape``; and ``state``
        :raises NotANumberError: an action is NaN; see the class
        """
        one, features = None, None
        if self._acts_plainly():
            one = self._flat_features.batch_of_one(observation)
            batch = observation if one is None else one
            features = self._flat_features(batch, self._anchors[1].device)
        if features is None:
            acted, state = super().predict(observation, state, episode_start, deterministic)
            refuse_nan(acted)
            return acted, state
        self.set_training_mode(False)
        with th.no_grad():
            acted = self._act(features, deterministic).cpu().numpy()
        actions = self._as_actions(acted)
        return actions if one is None else actions.squeeze(axis=0), state

    def _act(self, features: th.Tensor, deterministic: bool) -> th.Tensor:
        """
        The action for each row of ``features``.

        :param features: ``(n_envs, features_dim)``
        :return: ``(n_envs, action_dim)``, in [-1, 1]; of discrete ones those drawn, ``(n_envs,)``,
            or values of which the largest is chosen, ``(n_envs, n_actions)``
        """
        raise NotImplementedError

    def _as_actions(self, acted: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What `_act` returned, as environments take it; `NotANumberError` where it is NaN."""
        assert isinstance(self.action_space, spaces.Box)
        refuse_nan(acted)
        return self.unscale_action(acted.reshape(-1, *self.action_space.shape))


class LeanPolicy(LeanActing):
    """
    `LeanActing` with layer normalisation; mixed in before an SB3 actor-critic policy.

    :param layer_norm: normalise the hidden layers of the actor, the critics or (``True``) both
    :param constant_critic: the critics' parameters get no gradients from the losses of policies:
        stock algorithms, which throw these away, train the same in less time. Not for losses of
        one's own that train critics by actions which a network has computed
    :raises ValueError: another ``layer_norm``
    :raises TypeError: ``constant_critic`` of critics of a user's class
    """

    constant_critic = False  # of policies pickled by an earlier version

    def __init__(
        self,
        *args: Any,
        layer_norm: LayerNorm = False,
        constant_critic: bool = False,
        **kwargs: Any,
    ) -> None:
        if layer_norm not in (False, True, "actor", "critic"):
            raise ValueError(
                f"layer_norm={layer_norm!r}: must be False, True (both), 'actor' or 'critic'"
            )
        self.layer_norm, self.constant_critic = layer_norm, constant_critic
        super().__init__(*args, **kwargs)

    def set_training_mode(self, mode: bool) -> None:
        super().set_training_mode(mode)
        if isinstance(self.critic, ConstantForPolicies):
            self.critic.leave_to(getattr(self.actor, "optimizer", None) if mode else None)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        # SB3's SACPolicy forgets the last one. Unused ones are left out: its classes load the rest.
        names = ("layer_norm", "constant_critic", "share_features_extractor")
        data.update((name, value) for name in names if (value := getattr(self, name)))
        return data

    def make_actor(self, features_extractor: Any = None) -> Any:
        actor = super().make_actor(features_extractor)
        if self.layer_norm in (True, "actor"):
            if hasattr(actor, "latent_pi"):
                actor.latent_pi = insert_layer_norm(actor.latent_pi, normalize_last=True)
            else:
                actor.mu = insert_layer_norm(actor.mu, normalize_last=False)
        return actor

    def make_critic(self, features_extractor: Any = None) -> Any:
        critic = super().make_critic(features_extractor)
        if self.layer_norm in (True, "critic"):
            insert_layer_norms(critic)
        if self.constant_critic:
            make_constant(critic)
        return critic

    def _act(self, features: th.Tensor, deterministic: bool) -> th.Tensor:
        return gaussian_action(self.actor, features, deterministic)  # TD3's is another


class SACPolicy(LeanPolicy, sac.SACPolicy):
    """SB3's SAC policy, for vectors, images and dicts; see `LeanPolicy`."""

    plain_network = sac.Actor


class TQCPolicy(LeanPolicy, tqc.TQCPolicy):
    """sb3-contrib's TQC policy, for vectors, images and dicts; see `LeanPolicy`."""

    plain_network = tqc.Actor


class CrossQPolicy(LeanPolicy, crossq.CrossQPolicy):
    """
    sb3-contrib's CrossQ policy, for vectors, images and dicts; see `LeanPolicy`.

    ``layer_norm`` is refused: batch renormalisation has its place. For dicts, the replay buffer
    must be one from here, whose observations CrossQ can join into one batch.

    :raises ValueError: with ``layer_norm``
    """

    plain_network = crossq.Actor

    def __init__(self, *args: Any, layer_norm: LayerNorm = False, **kwargs: Any) -> None:
        if layer_norm:
            raise ValueError(
                f"layer_norm={layer_norm!r}: CrossQ's layers are normalised by batch "
                "renormalisation already; leave layer_norm out"
            )
        super().__init__(*args, **kwargs)
        # CrossQ's training changes the mode of these alone.
        self._renorms = tuple(each for each in self.modules() if isinstance(each, BatchRenorm1d))

    def set_training_mode(self, mode: bool) -> None:
        super().set_training_mode(mode)
        if any(each.training != mode for each in self._renorms):
            crossq.CrossQPolicy.set_training_mode(self, mode)


class TD3Policy(LeanPolicy, td3.TD3Policy):
    """SB3's TD3 policy, for vectors, images and dicts; see `LeanPolicy`."""

    plain_network = td3.Actor

    def _act(self, features: th.Tensor, deterministic: bool) -> th.Tensor:
        return lean_forward(self.actor.mu, features)


class DDPGPolicy(TD3Policy):
    """The TD3 policy with one critic; SB3's DDPG uses its TD3 policy in the same way."""

    def __init__(self, *args: Any, n_critics: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, n_critics=n_critics, **kwargs)
