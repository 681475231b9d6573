"""What goes wrong with plugins, worded for the person who has to act on it."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Our own distributions, and the names for whose lack there is a hint to install them.
FIRST_PARTY = {
    "pyrl-colored-noise": ("noise", "colored pink red white"),
    "pyrl-prioritized-replay": ("replay-buffer", "prioritized prioritized-dict prioritized-her"),
    "pyrl-population-sync": ("sync-callback", "population"),
    "pyrl-ray": ("engine", "ray"),
}

# What strangers' code may raise where that ends nothing but itself: not Ctrl-C.
RAISED = (Exception, SystemExit)


def text_of(thing: Any, how: Callable[[Any], str] = str) -> str:
    """
    What to print of a plugin's object, whose own `str` may raise.

    :param how: `str` or `repr`.
    """
    try:
        return how(thing)
    except Exception:
        return f"({type(thing).__name__} without a {how.__name__})"


def named(error: BaseException) -> str:
    """Type and text of an error in one line."""
    text = " ".join(text_of(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class PluginError(Exception):
    """Base of all errors of the registry."""


class UnknownComponentError(PluginError, LookupError):
    """No plugin provides the name."""


class AmbiguousComponentError(PluginError, LookupError):
    """Several plugins provide the bare name; the qualified names are in the message."""


class ComponentLoadError(PluginError, ImportError):
    """The name is registered, but what it stands for cannot be imported."""


class ComponentParameterError(PluginError, TypeError):
    """A component does not take the parameters it was given."""


class MissingPluginError(PluginError, ImportError):
    """A saved model needs a plugin that is not installed."""


class PluginWarning(UserWarning):
    """A plugin is ignored, shadowed or deprecated."""


@dataclass(frozen=True, kw_only=True)
class PluginFailure:
    """
    Why a plugin, or a part of it, is ignored.

    :param plugin: Reads ``name (distribution version)``.
    :param name: The plugin's name alone.
    :param source: Its distribution with the version, or its module.
    :param stage: Where it failed: ``"import"``, ``"api"``, ``"register"`` or ``"collect"``.
    :param error: What was raised there.
    """

    plugin: str
    name: str
    source: str
    stage: str
    error: BaseException

    def __str__(self) -> str:
        return f"plugin {self.plugin} {self.reason}"

    @property
    def reason(self) -> str:
        """Where it failed and why, in one line."""
        return f"failed at {self.stage}: {named(self.error)}"

    @property
    def traceback(self) -> str:
        """The traceback as Python prints it."""
        return "".join(traceback.format_exception(self.error))


def install_command(distribution: str, version: Any = None) -> str:
    """
    What to type to install a plugin's package.

    :param version: Of packages of others; ours are installed by folder: while they are not on PyPI,
        anyone may take their names there.
    """
    if distribution in FIRST_PARTY:
        return f"pip install ./plugins/{distribution}, in a clone"
    return f"pip install {distribution}=={version}"


def install_hint(kind: str, name: str) -> str | None:
    """The distribution of ours that provides `name`, bare or qualified, if one does."""
    namespace, _, bare = name.rpartition("/")
    if namespace:
        return f"pyrl-{namespace}" if f"pyrl-{namespace}" in FIRST_PARTY else None
    for distribution, (of_kind, names) in FIRST_PARTY.items():
        if kind == of_kind and bare in names.split():
            return distribution
    return None
