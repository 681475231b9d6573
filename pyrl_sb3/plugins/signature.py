"""Checking parameters against what a component's target takes, before anything is built."""

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any

from pyrl_sb3.errors import did_you_mean
from pyrl_sb3.plugins.component import Component
from pyrl_sb3.plugins.errors import ComponentParameterError

_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def parameters(target: Callable[..., Any], leading: int = 0) -> tuple[dict[str, Parameter], bool]:
    """
    What `target` can be given by keyword, without its first `leading` arguments.

    A class with ``**kwargs`` also takes what its parents take; and anything, where these take
    nothing by keyword: then it can only keep them itself.

    :return: Name -> parameter, and whether any other name is accepted as well.
    """
    if not inspect.isclass(target):
        return _named(target, leading)
    found: dict[str, Parameter] = {}
    forwards = False
    for cls in inspect.getmro(target):
        if "__init__" not in vars(cls) or cls is object:
            continue
        named, more = _named(vars(cls)["__init__"], leading + 1)
        kept = forwards and not named
        if forwards:
            # What a parent requires, the child may pass itself.
            named = {k: _optional(parameter) for k, parameter in named.items()}
        found, forwards = {**named, **found}, more
        if not forwards:
            return found, kept
    return found, forwards


def check(
    component: Component, label: str, target: Callable[..., Any], params: Mapping[str, Any]
) -> dict[str, Any]:
    """
    The component's defaults updated by `params`.

    :raises ComponentParameterError: for an unknown, reserved or missing parameter.
    """
    known, anything = parameters(target, component.leading)
    ours = {name for name in known if name not in component.supplied}
    merged = {**component.defaults, **params}
    for name in merged:
        if name in component.supplied:
            raise ComponentParameterError(f"{label}: {name!r} is set by the library, not by you")
        if name not in ours and not anything:
            takes = ", ".join(sorted(ours)) or "none"
            raise ComponentParameterError(
                f"{label} has no parameter {name!r}; it takes {takes}{did_you_mean(name, ours)}"
            )
    lacking = [name for name in required(component, target) if name not in merged]
    if lacking:
        noun = "parameter" if len(lacking) == 1 else "parameters"
        names = ", ".join(map(repr, lacking))
        raise ComponentParameterError(f"{label} needs the {noun} {names}")
    return merged


def required(component: Component, target: Callable[..., Any]) -> list[str]:
    """The parameters that somebody has to give, in the order of the signature."""
    known, _ = parameters(target, component.leading)
    given = {*component.supplied, *component.defaults}
    return [
        name
        for name, parameter in known.items()
        if parameter.default is Parameter.empty and name not in given
    ]


def _optional(parameter: Parameter) -> Parameter:
    return parameter.replace(default=None) if parameter.default is Parameter.empty else parameter


def _named(function: Callable[..., Any], leading: int) -> tuple[dict[str, Parameter], bool]:
    try:
        every = list(inspect.signature(function).parameters.values())
    except ValueError:  # some built-in callables have no signature
        return {}, True
    forwards = any(p.kind is Parameter.VAR_KEYWORD for p in every)
    positional = [p for p in every if p.kind is not Parameter.VAR_POSITIONAL]
    return {p.name: p for p in positional[leading:] if p.kind in _NAMED}, forwards
