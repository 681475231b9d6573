"""What the commands share of their output."""

import errno
import io
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from pyrl_sb3.cli.plugin_options import pyrl
from pyrl_sb3.errors import counted
from pyrl_sb3.training.command_line import going_on, quoted

if TYPE_CHECKING:
    from rich.console import Console

    from pyrl_sb3.training.request import TrainingResult


def console_for_log() -> "Console":
    """Return the console to print on; the package's log goes there too, above any live bar."""
    from rich.console import Console

    stream: Any = _Lasting()
    console = Console(soft_wrap=True, highlight=False, file=stream)
    # By FORCE_COLOR alone, which notebooks set, bars would be drawn into files, again and again.
    redrawn = sys.stdout.isatty() or "TTY_INTERACTIVE" in os.environ
    if not (console.is_terminal and redrawn):
        console.is_interactive = False

    class ConsoleHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            console.print(record.getMessage(), markup=False)

    log = logging.getLogger("pyrl_sb3")
    log.handlers = [ConsoleHandler()]
    log.setLevel(logging.INFO)
    return console


def help_without_command(context: typer.Context) -> None:
    """Show the help of a group of commands of which none is named."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def print_anything() -> None:
    """
    Have letters that the terminal lacks printed as escapes, instead of ending a training; what is
    printed go nowhere where an output is closed, as daemons have it; and lines of no width, of
    which Rich would print nothing, be as wide as the terminal.
    """
    if os.environ.get("COLUMNS") == "0":
        del os.environ["COLUMNS"]
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # as long as Python runs
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        # In the locale C, Python escapes what it could not read, and then mostly writes UTF-8.
        in_c = stream.errors == "surrogateescape" and stream.encoding.lower() != "utf-8"
        if stream.errors == "strict" or in_c:
            stream.reconfigure(errors="backslashreplace")


class _Lasting:
    """Standard output that nobody may take any more: there is a training to go on with and save."""

    @property
    def _stream(self) -> TextIO:
        stream = sys.stdout  # which may be another one by now
        found: TextIO = getattr(stream, "rich_proxied_file", stream)  # in the place of a live bar's
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        """Have what is still to come, Python's own flush at exit included, go nowhere."""
        with suppress(OSError):  # that may be lost too
            if error.errno not in (errno.EPIPE, errno.EIO):
                sys.stderr.write(f"pyrl: nothing more can be printed: {error.strerror}\n")
        # Not a file of the system, perhaps
        with suppress(OSError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())


def say_how_to_go_on(console: "Console", agent: str, folder: Path, *, trust: bool = False) -> None:
    """Print the command that goes on with a run, or with several seeds, as `going_on` has it."""
    console.print(f"go on: {pyrl()} {going_on(agent, folder, trust=trust)}", markup=False)


def say_how_to_test(
    console: "Console", agent: str, env_id: str, folder: Path, *, trust: bool
) -> None:
    """Print the command that tests the agent of a run."""
    command = f"{pyrl()} {agent}-test {env_id} {quoted(folder)}{' --trust' if trust else ''}"
    console.print(f"test it: {command}", markup=False)


def say_stopped(console: "Console", result: "TrainingResult") -> int:
    """Say that a signal ended the training and where its model is; return the exit code."""
    assert result.stopped_by is not None
    steps = counted(result.timesteps, "step")
    console.print(f"{result.stopped_by.name}: stopped after {steps}")
    console.print(f"model saved: {result.model}", markup=False)
    return 128 + result.stopped_by
