"""`pyrl plugins ...` and `pyrl list KIND`: what is installed, what it offers, what is wrong."""

import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import Annotated, NoReturn

import typer

from pyrl_sb3.cli import options
from pyrl_sb3.cli.json_output import print_json
from pyrl_sb3.cli.kinds import KINDS, begun, kind_of
from pyrl_sb3.errors import did_you_mean
from pyrl_sb3.plugins import (
    Found,
    PluginError,
    PluginInfo,
    PluginManager,
    PluginWarning,
    UnknownComponentError,
    get_plugin_manager,
)
from pyrl_sb3.plugins.inspection import (
    all_names,
    describe,
    offers,
    overview,
    report_failure,
    shadowed_names,
    summarise,
)
from pyrl_sb3.plugins.settings import normalise
from pyrl_sb3.training.agents import without_commands

app = typer.Typer(
    name="plugins",
    help="Plugins: list them, look into one, find out what is wrong, run its checks.",
    rich_markup_mode=None,
)

Kind = Annotated[str | None, typer.Option(metavar="KIND", help=f"Only {', '.join(KINDS)}.")]


@app.command("list")
def list_plugins(
    kind: Kind = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also built-in, disabled and broken plugins.")
    ] = False,
    requirements: Annotated[
        bool, typer.Option("--requirements", help="Print pins for pip instead.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """
    List the plugins.

    Example: pyrl plugins list --kind noises
    """
    manager = _scanned()
    wanted = kind_of(kind) if kind else None
    components = {name: offers(manager, info, wanted) for name, info in manager.plugins.items()}
    shown = [
        info
        for name, info in manager.plugins.items()
        if (components[name] or not wanted) and (everything or name != "pyrl")
    ]
    if requirements:
        pins = [f"{info.distribution}=={info.version}" for info in shown if info.distribution]
        if as_json:
            print_json(pins)
        else:
            typer.echo("".join(f"{pin}\n" for pin in pins), nl=False)
    elif as_json:
        print_json(overview(manager, shown, components))
    else:
        rows = _rows(manager, shown, components)
        if everything:
            rows += [(info.name, info.source, "disabled", "") for info in manager.disabled]
        _table(("plugin", "distribution", "status", "components"), rows)
        if manager.failures:
            typer.echo("`pyrl plugins doctor` shows what went wrong")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A plugin, or a component.")],
    as_json: options.Json = False,
) -> None:
    """
    Show a plugin's components with their parameters.

    Examples: pyrl plugins show pyrl; pyrl plugins show colored-noise/pink
    """
    manager = _scanned()
    chosen = [found for found in manager.components() if normalise(name) in all_names(found)]
    failed = any(failure.name == normalise(name) for failure in manager.failures)
    info = manager.plugins.get(normalise(name))
    if not chosen and (failed or info is None):
        _raise_unknown(manager, name)
    if as_json:
        print_json([describe(found) for found in chosen])
        return
    if not chosen:
        typer.echo(f"{info} offers nothing")
    for found in chosen:
        typer.echo(f"{found.kind} {found.name}")
        about = describe(found)
        if "parameters" in about:
            about["parameters"] = ", ".join(f"{k}={v}" for k, v in about["parameters"].items())
        for key, value in about.items():
            if key not in ("kind", "name") and value:
                typer.echo(f"  {key}: {value}")


@app.command()
def doctor(as_json: options.Json = False) -> None:
    """
    Say what is wrong with the installed plugins; the exit code is 1 if anything is.

    Examples: pyrl plugins doctor   |   pyrl plugins doctor --json
    """
    manager = get_plugin_manager()
    manager.settings = replace(manager.settings, strict=False)  # all that fail, not the first
    _scanned()
    shadowed = shadowed_names(manager)
    if as_json:
        report = {
            "failures": [report_failure(failure, traceback=True) for failure in manager.failures],
            "shadowed": shadowed,
            "without_commands": dict(without_commands()),
            "import_ms": {info.name: info.import_ms for info in manager.plugins.values()},
        }
        print_json(report)
    else:
        for info in manager.plugins.values():
            typer.echo(f"ok      {info}, imported in {info.import_ms:.0f} ms")
        for info in manager.disabled:
            typer.echo(f"off     {info}, disabled")
        for failure in manager.failures:
            typer.echo(f"broken  {failure}\n{_indent(failure.traceback)}")
        for name, owners in shadowed.items():
            typer.echo(f"shared  {name} is provided as {', '.join(owners)}")
        for name, ours in without_commands():
            typer.echo(f"taken   {name}: the commands of that name train {ours}")
    if manager.failures:
        raise typer.Exit(1)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A plugin.")], as_json: options.Json = False
) -> None:
    """
    Import all that a plugin names and run the test kit on it; the exit code is 1 on failure.

    What needs parameters is skipped: the functions of pyrl_sb3.testing take them. So is what says
    that another package has to be installed for it.

    Examples: pyrl plugins check colored-noise   |   pyrl plugins check colored-noise --json
    """
    manager = _scanned()
    info = manager.plugins.get(normalise(name))
    if info is None:
        _raise_unknown(manager, name)
    # The kit needs torch and SB3, which listing must not load.
    from pyrl_sb3.testing.checks import SKIPPED, check_component

    results: dict[str, str] = {}

    def note(component: str, problem: str) -> None:
        results[component] = problem
        if as_json:
            return
        if problem.startswith(SKIPPED):
            typer.echo(f"skipped {component}: {problem.removeprefix(SKIPPED)}")
        else:
            typer.echo(f"FAILED {component}: {problem}" if problem else f"ok     {component}")

    for found in offers(manager, info, None):
        note(f"{found.kind} {found.name}", check_component(manager, found))
    reasons = [failure.reason for failure in manager.failures if failure.name == info.name]
    if reasons:
        note(f"plugin {info}", "; ".join(reasons))
    if as_json:
        print_json(results)
    if any(problem and not problem.startswith(SKIPPED) for problem in results.values()):
        raise typer.Exit(1)


def list_components(
    kind: Annotated[
        str,
        typer.Argument(metavar="KIND", help=f"One of {', '.join(KINDS)}.", autocompletion=begun),
    ] = "",
    as_json: options.Json = False,
) -> None:
    """
    List what can be named on the command line and in configs; without KIND, the kinds.

    Example: pyrl list noises
    """
    if not kind:
        if as_json:
            print_json(list(KINDS))
        else:
            typer.echo("\n".join(KINDS))
        return
    manager = _scanned()
    found = manager.components(kind_of(kind))
    if as_json:
        print_json([summarise(each) for each in found])
    else:
        _table(("name", "summary"), [(each.name, each.spec.summary) for each in found])


def _scanned() -> PluginManager:
    """Return the manager after a scan whose failures these commands report themselves."""
    manager = get_plugin_manager()
    # What a plugin prints while it is imported is no part of what is asked for here.
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore", PluginWarning)
        manager.scan()
    return manager


def _raise_unknown(manager: PluginManager, name: str) -> NoReturn:
    for failure in manager.failures:
        if failure.name == normalise(name):
            raise PluginError(str(failure))
    known = ", ".join(sorted(manager.plugins))
    near = did_you_mean(name, manager.plugins)
    raise UnknownComponentError(f"no plugin or component {name!r}; plugins: {known}{near}")


def _rows(
    manager: PluginManager, shown: Iterable[PluginInfo], components: Mapping[str, list[Found]]
) -> list[Sequence[str]]:
    """A line for each plugin, also for one of which some hooks or components have failed."""
    partly = {failure.name for failure in manager.failures if failure.stage == "collect"}
    rows = {
        (info.name, info.source, "failed at collect" if info.name in partly else "ok"): "; ".join(
            f"{kind} {', '.join(found.name for found in group)}"
            for kind, group in groupby(components[info.name], attrgetter("kind"))
        )
        for info in shown
    }
    for failure in manager.failures:
        rows.setdefault((failure.name, failure.source, f"failed at {failure.stage}"), "")
    return [(*row, names) for row, names in rows.items()]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        typer.echo("  ".join(cells).rstrip())


def _indent(text: str) -> str:
    return "".join(f"        {line}\n" for line in text.splitlines()).rstrip()
