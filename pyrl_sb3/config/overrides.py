"""``--set policy_kwargs.net_arch=[256,256]``: single values in place of the config's."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from pyrl_sb3.config import zoo
from pyrl_sb3.config.documents import parse_yaml
from pyrl_sb3.config.errors import ConfigError
from pyrl_sb3.errors import short
from pyrl_sb3.plugins import PluginError, get_plugin_manager, parse_noise

LEFT_OUT: Any = object()  # in the place of a value: the key is not to be there


@dataclass(frozen=True)
class Override:
    """
    One value.

    :param path: The keys down to it.
    :param value: What is to be there, or `LEFT_OUT`.
    :param option: The option it comes from, where that is not ``--set``.
    """

    path: tuple[str, ...]
    value: Any
    option: str | None = None

    @property
    def where(self) -> str:
        """What errors call it."""
        if self.option is None and self.path == ("demonstrations",):
            return "--demos"
        return self.option or f"--set {'.'.join(self.path)}"


def parse_override(text: str, *, trust: bool = False) -> Override:
    """
    Read ``key.path=value``; the value is YAML, so bare words such as ``foo:bar`` are text.

    :param trust: As `parse_yaml` takes it.
    :raises ConfigError: when it is not of that form.
    """
    keys, equals, value = text.partition("=")
    path = tuple(key.strip() for key in keys.split("."))
    if not equals or not all(path):
        raise ConfigError(f"--set {short(text)}: must read key=value, such as gamma=0.98")
    return Override(path, parse_yaml(value, f"--set {keys.strip()}", trust=trust).data)


def apply(content: Mapping[str, Any], changes: list[Override]) -> dict[str, Any]:
    """
    A copy of an entry with the changes made, in their order; `noise` also replaces the zoo's noise.

    :raises ConfigError: when a path leads through something that is no mapping.
    """
    changed = deepcopy(dict(content))
    for change in changes:
        *above, last = change.path
        if change.path[0] == "noise":
            for key in ("noise_type", "noise_std"):
                changed.pop(key, None)
        level: Any = changed
        for depth, key in enumerate(above):
            inner = level.get(key) or {}
            if depth == 0:
                inner = _written_out(key, inner, change)
            if not isinstance(inner, dict):
                inside = ".".join(change.path[: depth + 1])
                raise ConfigError(f"{change.where}: {inside} is {short(inner)}, no mapping")
            level[key] = inner
            level = inner
        if change.value is LEFT_OUT:
            level.pop(last, None)
        else:
            level[last] = change.value
    return changed


def _written_out(key: str, value: Any, change: Override) -> Any:
    """The mapping that a setting stands for in short; anything else is left alone."""
    try:
        if key in zoo.MAPPINGS:
            return {} if value is True else zoo.mapping(value)
        if key == "noise" and isinstance(value, str):
            name, params = parse_noise(get_plugin_manager(), value)
            return {"name": name, "params": params}
    except (ValueError, PluginError) as error:
        raise ConfigError(f"{change.where}: {error}") from None
    return {"name": value} if key == "sync" and isinstance(value, str) else value
