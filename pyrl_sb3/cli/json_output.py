"""`--json`: standard output has the JSON alone, whatever environments and plugins print."""

import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

import typer

_kept: list[TextIO] = []  # standard output, while a command keeps it for its JSON


def keep_stdout(context: typer.Context, wanted: bool) -> bool:
    """Have all but `print_json` print on standard error until the command ends, where wanted."""
    if wanted and not context.resilient_parsing:  # as for Tab, whose answer is printed
        context.with_resource(_keeping())
    return wanted


def print_json(data: Any) -> None:
    """Print on the standard output that was kept; a number that is not finite becomes null."""
    print(json.dumps(_finite(data), indent=2, allow_nan=False), file=_kept[-1], flush=True)


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


@contextmanager
def _keeping() -> Iterator[None]:
    _kept.append(_taken_from_others())
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _kept.pop()


def _taken_from_others() -> TextIO:
    """
    Standard output. Where it is a process's own, what C libraries print goes to standard error from
    now on, and to the end: they may keep it until then.
    """
    stdout, stderr = sys.stdout, sys.stderr
    if None in (stdout, stderr) or (stdout, stderr) != (sys.__stdout__, sys.__stderr__):
        return stdout
    stdout.flush()
    own = os.fdopen(os.dup(1), "w", encoding=stdout.encoding, errors=stdout.errors)
    os.dup2(2, 1)
    return own
