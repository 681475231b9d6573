"""What the commands share of their output, and of checking where it goes."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from pyrl_sb3.training.request import TrainingResult


def console_for_log(*, stderr: bool = False) -> "Console":
    """Return the console to print on; the package's log goes there too, above any live bar."""
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False, stderr=stderr)

    class ConsoleHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            console.print(record.getMessage(), markup=False)

    log = logging.getLogger("pyrl_sb3")
    log.handlers = [ConsoleHandler()]
    log.setLevel(logging.INFO)
    return console


def check_picture(path: Path) -> None:
    """Raise InputError if no picture could be written to `path`."""
    from pyrl_sb3.training.errors import InputError

    if path.suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"--out {path}: must end in .png, .svg or .pdf")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"--out {path}: cannot write to {path.parent}")


def say_how_to_go_on(console: "Console", agent: str, folder: Path) -> None:
    """Print the command that goes on with a run, or with several seeds."""
    console.print(f"go on: pyrl {agent}-train --resume {folder}", markup=False)


def say_how_to_test(console: "Console", agent: str, env_id: str, folder: Path) -> None:
    """Print the command that tests the agent of a run."""
    console.print(f"test it: pyrl {agent}-test {env_id} {folder}", markup=False)


def say_stopped(console: "Console", result: "TrainingResult") -> int:
    """Say that a signal ended the training and where its model is; return the exit code."""
    assert result.stopped_by is not None
    console.print(f"{result.stopped_by.name}: stopped after {result.timesteps} steps")
    console.print(f"model saved: {result.model}", markup=False)
    return 128 + result.stopped_by
