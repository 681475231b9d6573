"""Whether a model is still made of what its gradient step was set up for."""

from collections.abc import Sequence, Sized
from itertools import chain
from operator import attrgetter, is_, itemgetter
from typing import Any

from pyrl_sb3.algorithms.obstacle import NETWORKS, OPTIONS

_flags = attrgetter("requires_grad", "_backward_hooks", "_post_accumulate_grad_hooks")


class NetworkWatch:
    """
    Networks of a model as they were: their modules and parameters may be replaced or hooked, and
    methods put on them, at any time.

    :param names: of the networks, in the model and its policy
    """

    def __init__(self, model: Any, names: Sequence[str]) -> None:
        self._model, self._policy, self._names = model, model.policy, names
        networks = [getattr(self._policy, name, None) for name in names]
        self.modules = [
            part for network in networks if network is not None for part in network.modules()
        ]
        self._contents = [
            each.values() for part in self.modules for each in (part._modules, part._parameters)
        ]
        self._attributes = [vars(part) for part in (self._policy, *self.modules)]
        self._hooks: list[Sized] = []
        for part in self.modules:
            self._hooks += part._forward_hooks, part._forward_pre_hooks
            self._hooks += part._backward_hooks, part._backward_pre_hooks
        self._things, self._hooked, self._sizes = self._now(), any(self._hooks), self._size()

    def same(self) -> bool:
        """Whether nothing has been replaced or hooked since."""
        now = self._now()
        return (
            len(now) == len(self._things)
            and all(map(is_, now, self._things))
            and any(self._hooks) == self._hooked
            and self._size() == self._sizes
        )

    def _now(self) -> list[Any]:
        # Modules look attributes up slowly, and more slowly those that they lack.
        named, networks = vars(self._model).get, self._policy._modules.get
        return [
            self._model.policy,
            named("predict"),  # that the model's class has, unless one's own is put there
            *map(named, self._names),
            *map(networks, self._names),
            *chain.from_iterable(self._contents),
        ]

    def _size(self) -> list[int]:
        return list(map(len, self._attributes))  # more of them, if a method is put there


class Watch:
    """
    The parts of a model that `find_obstacle` and the learners look at, as they were.

    Optimisers too may be replaced, hooked or set otherwise, and parameters frozen or hooked. Asking
    whether they were takes some ten microseconds, looking for obstacles anew half a millisecond.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._networks = model, NetworkWatch(model, NETWORKS)
        parameters = (p for part in self._networks.modules for p in part.parameters(recurse=False))
        self._parameters = list(dict.fromkeys(parameters))
        optimizers = [each for each in self._owned() if hasattr(each, "param_groups")]
        self._groups = [optimizer.param_groups for optimizer in optimizers]
        self._options = [
            (groups[0], itemgetter(*options))
            for groups in self._groups
            if (options := [option for option in OPTIONS if option in groups[0]])
        ]
        self._attributes = list(map(vars, optimizers))
        self._hooks: list[Sized] = []
        for each in optimizers:
            self._hooks += each._optimizer_step_pre_hooks, each._optimizer_step_post_hooks
        self._things, self._then = self._owned(), self._state()

    def same(self) -> bool:
        """Whether nothing has been replaced, frozen, hooked or set otherwise since."""
        return (
            self._networks.same()
            and all(map(is_, self._owned(), self._things))
            and self._state() == self._then
        )

    def _owned(self) -> list[Any]:
        named, networks = vars(self._model).get, self._model.policy._modules.get
        return [
            getattr(networks("actor"), "optimizer", None),
            getattr(networks("critic"), "optimizer", None),
            named("ent_coef_optimizer"),
            named("log_ent_coef"),
        ]

    def _state(self) -> tuple[Any, ...]:
        groups = [*map(len, self._groups), *map(len, self._attributes)]
        options = [values(group) for group, values in self._options]
        return any(self._hooks), groups, options, list(map(_flags, self._parameters))
