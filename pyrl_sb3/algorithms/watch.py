"""Whether a model is still made of what its gradient step was set up for."""

from collections.abc import Sequence, Sized
from itertools import chain
from operator import is_
from typing import Any

import torch as th

from pyrl_sb3.algorithms.obstacle import NETWORKS, OPTIONS, hooked_everywhere, hooks_on

# What networks, layers and distributions compute with besides modules and parameters
_SETTINGS = ("action_dist", "use_sde", "eps", "approximate", "epsilon")


def identical(now: Sequence[Any], then: Sequence[Any]) -> bool:
    """Whether the same objects are in both; ``==`` of tensors would compare their numbers."""
    return len(now) == len(then) and all(map(is_, now, then))


class NetworkWatch:
    """
    Networks of a model as they were: their modules and parameters may be replaced or hooked, and
    methods put on them, at any time. So may the distributions that actors draw from.

    It keeps no reference to the model, so that one that is deleted is gone at once, replay buffer
    and all.

    :param names: of the networks, in the model and its policy
    """

    def __init__(self, model: Any, names: Sequence[str]) -> None:
        self._policy, self._names = model.policy, names
        networks = [getattr(model, name, None) for name in names]  # that training looks up there
        self.modules = [
            part for network in networks if network is not None for part in network.modules()
        ]
        self._contents = [
            each.values() for part in self.modules for each in (part._modules, part._parameters)
        ]
        drawn = [vars(part).get("action_dist") for part in self.modules]
        self._parts = [
            self._policy,
            *self.modules,
            *(each for each in drawn if hasattr(each, "__dict__")),
        ]
        self._attributes = list(map(vars, self._parts))
        self._settings = [
            (own.get, name) for own in self._attributes for name in _SETTINGS if name in own
        ]
        # Lists, that modules know nothing of
        self._critics = [own for own in self._attributes if "q_networks" in own]
        self._hooks = [hooks for part in self.modules for hooks in hooks_on(part)]
        self._things, self._values = self._now(model), self._values_now()

    def same(self, model: Any) -> bool:
        """Whether nothing of the model has been replaced or hooked since."""
        return identical(self._now(model), self._things) and self._values_now() == self._values

    def _now(self, model: Any) -> list[Any]:
        # Modules look attributes up slowly, and more slowly those that they lack.
        named, networks = vars(model).get, self._policy._modules.get
        return [
            model.policy,
            named("predict"),  # that the model's class has, unless one's own is put there
            *map(named, self._names),
            *map(networks, self._names),
            *chain.from_iterable(self._contents),
            *[get(name) for get, name in self._settings],
            *chain.from_iterable(own.get("q_networks", ()) for own in self._critics),
            *map(type, self._parts),
        ]

    def _values_now(self) -> list[Any]:
        return [
            any(self._hooks),
            hooked_everywhere(),
            list(map(len, self._attributes)),  # more of them, if a method is put there
        ]


class Watch:
    """
    The parts of a model that `find_obstacle` and the learners look at, as they were.

    Optimisers too may be replaced, hooked or set otherwise, and parameters frozen or hooked. Asking
    whether they were takes some ten microseconds, looking for obstacles anew half a millisecond.
    """

    def __init__(self, model: Any) -> None:
        self._networks = NetworkWatch(model, NETWORKS)
        owned = self._owned(model)
        parameters = [p for part in self._networks.modules for p in part.parameters(recurse=False)]
        parameters += [each for each in owned if isinstance(each, th.Tensor)]
        self._parameters = list(dict.fromkeys(parameters))
        self._optimizers = [each for each in owned if hasattr(each, "param_groups")]
        self._attributes = list(map(vars, self._optimizers))
        # What only wraps an optimiser may lack them.
        hooks = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
        self._hooks: list[Sized] = [
            getattr(each, name, ()) for each in self._optimizers for name in hooks
        ]
        self._then = self._now(model)

    def same(self, model: Any) -> bool:
        """Whether nothing of the model has been replaced, frozen, hooked or set otherwise since."""
        if not self._networks.same(model):
            return False
        (things, state), (things_then, state_then) = self._now(model), self._then
        return identical(things, things_then) and state == state_then

    def _owned(self, model: Any) -> list[Any]:
        named = vars(model).get
        return [
            getattr(named("actor"), "optimizer", None),
            getattr(named("critic"), "optimizer", None),
            named("ent_coef_optimizer"),
            named("log_ent_coef"),
        ]

    def _now(self, model: Any) -> tuple[list[Any], list[Any]]:
        """Objects that must stay the same ones, and values that must stay equal."""
        things = [*self._owned(model), *map(type, self._optimizers)]
        options = []
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                things += group["params"]
                options.append(tuple(map(group.get, OPTIONS)))
        attributes = list(map(len, self._attributes))  # more of them, if a method is put there
        # Not the dictionaries of hooks, which stay the same ones when they are emptied and filled.
        flags = [
            (p.requires_grad, not p._backward_hooks, not p._post_accumulate_grad_hooks)
            for p in self._parameters
        ]
        return things, [any(self._hooks), options, attributes, flags]
