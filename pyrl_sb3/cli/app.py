"""The `pyrl` command: its sub-commands put together, its errors made lines for people."""

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from pyrl_sb3 import __version__
from pyrl_sb3.cli import (
    demo,
    demos,
    evaluate,
    options,
    output,
    plot,
    plugin_options,
    plugins,
    record,
    report,
    test,
    train,
)
from pyrl_sb3.config import ConfigError
from pyrl_sb3.errors import NotANumberError
from pyrl_sb3.plugins import PluginError, get_plugin_manager
from pyrl_sb3.training.agents import plugin_agents, refuse_without_replay
from pyrl_sb3.training.errors import InputError, RunStoppedError, file_of
from pyrl_sb3.training.missing import check_installed

_OF_AGENTS = ("-train", "-test")  # commands that may be those of plugins


class _Commands(TyperGroup):
    """Ours, and on demand those for the algorithms of plugins, which take time to look up."""

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """Return the command of that name; where it may be a plugin's, all of theirs are added."""
        if cmd_name not in self.commands and cmd_name.endswith(_OF_AGENTS):
            found = list(plugin_agents())
            theirs = typer.Typer(rich_markup_mode=None)
            train.add_commands(theirs, found)
            test.add_commands(theirs, found)
            if found:
                self.commands = {**get_group(theirs).commands, **self.commands}
            if cmd_name not in self.commands:
                refuse_without_replay(cmd_name.rpartition("-")[0])
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        """Return the command that the words begin with; runs say what to install for theirs."""
        try:
            return super().resolve_command(ctx, args)
        except typer.TyperException as error:
            default = args[0].rpartition("-")[0]  # where runs are that nobody put elsewhere
            check_installed(error, [Path(word) for word in (default, *args[1:]) if word])
            if f"{args[0]}-train" in self.commands:
                error.message += f" There are {args[0]}-train and {args[0]}-test."
            elif args[0].endswith(_OF_AGENTS):
                error.message = "; ".join([error.message, *get_plugin_manager().absent()])
            raise


app = typer.Typer(
    name="pyrl",
    cls=_Commands,
    help="Train and test DDPG, TD3, SAC, TQC and CrossQ, and with discrete actions DQN, QR-DQN and "
    "discrete SAC, with and without hindsight experience replay.",
    epilog="Start with: pyrl demo",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
train.add_commands(app)
test.add_commands(app)
for module in (evaluate, plot, record, report, demo):
    module.add_command(app)
for group in (demos.app, plugins.app):
    group.callback(invoke_without_command=True)(output.help_without_command)
    app.add_typer(group)
app.command("list")(plugins.list_components)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pyrl-sb3 {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    no_plugins: plugin_options.NoPlugins = False,
    loaded: plugin_options.Plugins = None,
) -> None:
    output.help_without_command(context)


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code; the user's mistakes become one line on stderr."""
    plugin_options.plain_warnings()
    output.print_anything()
    # What the words say until a command has read its options: an error may come before.
    shown = {options.VERBOSE: "--verbose" in arguments}
    try:
        code = app(list(arguments), prog_name="pyrl", standalone_mode=False, obj=shown)
    except typer.Abort as error:
        # Typer's, for EOFError, which an environment whose simulator has died may raise.
        aborted = error
    except (typer.TyperException, InputError, PluginError, ConfigError) as error:
        if shown[options.VERBOSE]:
            traceback.print_exc()
        for problem in _problems(error):
            typer.echo(f"pyrl: {problem}", err=True)
        return 2
    except (RunStoppedError, NotANumberError) as error:
        typer.echo(f"pyrl: {_with_plugins(str(error))}", err=True)
        return int(getattr(error, "exit_code", 1))
    except OSError as error:
        if error.strerror is None or shown[options.VERBOSE]:
            raise
        where = f": {file_of(error)}" if error.filename else ""
        typer.echo(f"pyrl: {error.strerror}{where}", err=True)
        return 1
    except MemoryError as error:
        if shown[options.VERBOSE]:
            raise
        typer.echo(f"pyrl: {' '.join(str(error).split()) or 'out of memory'}", err=True)
        return 1
    else:
        return int(code or 0)
    # Here, since what is raised as another error is handled forgets what it came from itself.
    raise aborted.__cause__ or aborted


def _problems(error: Exception) -> Sequence[str]:
    if isinstance(error, ConfigError):
        return error.problems
    if isinstance(error, PluginError):
        return [str(error)]  # its lines are a list: what fits, then what failed
    message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
    return [_with_plugins(" ".join(message.split()))]


def _with_plugins(message: str) -> str:
    """Return a message whose commands load the plugins that this one was told to load."""
    return message.replace("`pyrl ", f"`{plugin_options.pyrl()} ")
