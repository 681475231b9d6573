"""Which plugins a command loads, by its options, and how it warns of those that fail."""

import os
import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pyrl_sb3.errors import did_you_mean
from pyrl_sb3.plugins import PluginWarning, apply_options, get_plugin_manager
from pyrl_sb3.plugins.settings import normalise
from pyrl_sb3.plugins.sources import installed, name_and_version


def configure(*, no_plugins: bool = False, plugins: Sequence[str] | None = None) -> None:
    """Apply ``--no-plugins`` and ``-p`` to this process and those it starts."""
    apply_options(os.environ, no_plugins=no_plugins, plugins=plugins or ())
    get_plugin_manager.cache_clear()


def _without(wanted: bool) -> bool:
    if wanted:
        configure(no_plugins=True)
    return wanted


def _with(names: list[str] | None) -> list[str] | None:
    for name in names or ():
        if name.startswith("no:"):
            _require_installed(name.removeprefix("no:").split(","))
        elif name.endswith(".py") and not Path(name).is_file():
            raise typer.BadParameter(f"there is no file {name}")
    if names:
        configure(plugins=names)
    _loaded[:] = names or ()
    return names


def _require_installed(names: Sequence[str]) -> None:
    """Raise BadParameter where one is neither an installed plugin's name nor its package's."""
    plugins = installed()
    packages = [name_and_version(each.dist)[0] or each.name for each in plugins]
    known = [*(each.name for each in plugins), *packages]
    for name in names:
        if normalise(name.strip()) not in map(normalise, known):
            there = f"; there are {', '.join(each.name for each in plugins)}" if plugins else ""
            hint = did_you_mean(normalise(name), known) or there
            raise typer.BadParameter(f"no:{name}: no plugin of that name is installed{hint}")


_loaded: list[str] = []


def pyrl() -> str:
    """Return the beginning of a command that loads the plugins that this one was told to load."""
    return shlex.join(["pyrl", *(word for name in _loaded for word in ("-p", name))])


# While the line is parsed, since which commands there are depends on the plugins.
NoPlugins = Annotated[
    bool, typer.Option("--no-plugins", callback=_without, help="Load no installed plugin.")
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "-p",
        metavar="PLUGIN",
        callback=_with,
        help="A module or .py file to load, or no:NAME to skip.",
    ),
]


_by_python = warnings.formatwarning


def _one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    if issubclass(category, PluginWarning):
        return f"warning: {message}\n"
    return _by_python(message, category, filename, lineno, line)


def plain_warnings() -> None:
    """Show the registry's warnings as one line, as a command should, without file and line."""
    warnings.formatwarning = _one_line
