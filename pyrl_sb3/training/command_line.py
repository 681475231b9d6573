"""From what was asked for back to the command line that asks for it, for other processes."""

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyrl_sb3.training.request import TrainingRequest

# Attributes whose options have other names.
_OPTIONS = {"folder": "run_folder", "overrides": "set"}


def arguments(request: TrainingRequest) -> list[str]:
    """Return the command line, after `pyrl`, that asks for this."""
    given = {
        each.name: value
        for each in dataclasses.fields(request)
        if (value := getattr(request, each.name)) is not None and value != each.default
    }
    words = [f"{given.pop('agent')}-train", given.pop("env_id")]
    words += options({"overrides": given.pop("overrides", ())})
    return [*words, *options(given)]


def options(given: Mapping[str, Any]) -> list[str]:
    """Return the options of the command line that say these attributes of a `TrainingRequest`."""
    words: list[str] = []
    for name, value in given.items():
        option = "--" + _OPTIONS.get(name, name).replace("_", "-")
        if value is False:
            words.append(option.replace("--", "--no-", 1))
        elif value is True:
            words.append(option)
        else:
            several = value if isinstance(value, tuple) else (value,)
            words += [word for each in several for word in (option, str(each))]
    return words


def said(name: str, value: Any) -> str:
    """Return the part of the command line that says an attribute of a `TrainingRequest`."""
    return f"ENV {value}" if name == "env_id" else " ".join(options({name: value}))


def said_before(name: str, value: Any) -> str | None:
    """Return the same without the option, where it takes a value; None where nothing is said."""
    if isinstance(value, bool):
        return None if value is getattr(TrainingRequest, name) else said(name, value)
    if isinstance(value, tuple):
        return " ".join(value) or None
    return None if value is None else str(value)


def quoted(folder: Path) -> str:
    """Return a folder as the shell, and a command, take it for one: `-a` would be an option."""
    text = str(folder)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def going_on(agent: str, folder: Path, *, trust: bool) -> str:
    """
    Return the command line, after `pyrl`, that goes on with a run, or with several seeds.

    It needs `trust` where that runs code that files name: they say nothing of it themselves.
    """
    return f"{agent}-train --resume {quoted(folder)}{' --trust' if trust else ''}"
