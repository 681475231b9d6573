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

# Settings that have an option of their own.
_OPTIONS: dict[tuple[str, ...], str] = {("demonstrations",): "--demos"}


@dataclass(frozen=True)
class Override:
    """
    One value.

    :param path: The keys down to it.
    :param option: The option it comes from, where that is not ``--set``.
    """

    path: tuple[str, ...]
    value: Any
    option: str | None = None

    @property
    def where(self) -> str:
        """What errors call it."""
        return self.option or _OPTIONS.get(self.path) or f"--set {'.'.join(self.path)}"


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
            if depth == 0 and key in zoo.MAPPINGS:
                inner = _mapping(inner, change)
            elif depth == 0 and key == "noise" and isinstance(inner, str):
                inner = _noise(inner, change)
            elif depth == 0 and key == "sync" and isinstance(inner, str):
                inner = {"name": inner}
            if not isinstance(inner, dict):
                inside = ".".join(change.path[: depth + 1])
                raise ConfigError(f"{change.where}: {inside} is {short(inner)}, no mapping")
            level[key] = inner
            level = inner
        level[last] = change.value
    return changed


def _noise(text: str, change: Override) -> dict[str, Any]:
    try:
        name, params = parse_noise(get_plugin_manager(), text)
    except PluginError as error:
        raise ConfigError(f"{change.where}: {error}") from None
    return {"name": name, "params": params}


def _mapping(value: Any, change: Override) -> Any:
    try:
        return {} if value is True else zoo.mapping(value)
    except ValueError as error:
        raise ConfigError(f"{change.where}: {error}") from None
