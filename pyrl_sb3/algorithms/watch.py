"""Whether a model is still made of what its gradient step was set up for."""

from collections.abc import Sized
from itertools import chain
from operator import attrgetter, is_, itemgetter
from typing import Any

from pyrl_sb3.algorithms.obstacle import NETWORKS, OPTIONS

_ATTRIBUTES = (*NETWORKS, "ent_coef_optimizer", "log_ent_coef")  # of a model
_flags = attrgetter("requires_grad", "_backward_hooks", "_post_accumulate_grad_hooks")


class Watch:
    """
    The parts of a model that `find_obstacle` and the learners look at, as they were.

    Modules, parameters and optimisers may be replaced, frozen or hooked at any time. Asking whether
    they were takes some ten microseconds, looking for obstacles anew half a millisecond.
    """

    def __init__(self, model: Any) -> None:
        policy = model.policy
        networks = [getattr(policy, name, None) for name in NETWORKS]
        modules = [
            part for network in networks if network is not None for part in network.modules()
        ]
        self._model, self._policy = model, policy
        self._contents = [
            each.values() for part in modules for each in (part._modules, part._parameters)
        ]
        self._attributes = [vars(part) for part in modules]
        self._parameters = list(dict.fromkeys(p for part in modules for p in part.parameters()))
        optimizers = [each for each in self._owned() if hasattr(each, "param_groups")]
        self._groups = [optimizer.param_groups for optimizer in optimizers]
        self._options = [
            (groups[0], itemgetter(*options))
            for groups in self._groups
            if (options := [option for option in OPTIONS if option in groups[0]])
        ]
        self._hooks: list[Sized] = []
        for part in modules:
            self._hooks += part._forward_hooks, part._forward_pre_hooks
            self._hooks += part._backward_hooks, part._backward_pre_hooks
        for each in optimizers:
            self._hooks += each._optimizer_step_pre_hooks, each._optimizer_step_post_hooks
        self._things, self._then = self._now(), self._state()

    def same(self) -> bool:
        """Whether nothing has been replaced, frozen, hooked or set otherwise since."""
        if self._model.policy is not self._policy:
            return False
        now = self._now()
        if len(now) != len(self._things) or not all(map(is_, now, self._things)):
            return False
        return self._state() == self._then

    def _owned(self) -> list[Any]:
        # Modules look attributes up slowly, and more slowly those that they lack.
        named, networks = vars(self._model).get, self._policy._modules.get
        return [
            *map(named, _ATTRIBUTES),
            *map(networks, NETWORKS),
            getattr(networks("actor"), "optimizer", None),
            getattr(networks("critic"), "optimizer", None),
        ]

    def _now(self) -> list[Any]:
        return [*chain.from_iterable(self._contents), *self._owned()]

    def _state(self) -> tuple[Any, ...]:
        groups = list(map(len, self._groups))
        options = [values(group) for group, values in self._options]
        attributes = list(map(len, self._attributes))  # more of them, if a method is put there
        return any(self._hooks), groups, options, attributes, list(map(_flags, self._parameters))
