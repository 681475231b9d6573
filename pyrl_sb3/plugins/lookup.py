"""From a name to a component: the rules of precedence, and the errors people read."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from pyrl_sb3.errors import did_you_mean
from pyrl_sb3.plugins.component import Component
from pyrl_sb3.plugins.errors import (
    AmbiguousComponentError,
    ComponentLoadError,
    UnknownComponentError,
    install_command,
    install_hint,
    text_of,
)
from pyrl_sb3.plugins.fields import is_path
from pyrl_sb3.plugins.sources import package_of
from pyrl_sb3.plugins.types import SPECS

if TYPE_CHECKING:
    from pyrl_sb3.plugins.manager import PluginManager

# The plugin that holds what the package brings itself.
BUILTIN = "pyrl"

# Of a class that is named by its path nobody said anything: assume what restricts least, except
# that seeds whose independence nobody promised are not treated as independent.
_UNDECLARED: dict[str, dict[str, Any]] = {
    "replay-buffer": {"observation_kinds": frozenset({"array", "dict"})},
    "sync-callback": {"couples_seeds": True},
}


@dataclass(kw_only=True)
class PluginInfo:
    """
    A plugin: where it comes from, and what loading it took.

    :param name: Lower-case words joined by hyphens.
    :param module: What was imported, or the path of its file.
    :param distribution: The installed package that brings it, None for a module of ``-p``.
    :param version: Of that package.
    :param hooks: Those that it implements.
    :param import_ms: Milliseconds that importing it took.
    """

    name: str
    module: str
    distribution: str | None = None
    version: str | None = None
    hooks: tuple[str, ...] = ()
    import_ms: float = 0.0

    @property
    def package(self) -> str:
        """What it is imported as."""
        return package_of(self.module)

    @property
    def source(self) -> str:
        """Its distribution with the version, or its module where it is of none."""
        return f"{self.distribution} {self.version}" if self.distribution else self.module

    def __str__(self) -> str:
        return f"{self.name} ({self.source})" if self.distribution else self.name


@dataclass(frozen=True, kw_only=True)
class Found:
    """
    A component and where it comes from.

    :param kind: A key of `types.SPECS`, such as ``"noise"``.
    :param name: ``plugin/name``, or the reference itself for ``pkg.mod:Attr``.
    :param spec: What the plugin says of it.
    :param plugin: Who brings it; None for ``pkg.mod:Attr``.
    """

    kind: str
    name: str
    spec: Component
    plugin: PluginInfo | None = field(default=None, compare=False)

    def record(self, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """
        What run folders and saved models keep, so that the name still means this later.

        :param params: What the user has set.
        """
        target, plugin = self.spec.target, self.plugin
        source = (plugin.distribution, plugin.version) if plugin else (None, None)
        if plugin and plugin.name == BUILTIN:
            source = "pyrl-sb3", import_module("pyrl_sb3").__version__
        return {
            "kind": self.kind,
            "name": self.name,
            "params": dict(params or {}),
            "target": target if isinstance(target, str) else qualified_name(target),
            "distribution": source[0],
            "version": source[1],
        }


def plugin_name(found: Found) -> str | None:
    """The name of the plugin that brings it; None for ``pkg.mod:Attr``."""
    return found.plugin.name if found.plugin else None


def qualified_name(thing: Any) -> str:
    """
    The path ``pkg.mod:Attr`` of a class or function; of another object that can be called, that of
    its class, or of the function that it is a partial of.
    """
    if isinstance(thing, partial):
        return qualified_name(thing.func)
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}:{named.__qualname__}"


def check_kind(kind: str) -> str:
    """
    The kind itself.

    :raises UnknownComponentError: when there is none of that name.
    """
    if kind not in SPECS:
        raise unknown_kind(kind, SPECS)
    return kind


def unknown_kind(kind: str, kinds: Collection[str]) -> UnknownComponentError:
    """The error that there is none of that name, but these."""
    return UnknownComponentError(
        f"unknown kind of component {kind!r}; kinds: {', '.join(kinds)}{did_you_mean(kind, kinds)}"
    )


def find(manager: "PluginManager", kind: str, ref: str) -> Found:
    """See `PluginManager.find`."""
    known = list(manager.found(check_kind(kind)).values())
    if ":" in ref:
        if not is_path(ref):
            raise UnknownComponentError(f"{kind} {ref!r} does not read 'package.module:Attribute'")
        spec = SPECS[kind](name="undeclared", target=ref, **_UNDECLARED.get(kind, {}))
        return Found(kind=kind, name=ref, spec=spec)
    namespace, _, bare = ref.rpartition("/")
    matches = [
        found
        for found in known
        if bare in found.spec.names and (not namespace or plugin_name(found) == namespace)
    ]
    if not matches:
        raise UnknownComponentError(_unknown(manager, kind, ref, known))
    chosen = _choose(manager, kind, ref, matches)
    if chosen.spec.deprecated:
        manager.warn(f"{kind} {chosen.name!r} is deprecated: {chosen.spec.deprecated}")
    return chosen


def load_target(found: Found) -> Any:
    """
    Import what the component stands for.

    :raises ComponentLoadError: when that fails, whatever the reason.
    """
    target = found.spec.target
    if not isinstance(target, str):
        return target
    try:
        loaded = resolve_name(target)
        if not callable(loaded):
            raise TypeError(f"{loaded!r} cannot be called")
        return loaded
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        source = f" from plugin {found.plugin}" if found.plugin else ""
        hint = f"\n  hint: {found.spec.install_hint}" if found.spec.install_hint else ""
        raise ComponentLoadError(
            f"{found.kind} {found.name!r}{source} could not be imported ({target}): "
            f"{type(error).__name__}: {text_of(error)}{hint}"
        ) from error


def _choose(manager: "PluginManager", kind: str, ref: str, matches: Sequence[Found]) -> Found:
    if len(matches) == 1:
        return matches[0]
    names = ", ".join(sorted(found.name for found in matches))
    for found in matches:
        # Installing a package must not change what a config means.
        if plugin_name(found) == BUILTIN:
            manager.warn(
                f"{kind} {ref!r} means {found.name!r}; write the full name for another of {names}"
            )
            return found
    raise AmbiguousComponentError(f"{kind} {ref!r} is provided by several plugins; write {names}")


def _unknown(manager: "PluginManager", kind: str, ref: str, known: Sequence[Found]) -> str:
    available = ", ".join(sorted(found.name for found in known)) or "none"
    names = [name for found in known for name in (found.name, *found.spec.names)]
    lines = [f"unknown {kind} {ref!r}; available: {available}"]
    package = install_hint(kind, ref)
    if package and package not in {info.distribution for info in manager.disabled}:
        lines[0] += f"; it is part of {package}: {install_command(package)}"
    else:
        lines[0] += did_you_mean(ref, names)
    lines += [f"  note: {each}" for each in manager.absent()]
    return "\n".join(lines)
