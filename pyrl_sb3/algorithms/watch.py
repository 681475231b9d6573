"""Whether a model is still made of what its gradient step was set up for."""

from collections.abc import Sized
from itertools import chain
from operator import attrgetter, is_
from typing import Any

from pyrl_sb3.algorithms.obstacle import NETWORKS, OPTIONS

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
        model, policy = self._model, self._policy
        return [
            *(getattr(owner, name, None) for owner in (model, policy) for name in NETWORKS),
            getattr(getattr(policy, "actor", None), "optimizer", None),
            getattr(getattr(policy, "critic", None), "optimizer", None),
            getattr(model, "ent_coef_optimizer", None),
            getattr(model, "log_ent_coef", None),
        ]

    def _now(self) -> list[Any]:
        return [*chain.from_iterable(self._contents), *self._owned()]

    def _state(self) -> tuple[Any, ...]:
        options = [list(map(group.get, OPTIONS)) for group in chain(*self._groups)]
        attributes = list(map(len, self._attributes))  # more of them, if a method is put there
        return any(self._hooks), options, attributes, list(map(_flags, self._parameters))
