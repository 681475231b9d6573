"""What the policies add to SB3's networks: layer normalisation, and features for acting."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from sb3_contrib.crossq import policies as crossq
from sb3_contrib.tqc import policies as tqc
from stable_baselines3.common.distributions import (
    SquashedDiagGaussianDistribution,
    StateDependentNoiseDistribution,
)
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
)
from stable_baselines3.sac import policies as sac
from torch import nn
from torch.nn.functional import linear

from pyrl_sb3.agent import Observation
from pyrl_sb3.errors import NotANumberError

_LEAST_SIDE = 36  # of an image, in pixels, that NatureCNN's three convolutions leave something of

# What SB3's policies of these names read observations with
EXTRACTORS: dict[str, type[BaseFeaturesExtractor]] = {
    "MlpPolicy": FlattenExtractor,
    "CnnPolicy": NatureCNN,
    "MultiInputPolicy": CombinedExtractor,
}

# Methods that someone may have put another in place of, for one network
_PATCHABLE = frozenset({"extract_features", "get_action_dist_params", "log_prob", "_predict"})
# What SB3's actors draw actions from, if at all
_DISTRIBUTIONS = (type(None), SquashedDiagGaussianDistribution, StateDependentNoiseDistribution)


def default_features_extractor(
    space: spaces.Space[object], normalize_images: bool = True
) -> type[BaseFeaturesExtractor]:
    """
    SB3's extractor for ``space``, of its Mlp-, Cnn- or MultiInputPolicy: of images the CNN for
    those that it can read, not for smaller ones such as grids.

    :param normalize_images: False for images that are normalised already, of any dtype and bounds
    """
    if isinstance(space, spaces.Dict):
        small = any(_is_small_image(part, normalize_images) for part in space.values())
        return SmallImagesExtractor if small else CombinedExtractor
    image = is_image_space(space, normalized_image=not normalize_images)
    small = _is_small_image(space, normalize_images)
    return NatureCNN if image and not small else FlattenExtractor


def with_named_extractor(
    name: str, arguments: dict[str, Any], space: spaces.Space[object]
) -> dict[str, Any]:
    """
    The arguments of a policy from here, with the extractor of SB3's policy of that name where it
    is another than the one for ``space``: it flattens images, or refuses what it cannot read.

    :param name: if none of SB3's, the arguments stay
    :param arguments: an extractor among them stays
    :raises ValueError: MultiInputPolicy, where ``space`` is no dict
    """
    chosen = default_features_extractor(space, arguments.get("normalize_images", True))
    meant = EXTRACTORS.get(name, chosen)
    if "features_extractor_class" in arguments or issubclass(chosen, meant):
        return arguments
    if meant is CombinedExtractor:  # SB3's message is of an attribute that a space has not
        raise ValueError(
            f"{name} reads dicts of observations, not {space}: "
            "choose MlpPolicy, or CnnPolicy for images"
        )
    return {"features_extractor_class": meant, **arguments}


class SmallImagesExtractor(CombinedExtractor):
    """SB3's `CombinedExtractor`, but images that are too small for its CNN are flattened."""

    def __init__(
        self,
        observation_space: spaces.Dict,
        cnn_output_dim: int = 256,
        normalized_image: bool = False,
    ) -> None:
        # Only spaces with the bounds and dtype of images are taken for such.
        parts = {
            key: spaces.Box(-np.inf, np.inf, part.shape)
            if _is_small_image(part, not normalized_image)
            else part
            for key, part in observation_space.items()
        }
        super().__init__(spaces.Dict(parts), cnn_output_dim, normalized_image)


def _is_small_image(space: spaces.Space[object], normalize_images: bool) -> bool:
    image = is_image_space(space, normalized_image=not normalize_images)
    return image and space.shape is not None and min(space.shape[-2:]) < _LEAST_SIDE


def insert_layer_norm(mlp: nn.Sequential, normalize_last: bool) -> nn.Sequential:
    """
    The same layers with a ``LayerNorm`` between each hidden linear layer and its activation
    (Ba 2016, https://arxiv.org/abs/1607.06450).

    :param mlp: linear layers and activations; they are reused, not copied
    :param normalize_last: whether the last linear layer is a hidden one too, as in SAC's
        ``latent_pi``, whose output layers are modules of their own
    """
    layers = list(mlp)
    linear = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    hidden = linear if normalize_last else linear[:-1]
    for i in reversed(hidden):
        layer = layers[i]
        assert isinstance(layer, nn.Linear)
        norm = nn.LayerNorm(layer.out_features)
        layers.insert(i + 1, norm.to(layer.weight.device, layer.weight.dtype))
    return nn.Sequential(*layers)


def insert_layer_norms(critic: Any) -> None:
    """Normalise the hidden layers of each of the critics."""
    # SB3 keeps each twice: as a submodule (qf0, qf1, ...) and in a list.
    networks = critic.q_networks
    for name, module in list(critic.named_children()):
        if module in networks:
            normalized = insert_layer_norm(module, normalize_last=False)
            networks[networks.index(module)] = normalized
            setattr(critic, name, normalized)


def is_plain(module: nn.Module) -> bool:
    """Whether a call without gradients is one of the ``forward`` of its class and nothing else."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    return not hooked and "forward" not in module.__dict__


def lean_forward(layers: nn.Module | Iterable[nn.Module], x: th.Tensor) -> th.Tensor:
    """
    The layers applied in turn, the common ones as functions: for one row, most of the time of an
    ``nn.Sequential`` is the dispatch of its modules. To be called without gradients.

    :param layers: a module of another kind, or one that is not plain, is called as it is
    """
    if isinstance(layers, nn.Module) and not (type(layers) is nn.Sequential and is_plain(layers)):
        output: th.Tensor = layers(x)
        return output
    for layer in layers:
        plain = is_plain(layer)
        if plain and type(layer) is nn.Linear:
            x = linear(x, layer.weight, layer.bias)
        elif plain and type(layer) is nn.ReLU:
            x = x.relu()
        else:
            x = layer(x)
    return x


def gaussian_action(
    actor: sac.Actor | tqc.Actor | crossq.Actor, features: th.Tensor, deterministic: bool
) -> th.Tensor:
    """
    A squashed Gaussian action (Haarnoja 2018, https://arxiv.org/abs/1801.01290, appendix C),
    drawn from torch's generator exactly as SB3 draws it.
    """
    latent = lean_forward(actor.latent_pi, features)
    if actor.use_sde:
        sde: Any = actor.action_dist
        return sde.actions_from_params(actor.mu(latent), actor.log_std, latent, deterministic)
    mean = lean_forward((actor.mu,), latent)
    if deterministic:
        return mean.tanh_()
    assert isinstance(actor.log_std, nn.Module)
    std = lean_forward((actor.log_std,), latent).clamp_(sac.LOG_STD_MIN, sac.LOG_STD_MAX).exp_()
    # `addcmul` would be one call, and round once where SB3 rounds twice.
    return th.randn_like(mean).mul_(std).add_(mean).tanh_()


def is_untouched(network: Any) -> bool:
    """Whether SB3's actor or Q-network, of a known class, acts by its layers and nothing else."""
    attributes = vars(network)
    drawn = attributes.get("action_dist")
    return (
        is_plain(network)
        and flattens(network.features_extractor)
        and _PATCHABLE.isdisjoint(attributes)
        and type(drawn) in _DISTRIBUTIONS
        and not (drawn and any(map(callable, vars(drawn).values())))  # a method put on it
    )


def refuse_nan(actions: npt.NDArray[Any]) -> None:
    """Raise NotANumberError, a ValueError, where an action is NaN."""
    if np.count_nonzero(np.isnan(actions)):  # in half the time of any()
        raise NotANumberError(
            "an action is NaN: an observation, a parameter of the policy or the action noise is"
        )


def flattens(extractor: nn.Module) -> bool:
    """Whether this is SB3's ``FlattenExtractor`` or ``CombinedExtractor``, and only flattens."""
    if type(extractor) not in (FlattenExtractor, CombinedExtractor):
        return False
    parts: Any = extractor._modules
    if "extractors" in parts:
        parts = parts["extractors"]
    return is_plain(extractor) and all(
        type(part) is nn.Flatten and is_plain(part) for part in parts.values()
    )


class FlatFeatures:
    """
    Observations from numpy to the features that SB3's ``FlattenExtractor`` or
    ``CombinedExtractor`` makes of them, in one copy instead of one per key and check.

    Only for observations it can take exactly as SB3 would; for all else (images, discrete parts,
    one's own extractor) calling it gives ``None`` and SB3's own way is to be used.

    :param space: of the observations
    :param extractor: of the network that reads the features
    """

    def __init__(self, space: spaces.Space[object], extractor: nn.Module) -> None:
        self.shapes: dict[str | None, tuple[int, ...]] | None = None
        if type(extractor) is FlattenExtractor and flattens(extractor) and _is_vector(space):
            assert space.shape is not None
            self.shapes = {None: space.shape}
        elif type(extractor) is CombinedExtractor and isinstance(space, spaces.Dict):
            # CombinedExtractor concatenates in the order of its modules.
            parts = {key: space[key] for key in extractor.extractors}
            if flattens(extractor) and all(_is_vector(part) for part in parts.values()):
                self.shapes = {key: part.shape for key, part in parts.items() if part.shape}

    def batch_of_one(self, observation: Observation) -> Observation | None:
        """
        Add the batch axis.

        :param observation: as calling it takes them, or one, of the space's shape
        :return: ``(1, *shape)``, or a dict of them; ``None`` where nothing is to be added
        """
        if not self.shapes:
            return None
        if isinstance(observation, Mapping):
            parts: Mapping[Any, npt.NDArray[Any]] = observation
            if parts.keys() != self.shapes.keys():
                return None
            one: dict[Any, npt.NDArray[Any]] = {}
            for key, shape in self.shapes.items():
                part = parts[key]
                if not isinstance(part, np.ndarray) or part.shape != shape:
                    return None
                one[key] = part[None]
            return one
        is_one = isinstance(observation, np.ndarray) and observation.shape == self.shapes.get(None)
        return observation[None] if is_one else None

    def __call__(self, observation: Observation, device: th.device) -> th.Tensor | None:
        """
        :param observation: ``(n_envs, *shape)``, or a dict of them
        :return: ``(n_envs, features_dim)``, float32, or ``None``
        """
        if self.shapes is None:
            return None
        parts = []
        for key, shape in self.shapes.items():
            if key is None:
                part = observation
            elif isinstance(observation, Mapping) and observation.keys() == self.shapes.keys():
                part = observation[key]
            else:
                return None
            if not isinstance(part, np.ndarray) or part.ndim == 0 or part.shape[1:] != shape:
                return None
            parts.append(part.reshape(len(part), math.prod(shape)))
        # A copy: PyTorch takes no negative strides, and warns of what is read-only.
        flat = np.array(parts[0]) if len(parts) == 1 else np.concatenate(parts, axis=1)
        return th.as_tensor(flat, dtype=th.float32, device=device)


def _is_vector(space: spaces.Space[object]) -> bool:
    return isinstance(space, spaces.Box) and space.shape != () and not is_image_space(space)
