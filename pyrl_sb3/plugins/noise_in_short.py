"""Noise in short, as people write it on the command line: ``eps_0.2+normal_0.3..0.1``."""

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pyrl_sb3.plugins.errors import ComponentParameterError
from pyrl_sb3.plugins.manager import PluginManager
from pyrl_sb3.plugins.types import NoiseSpec

# Of the package's own noise processes, those that take another one after a plus.
_OUTER = ("eps", "policy")


def parse_noise(manager: PluginManager, text: str) -> tuple[str, dict[str, Any]]:
    """
    Split noise in short into a reference and parameters.

    - ``ou_0.2``: ``("ou", {"sigma": 0.2})``, the number is what the noise calls its scale;
    - ``ou_0.3..0.1``: the scale falls, in a straight line over the training;
    - ``eps_0.2+normal_0.1``: a random action with probability 0.2, else Gaussian noise;
    - ``policy+pink``: the noise in the place of a stochastic policy's own, in units of the
      policy's standard deviation.

    :param manager: Where noises that a number follows are looked up, for what it is called.
    :param text: As above.
    :raises PluginError: when one of these is not found.
    :raises ComponentParameterError: when a number is none, the noise has no scale, or two kinds do
        not go together.
    """
    first, plus, rest = text.partition("+")
    name, params, end = _term(manager, first.strip())
    if plus and ":" not in first:
        if name not in _OUTER:
            raise ComponentParameterError(
                f"noise {text!r}: only {' and '.join(_OUTER)} take another noise after +"
            )
        inner, given = parse_noise(manager, rest.strip())
        scale = _scale(manager, inner)
        if name == "policy" and scale is not None:
            given = {scale: 1.0, **given}
        params["noise"] = {"name": inner, "params": given}
    if end is not None:
        return "scheduled", {"noise": {"name": name, "params": params}, "end": end}
    return name, params


def _scale(manager: PluginManager, ref: str) -> str | None:
    """The parameter that a number after the noise sets."""
    spec = manager.find("noise", ref).spec
    assert isinstance(spec, NoiseSpec)
    return spec.scale


def _term(manager: PluginManager, text: str) -> tuple[str, dict[str, Any], float | None]:
    """Reference, parameters, and what remains of the scale in the end, where that is said."""
    ref, underscore, number = text.rpartition("_")
    if not underscore or ":" in text:
        return text, {}, None
    scale = _scale(manager, ref)
    if scale is None:
        raise ComponentParameterError(f"noise {ref!r} has no scale, so {text!r} means nothing")
    start, dots, end = number.partition("..")
    first = _number(text, ref, start)
    if not dots:
        return ref, {scale: first}, None
    if not first > 0:
        raise ComponentParameterError(f"noise {text!r}: a scale that changes must begin above 0")
    return ref, {scale: first}, _number(text, ref, end) / first


def _number(text: str, ref: str, number: str) -> float:
    with suppress(ValueError):
        if math.isfinite(found := float(number)):
            return found
    message = f"noise {text!r}: {number!r} is no number; write for example {ref}_0.1"
    raise ComponentParameterError(message)


def is_noise(value: Any) -> bool:
    """Whether a parameter's value describes a noise process, in short or by name."""
    return isinstance(value, str) or (isinstance(value, Mapping) and "name" in value)
