"""How demonstrations are learned from."""

import numbers
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CloningSettings:
    """
    How demonstrations are learned from; the defaults are those of Nair 2018
    (https://arxiv.org/abs/1709.10089), which has no warm start.

    :param share: of each batch that is drawn from the demonstrations
    :param bc_weight: of the loss of behaviour cloning in the actor's; 0 leaves the demonstrations
        to the critics
    :param rl_weight: of the actor's own loss as long as `bc_weight` is above 0; from then on the
        actor learns from that loss alone, with weight 1
    :param bc_steps: environment steps over which `bc_weight` falls linearly to 0; None: it stays
    :param q_filter: clone only actions that the critics think better than the policy's
    :param warm_start: gradient steps of behaviour cloning alone, before the first environment step
    :raises ValueError: a setting that is none, or out of range
    """

    share: float = 0.125
    bc_weight: float = 1.0
    rl_weight: float = 0.001
    bc_steps: int | None = None
    q_filter: bool = True
    warm_start: int = 0

    def __post_init__(self) -> None:
        for name, kind, what in (
            *((name, numbers.Real, "a number") for name in ("share", "bc_weight", "rl_weight")),
            *((name, numbers.Integral, "a whole number") for name in ("warm_start", "bc_steps")),
            ("q_filter", bool, "true or false"),
        ):
            value = getattr(self, name)
            if name == "bc_steps" and value is None:
                continue
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise ValueError(f"{name}={value!r}: must be {what}")
        if not 0 < self.share < 1:
            raise ValueError(f"share={self.share}: must be above 0 and below 1")
        for name in ("bc_weight", "rl_weight", "warm_start"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)}: must be 0 or more")
        if self.bc_steps is not None and self.bc_steps < 1:
            raise ValueError(f"bc_steps={self.bc_steps}: must be at least 1 environment step")

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> "CloningSettings":
        """
        The settings that were given, the others by default.

        :raises ValueError: an unknown one, or a number out of range
        """
        known = [each.name for each in fields(cls)]
        for name in given or {}:
            if name not in known:
                raise ValueError(f"demonstration_kwargs has no {name!r}: choose {', '.join(known)}")
        return cls(**(given or {}))

    def weight_at(self, steps: int) -> float:
        """The weight of behaviour cloning after so many environment steps."""
        left = 1.0 if self.bc_steps is None else max(0.0, 1 - steps / self.bc_steps)
        return self.bc_weight * left
