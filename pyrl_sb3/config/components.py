"""
Classes that a config names: by a plugin's name, or by where they are.

A path imports a module and calls what it finds there, so without trust it must lead into a package
of `TRUSTED` or of an installed plugin, and to a class of the expected kind.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from inspect import Parameter
from pkgutil import resolve_name
from typing import Any, TypeGuard

from pyrl_sb3.config import checks
from pyrl_sb3.config.errors import ConfigError
from pyrl_sb3.config.expressions import NAMES
from pyrl_sb3.errors import did_you_mean, short
from pyrl_sb3.plugins import CallbackSpec, PluginError, get_plugin_manager
from pyrl_sb3.plugins.signature import parameters

TRUSTED = frozenset(
    {"gymnasium", "gymnasium_robotics", "pyrl_sb3", "rl_zoo3", "sb3_contrib", "sbx"}
    | {"stable_baselines3", "torch"}
)

# Wrappers of these packages that write where their arguments say: commands that only test a
# stranger's run build its wrappers.
_WRITERS = frozenset(
    {
        "stable_baselines3.common.monitor.Monitor",
        "stable_baselines3.common.vec_env.vec_monitor.VecMonitor",
        "stable_baselines3.common.vec_env.vec_video_recorder.VecVideoRecorder",
        "gymnasium.wrappers.rendering.RecordVideo",
    }
)
# What a class named by a config must be.
_BASES = {
    "policy": "stable_baselines3.common.policies:BasePolicy",
    "replay-buffer": "stable_baselines3.common.buffers:ReplayBuffer",
    "features-extractor": "stable_baselines3.common.torch_layers:BaseFeaturesExtractor",
    "env-wrapper": "gymnasium:Wrapper",
    "vec-env-wrapper": "stable_baselines3.common.vec_env:VecEnvWrapper",
    "callback": "stable_baselines3.common.callbacks:BaseCallback",
    "sync-callback": "stable_baselines3.common.callbacks:BaseCallback",
    "activation": "torch.nn:Module",
    "optimizer": "torch.optim:Optimizer",
}
# Kinds that plugins do not provide: only paths, and the names of `NAMES`.
_WITHOUT_PLUGINS = frozenset({"vec-env-wrapper", "activation", "optimizer"})


@dataclass(frozen=True, kw_only=True)
class Reference:
    """
    A class that a config names, and the arguments it gets.

    :param kind: One of the registry's kinds, or ``vec-env-wrapper``.
    :param name: A path, a plugin's name, or the class (or ready callback) of a trusted Python file.
    :param params: Those arguments.
    :param where: Its place, for errors.
    :param trust: Import from any package.
    """

    kind: str
    name: Any
    params: Mapping[str, Any] = field(default_factory=dict)
    where: str = field(default="", compare=False)
    trust: bool = field(default=False, compare=False)

    @property
    def arguments(self) -> dict[str, Any]:
        """The parameters, and what a plugin passes where they do not say."""
        return {**defaults_of(self.kind, self.name), **self.params}

    def load(self) -> Any:
        """
        The class itself, or the ready object of a trusted Python file.

        :raises ConfigError: when it cannot be found or imported, is of another kind, or takes other
            arguments.
        """
        return self.resolved()[0]

    def resolved(self) -> tuple[Any, dict[str, Any]]:
        """
        What `load` gives, and `arguments` in their declared types.

        :raises ConfigError: see `load`.
        """
        if not isinstance(self.name, (str, type)):
            return self.name, dict(self.params)
        try:
            target = load_class(self.kind, self.name, trust=self.trust)
            return target, self._checked(target)
        except (ConfigError, PluginError) as error:
            raise ConfigError(f"{self.where}: {error}") from None

    def lacks(self, name: str) -> bool:
        """
        Whether what it names may need this argument, which a run passes, and is not given it.

        :raises ConfigError: see `load`.
        """
        target, arguments = self.resolved()
        called = isinstance(self.name, (str, type)) and callable(target)
        return called and name not in arguments and _open(parameters(target)[0].get(name))

    def problems(self) -> tuple[str, ...]:
        """What `load` would raise, a line each."""
        try:
            self.load()
        except ConfigError as error:
            return error.problems
        return ()

    def _checked(self, target: Any) -> dict[str, Any]:
        leading = 1 if self.kind.endswith("wrapper") else 0
        known, anything = parameters(target, leading) if callable(target) else ({}, False)
        arguments = self.arguments
        passed = CallbackSpec.supplied if self.kind == "callback" else frozenset()
        for name, value in self.params.items():
            if name in passed and _open(known.get(name)) and _is_plain(value):
                raise ConfigError(
                    f"{short(self.name)} takes no argument {name!r}: it is given one of the run"
                )
            if name in known:
                arguments[name] = self._converted(name, value, known[name])
            elif not anything:
                advice = did_you_mean(name, known)
                raise ConfigError(f"{short(self.name)} takes no argument {name!r}{advice}")
        if not self.trust and self._writes(target):
            raise ConfigError(
                f"{short(self.name)} writes files where a config tells it to; pass --trust if you "
                "trust this one (runs are monitored without it)"
            )
        missing = [
            name
            for name, parameter in known.items()
            if parameter.default is Parameter.empty and name not in {*arguments, *passed}
        ]
        if missing and self.kind == "callback":
            raise ConfigError(f"{short(self.name)} needs the argument {missing[0]!r}")
        return arguments

    def _converted(self, name: str, value: Any, parameter: Parameter) -> Any:
        if "BaseCallback" in str(parameter.annotation) and _is_plain(value):
            raise ConfigError(
                f"{short(self.name)}: {name} takes a callback, which only a config in Python can "
                "give"
            )
        try:
            return checks.argument(value, parameter)
        except ValueError as error:
            raise ConfigError(f"{short(self.name)}: {name}: {error}") from None

    def _writes(self, target: Any) -> bool:
        """Whether it would be told where to write."""
        names = {
            f"{each.__module__}.{each.__qualname__}" for each in getattr(target, "__mro__", ())
        }
        places = (self.params.get(name) for name in ("filename", "video_folder"))
        return bool(names & _WRITERS) and any(place is not None for place in places)


def _open(parameter: Parameter | None) -> bool:
    """Whether there is such a parameter, with no default that says what else it may be."""
    return parameter is not None and any(parameter.default is x for x in (Parameter.empty, None))


def _is_plain(value: Any) -> bool:
    """Whether YAML has it; a trusted Python file may have an environment."""
    return isinstance(value, (str, bool, int, float, list, dict))


def load_class(kind: str, name: Any, *, trust: bool = False) -> Any:
    """
    The class of that kind that `name` stands for; a class and None are returned as they are.

    :raises ConfigError: for a path that may not be followed, or leads to something else.
    :raises PluginError: for a name that no plugin provides.
    """
    if name is None or inspect.isclass(name):
        return name
    if not isinstance(name, str):
        raise ConfigError(f"must be the name of a class, not {short(name)}")
    if name in NAMES:
        return _of_kind(kind, name, resolve_name(NAMES[name]))
    if not registered(name):
        return _of_kind(kind, name, _by_path(kind, name, trust))
    if kind in _WITHOUT_PLUGINS:
        choices = [known for known in NAMES if "." in known or kind == "optimizer"]
        raise ConfigError(f"no {kind} {short(name)}{did_you_mean(name, choices)}")
    return get_plugin_manager().load(kind, name)


def registered(name: Any) -> TypeGuard[str]:
    """Whether `name` is one of the registry's, no path and none of `NAMES`."""
    if not isinstance(name, str) or name in NAMES:
        return False
    return "/" in name or not ("." in name or ":" in name)


def defaults_of(kind: str, name: Any) -> Mapping[str, Any]:
    """
    What a plugin passes to the component of that name unless somebody sets it; nothing for classes.

    :raises PluginError: for a name that no plugin provides.
    """
    return get_plugin_manager().find(kind, name).spec.defaults if registered(name) else {}


def check_path(kind: str, name: Any, *, trust: bool) -> None:
    """Raise ConfigError, importing nothing, when `name` is a path that may not be followed."""
    if not isinstance(name, str) or name in NAMES or registered(name):
        return
    parts = name.replace(":", ".").split(".")
    if not all(part.isidentifier() for part in parts):
        raise ConfigError(f"{short(name)} is no path such as package.module.Class")
    if trust:
        return
    if any(part.startswith("_") for part in parts):
        raise ConfigError(f"{kind} {short(name)}: private; pass --trust if you trust it")
    package = parts[0]
    if package in TRUSTED:
        return
    manager = get_plugin_manager()
    manager.scan()
    if package not in {info.package for info in manager.plugins.values()}:
        advice = did_you_mean(name, NAMES) or did_you_mean(package, TRUSTED)
        raise ConfigError(
            f"{kind} {short(name)} would run code of {package!r}; pass --trust if you trust it, "
            f"or install it as a plugin{advice}"
        )


def wrapping(references: Sequence[Reference]) -> Callable[[Any], Any] | None:
    """
    What wraps an environment in all `references`, the first innermost; None without any.

    :raises ConfigError: see `Reference.load`.
    """
    return _Wrapping([ref.resolved() for ref in references]) if references else None


class _Wrapping:
    """A class and not a closure, for worker processes to unpickle."""

    def __init__(self, wrappers: list[tuple[Callable[..., Any], dict[str, Any]]]) -> None:
        self.wrappers = wrappers

    def __call__(self, env: Any) -> Any:
        for wrapper, params in self.wrappers:
            env = wrapper(env, **params)
        return env


def _by_path(kind: str, name: str, trust: bool) -> Any:
    check_path(kind, name, trust=trust)
    module, _, attribute = name.replace(":", ".").rpartition(".")
    try:
        found = import_module(module)
    except ImportError as error:
        raise ConfigError(f"{kind} {short(name)}: {error}") from None
    if not hasattr(found, attribute):
        advice = did_you_mean(attribute, dir(found))
        raise ConfigError(f"{kind} {short(name)}: {module} has no {attribute}{advice}")
    return getattr(found, attribute)


def _of_kind(kind: str, name: str, target: Any) -> Any:
    base = resolve_name(_BASES[kind])
    if not (inspect.isclass(target) and issubclass(target, base)):
        raise ConfigError(f"{short(name)} is no {kind}: it must be a subclass of {base.__name__}")
    return target
