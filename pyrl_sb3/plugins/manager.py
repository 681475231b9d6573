"""
The registry of plugins. What the rest of the package calls::

    manager = get_plugin_manager()
    found = manager.find("noise", "pink")             # Found: qualified name, spec, plugin
    params = manager.check_params("noise", "pink", {"sigma": 0.3})   # with the defaults filled in
    target = manager.load("noise", "pink")            # the factory or class itself

A reference is ``pkg.mod:Attr``, ``plugin/name`` or a bare name. Plugins are looked for on the first
look-up that needs them, never on import. Kinds are the keys of `types.SPECS`.
"""

import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from importlib import import_module
from typing import Any

import pluggy

from pyrl_sb3.plugins import builtin, hookspecs, lookup, signature
from pyrl_sb3.plugins.component import Component
from pyrl_sb3.plugins.errors import PluginError, PluginFailure, PluginWarning
from pyrl_sb3.plugins.fields import is_name
from pyrl_sb3.plugins.hookspecs import PROJECT
from pyrl_sb3.plugins.lookup import BUILTIN, Found, PluginInfo
from pyrl_sb3.plugins.settings import Settings, normalise
from pyrl_sb3.plugins.sources import (
    entry_module,
    installed,
    load_entry,
    load_module,
    name_and_version,
    package_of,
)
from pyrl_sb3.plugins.types import SPECS
from pyrl_sb3.plugins.validation import check_api, check_hooks, environments, item_problem


class PluginManager:
    """
    Finds plugins, keeps what they offer, and remembers which failed and why.

    :param settings: Which plugins to load.

    `plugins` maps names to `PluginInfo`; `failures` and `disabled` say what is missing. A plugin
    that fails is ignored with a warning, or raised, see `Settings.strict`.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.plugins: dict[str, PluginInfo] = {}
        self.failures: list[PluginFailure] = []
        self.disabled: list[PluginInfo] = []
        self._found: dict[str, dict[str, Found]] = {kind: {} for kind in SPECS}
        self._scanned = False
        self._said: set[str] = set()
        self._pluggy = pluggy.PluginManager(PROJECT)
        self._pluggy.add_hookspecs(hookspecs)
        self.register(builtin, BUILTIN)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "PluginManager":
        """A manager with the settings of `environ`, see `Settings`."""
        return cls(Settings.from_environ(environ))

    def scan(self) -> None:
        """Load the installed plugins, in the order of their names; does nothing the second time."""
        if self._scanned:
            return
        self._scanned = True
        for entry in installed():
            dist, version = name_and_version(entry.dist)
            info = PluginInfo(
                name=normalise(entry.name),
                module=entry_module(entry),
                distribution=dist,
                version=version,
            )
            if self.settings.wants(entry.name, dist or entry.name):
                self._add(info, partial(load_entry, entry))
            else:
                self.disabled.append(info)
        for module in self.settings.modules:
            import_module("gymnasium")  # so that what the module registers is told from its own
            info = PluginInfo(name=normalise(package_of(module)).strip("-"), module=module)
            self._add(info, partial(load_module, module))

    def register(self, plugin: object, name: str) -> PluginInfo:
        """
        Add a plugin object (usually a module) under `name`.

        :raises PluginError: when it is not a valid plugin.
        """
        info = PluginInfo(name=normalise(name), module=getattr(plugin, "__name__", repr(plugin)))
        failed_before = len(self.failures)
        self._add(info, lambda: plugin, quiet=True)
        if len(self.failures) > failed_before:
            failure = self.failures[failed_before]
            raise PluginError(str(failure)) from failure.error
        return info

    def unregister(self, name: str) -> None:
        """Forget the plugin that is registered as `name`, its components and its failures."""
        self._pluggy.unregister(name=name)
        del self.plugins[name]
        self.failures = [failure for failure in self.failures if failure.name != name]
        for kind, found in self._found.items():
            self._found[kind] = {
                key: each for key, each in found.items() if lookup.plugin_name(each) != name
            }

    def components(self, kind: str | None = None) -> list[Found]:
        """
        All registered components, or those of one kind, sorted by kind and qualified name.

        :raises UnknownComponentError: when there is no such kind.
        """
        self.scan()
        kinds = SPECS if kind is None else [lookup.check_kind(kind)]
        return [self._found[each][name] for each in kinds for name in sorted(self._found[each])]

    def absent(self) -> list[str]:
        """A line for each plugin that failed or is disabled, of which what is unknown may be."""
        self.scan()
        disabled = (f"plugin {info} is installed but disabled" for info in self.disabled)
        return [*map(str, self.failures), *disabled]

    def find(self, kind: str, ref: str) -> Found:
        """
        What `ref` stands for; does not import its target.

        :param kind: A key of `types.SPECS`, such as ``"noise"``.
        :param ref: ``name``, ``plugin/name`` or ``pkg.mod:Attr``.
        :raises UnknownComponentError: when there is no such kind, or nothing has that name.
        :raises AmbiguousComponentError: when several plugins have that bare name.
        """
        if not ref.startswith(f"{BUILTIN}/") and ":" not in ref:
            self.scan()
        return lookup.find(self, kind, ref)

    def load(self, kind: str, ref: Any) -> Any:
        """
        The target of `ref`; an object that is not a string is returned as it is.

        :param kind: As in `find`, which also says what else is raised.
        :raises ComponentLoadError: when the target cannot be imported.
        """
        return lookup.load_target(self.find(kind, ref)) if isinstance(ref, str) else ref

    def check_params(self, kind: str, ref: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """
        The component's defaults updated by `params`; imports the target.

        :param kind: As in `find`, like `ref`; `load` says what else is raised.
        :raises ComponentParameterError: for a parameter that it does not take, or lacks.
        """
        found = self.find(kind, ref)
        label = f"{kind} {found.name!r}"
        return signature.check(found.spec, label, lookup.load_target(found), params)

    def found(self, kind: str) -> Mapping[str, Found]:
        """Qualified name -> component of this `kind`, of what has been loaded so far."""
        return self._found[kind]

    def warn(self, message: str) -> None:
        """Warn with this `message` once: one command looks a name up several times."""
        if message not in self._said:
            self._said.add(message)
            warnings.warn(message, PluginWarning, stacklevel=2)

    def _add(self, info: PluginInfo, load: Callable[[], object], *, quiet: bool = False) -> None:
        started = time.perf_counter()
        stage = "import"
        # Of a module that the program has imported itself, nobody can tell what came with it.
        imported = self._is_named(info) and info.module in sys.modules
        before = None if imported else environments()
        try:
            plugin = load()
            info.import_ms = 1000 * (time.perf_counter() - started)
            if self._pluggy.is_registered(plugin):
                return
            stage = "api"
            check_api(plugin)
            stage = "register"
            self._register(plugin, info, before)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # of SystemExit's kind there are others: pytest's skip
            self._fail(info, stage, error, quiet)
            return
        finally:
            if self.settings.trace:
                took = 1000 * (time.perf_counter() - started)
                print(f"[plugins] {info}: {info.module} in {took:.1f} ms", file=sys.stderr)
        self.plugins[info.name] = info
        self._collect(plugin, info, quiet)

    def _register(self, plugin: object, info: PluginInfo, before: Mapping[str, Any] | None) -> None:
        if not is_name(info.name):
            raise ValueError(f"its name {info.name!r} is not lower-case words joined by hyphens")
        if info.name in self.plugins:
            raise ValueError(f"its name is taken by plugin {self.plugins[info.name]}")
        try:
            self._pluggy.register(plugin, info.name)
            check_hooks(self._pluggy, plugin, before)
        except BaseException:
            # Before 1.7, pluggy leaves a plugin that fails its validation half registered.
            if self._pluggy.has_plugin(info.name):
                self._pluggy.unregister(name=info.name)
            raise

    def _collect(self, plugin: object, info: PluginInfo, quiet: bool) -> None:
        for spec in SPECS.values():
            # One by one: in a joint call, one raising implementation would lose all results.
            for impl in getattr(self._pluggy.hook, spec.hook).get_hookimpls():
                if impl.plugin is plugin:
                    info.hooks = (*info.hooks, spec.hook)
                    self._take(info, spec, impl.function, quiet)

    def _take(self, info: PluginInfo, spec: type[Component], hook: Any, quiet: bool) -> None:
        """Keep the components that one hook of a plugin gives."""
        try:
            given = hook()
            if not isinstance(given, Iterable):  # a spec alone, or nothing where `yield` lacks
                raise TypeError(f"{spec.hook} gives {type(given).__name__}, not specs to iterate")
            items = list(given)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._fail(info, "collect", error, quiet)
            return
        known = self._found[spec.kind]
        for item in items:
            mine = [found.spec for found in known.values() if found.plugin is info]
            problem = item_problem(spec, item, mine)
            if problem:
                self._fail(info, "collect", problem, quiet)
                continue
            name = f"{info.name}/{item.name}"
            known[name] = Found(kind=spec.kind, name=name, spec=item, plugin=info)

    def _fail(self, info: PluginInfo, stage: str, error: BaseException, quiet: bool) -> None:
        failure = PluginFailure(
            plugin=str(info), name=info.name, source=info.source, stage=stage, error=error
        )
        self.failures.append(failure)
        strict, named = self.settings.strict, self._is_named(info)
        options = f"-p {shlex.quote(info.module)} " if named else ""
        doctor = f"`pyrl {options}plugins doctor` shows the traceback"
        if strict or (named and strict is None):
            raise PluginError(f"{failure}; {doctor}" if named else str(failure)) from error
        if not quiet:
            silenced = "" if named else f", PYRL_DISABLE_PLUGINS={info.name} silences this"
            warnings.warn(
                f"{failure}; it is ignored. {doctor}{silenced}.", PluginWarning, stacklevel=2
            )

    def _is_named(self, info: PluginInfo) -> bool:
        """Whether it is of a module that was asked for, not of one that happens to be installed."""
        return info.distribution is None and info.module in self.settings.modules


@cache
def get_plugin_manager() -> PluginManager:
    """The manager of this process, with the settings of its environment variables."""
    return PluginManager.from_environ(os.environ)
