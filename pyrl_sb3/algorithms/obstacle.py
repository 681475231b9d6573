"""Whether the backward pass of a policy can be written out."""

from collections.abc import Iterable, Sized
from typing import Any

import torch as th
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.policies import BasePolicy, ContinuousCritic
from stable_baselines3.sac import policies as sac
from stable_baselines3.td3 import policies as td3
from torch import nn
from torch.nn.modules import module as modules
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from pyrl_sb3 import critics
from pyrl_sb3.algorithms.gaussian import EPSILON
from pyrl_sb3.algorithms.layout import containers, networks
from pyrl_sb3.networks import FlatFeatures

NETWORKS = ("actor", "actor_target", "critic", "critic_target")
KINDS = (sac.Actor, td3.Actor, ContinuousCritic, critics.ContinuousCritic)
SIMPLE = (nn.ReLU, nn.Tanh, nn.SiLU, nn.GELU)
DISTRIBUTIONS = (type(None), SquashedDiagGaussianDistribution)
# What Adam can be told to do that is not written out.
OPTIONS = ("amsgrad", "maximize", "capturable", "differentiable", "decoupled_weight_decay")
_EVERYWHERE: tuple[Sized, ...] = (
    modules._global_forward_hooks,
    modules._global_forward_pre_hooks,
    modules._global_backward_hooks,
    modules._global_backward_pre_hooks,
    _global_optimizer_pre_hooks,
    _global_optimizer_post_hooks,
)


def find_obstacle(model: Any) -> str | None:
    """
    Why ``model`` has to be left to autograd, or ``None`` when it has not.

    Types are compared exactly, since a subclass may compute anything.

    :param model: SAC, TD3 or DDPG
    """
    policy = model.policy
    if not issubclass(type(policy), BasePolicy):
        return f"the policy is a {type(policy).__name__}"
    if hooked_everywhere():
        return "there are hooks on all modules or optimizers"
    nets = []
    for name in NETWORKS:
        net = getattr(policy, name, None)
        if net is not getattr(model, name, None):
            return f"the {name} of the policy is not the model's"
        if net is None:
            continue
        if reason := _network_obstacle(net, policy.observation_space):
            return f"the {name} {reason}"
        nets.append(net)
    if reason := _difference(nets, policy.observation_space):
        return reason
    for name in NETWORKS[::2]:
        net = getattr(policy, name)
        if reason := _optimizer_obstacle(net.optimizer, list(net.parameters())):
            return f"the optimizer of the {name} {reason}"
    if (optimizer := getattr(model, "ent_coef_optimizer", None)) is not None:
        if reason := _optimizer_obstacle(optimizer, [model.log_ent_coef]):
            return f"the optimizer of the temperature {reason}"
        if reason := _value_obstacle([model.log_ent_coef]):
            return f"the temperature {reason}"
    return None


def _difference(nets: list[Any], observation_space: Any) -> str | None:
    """What keeps networks, each without an obstacle of its own, from being trained together."""
    # One preparation of the batch serves all of them.
    read = [FlatFeatures(observation_space, net.features_extractor).shapes or {} for net in nets]
    if any(list(shapes) != list(read[0]) for shapes in read):
        return "the networks read different observations"
    parameters = [p for net in nets for p in net.parameters()]
    if len(set(parameters)) != len(parameters):
        return "the networks share parameters"
    return None


def _network_obstacle(net: Any, observation_space: Any) -> str | None:
    if type(net) not in KINDS:
        return f"is a {type(net).__name__} of its own kind"
    for part in net.modules():
        if any(hooks_on(part)) or _has_own_methods(part):
            where = "" if part is net else f" on a {type(part).__name__}"
            return f"has hooks or methods of its own{where}"
    if getattr(net, "use_sde", False):
        return "uses gSDE"
    if reason := _distribution_obstacle(vars(net).get("action_dist")):
        return f"draws from a distribution {reason}"
    if FlatFeatures(observation_space, net.features_extractor).shapes is None:
        return "has a features extractor that does more than concatenate vectors"
    for container in containers(net):
        if type(container) is not nn.Sequential:
            return f"has a {type(container).__name__} of its own kind"
    ensemble = networks(net)
    layers = [layer for network in ensemble for block in network for layer in block]
    for layer in layers:
        if not _is_simple(layer):
            return f"has a {type(layer).__name__} layer of its own kind"
    if any(type(network[0][0]) is not nn.Linear for network in ensemble):
        return "does not begin with a linear layer"
    if any(_kinds(network) != _kinds(ensemble[0]) for network in ensemble):
        return "has networks that differ"
    return _parameter_obstacle(list(net.parameters()), layers)


def _distribution_obstacle(distribution: Any) -> str | None:
    if type(distribution) not in DISTRIBUTIONS:
        return "of its own"
    if distribution is None:  # of an actor that draws nothing
        return None
    epsilon = distribution.epsilon
    if not isinstance(epsilon, float) or epsilon != EPSILON:
        return "with an epsilon of its own"
    return "with methods of its own" if _has_own_methods(distribution) else None


def hooked_everywhere() -> bool:
    """Whether there are hooks on all modules or all optimisers of this process."""
    return any(_EVERYWHERE)


def _kinds(network: Any) -> list[str]:
    """Kind, sizes and settings of each layer, as it prints itself."""
    return [repr(layer) for block in network for layer in block]


def _is_simple(layer: nn.Module) -> bool:
    if type(layer) is nn.LayerNorm:
        return len(layer.normalized_shape) == 1 and layer.bias is not None
    if type(layer) is nn.Linear:
        return layer.bias is not None
    return type(layer) in SIMPLE


def hooks_on(module: nn.Module) -> tuple[Sized, ...]:
    """The dictionaries of a module's hooks."""
    return (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )


def _has_own_methods(thing: object) -> bool:
    return any(callable(getattr(type(thing), name, None)) for name in vars(thing))


def _parameter_obstacle(parameters: list[nn.Parameter], layers: Iterable[nn.Module]) -> str | None:
    laid_out = [p for layer in layers for p in layer.parameters()]
    if len(laid_out) != len(parameters) or set(laid_out) != set(parameters):
        return "shares parameters, or has some outside its layers"
    return _value_obstacle(parameters)


def _value_obstacle(parameters: list[nn.Parameter]) -> str | None:
    if not all(p.requires_grad for p in parameters):
        return "has frozen parameters"
    if any(p._backward_hooks or p._post_accumulate_grad_hooks for p in parameters):
        return "has hooks on parameters"
    if any(p.device.type != "cpu" for p in parameters):
        return f"is on {parameters[0].device}"
    if any(map(th.Tensor.is_shared, parameters)):
        return "is in memory that processes share"
    if {p.dtype for p in parameters} not in ({th.float32}, {th.float64}):
        return f"is not in float32 or float64 throughout, but in {parameters[0].dtype}"
    return None


def _optimizer_obstacle(
    optimizer: th.optim.Optimizer, parameters: list[nn.Parameter]
) -> str | None:
    if type(optimizer) is not th.optim.Adam:
        return f"is a {type(optimizer).__name__}"
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        return "has hooks"
    if _has_own_methods(optimizer):
        return "has methods of its own"
    groups = optimizer.param_groups
    if len(groups) != 1 or set(groups[0]["params"]) != set(parameters):
        return "has several groups, or other parameters than the network"
    used = [option for option in OPTIONS if groups[0].get(option)]
    return f"uses {used[0]}" if used else None
