"""Runs by their folders: which algorithm and environment a saved model belongs to."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pyrl_sb3.config import ConfigError
from pyrl_sb3.plugins import PluginError
from pyrl_sb3.training.agents import find_agent
from pyrl_sb3.training.errors import InputError, one_line
from pyrl_sb3.training.facts import FACTS, check_run, read_facts
from pyrl_sb3.training.folders import BEST_MODEL, MODEL, is_group
from pyrl_sb3.training.missing import check_installed
from pyrl_sb3.training.seeds import read_group
from pyrl_sb3.training.trial import TrialRequest

_Read = TypeVar("_Read")


def trial_of_run(run: Path, *, best: bool = False, **wanted: Any) -> TrialRequest:
    """
    Return what is wanted, with algorithm, environment and model of a run.

    Args:
        run: its folder, or that of synchronised copies, which have one model; or a model in it.
        best: take the best model of the evaluations in the place of the last one.
        wanted: attributes of `TrialRequest`, but for `agent`, `env_id` and `path`.

    Raises:
        InputError: no run, or none that has a model.
        MissingPluginError: the plugin of its algorithm is not installed.
    """
    folder, model = (run.parent, run) if run.is_file() else (run, run / MODEL)
    if best:
        model = folder / BEST_MODEL
    if is_group(folder) and (folder / MODEL).is_file():
        request = read_group(folder).request
    else:
        check_run(folder)
        request = read_facts(folder).request
    try:
        find_agent(request.agent)
    except InputError as error:
        check_installed(error, [folder])
        raise InputError(f"{folder / FACTS}: {error}") from None
    if not model.is_file():
        there = " and ".join(name for name in (MODEL, BEST_MODEL) if (folder / name).is_file())
        raise InputError(f"no {model.name} in {folder}" + (f"; there is {there}" if there else ""))
    return TrialRequest(agent=request.agent, env_id=request.env_id, path=model, **wanted)


def runs_within(folder: Path) -> list[Path]:
    """
    Return a run's folder itself, or the runs in a folder, sorted.

    Raises:
        InputError: neither.
    """
    found = [*folder.glob(f"*/{FACTS}"), *folder.glob(f"*/seed_*/{FACTS}")]
    within = sorted((file.parent for file in found if not is_group(file.parent)), key=_place)
    if within and not (folder / FACTS).is_file():
        return within
    check_run(folder)
    return [folder]


def read_each(
    paths: Sequence[Path], read: Callable[[Path], _Read], *, models: bool = False
) -> tuple[list[_Read], list[str]]:
    """
    Read runs; in folders of several, some may be damaged or have nothing to be read yet.

    Args:
        paths: of runs, or of several each.
        read: reads one; raises InputError, ConfigError or PluginError where it cannot.
        models: whether a path may also be that of a model.

    Returns:
        what was read, and a line for each run that was left out.

    Raises:
        InputError: a path leads to no run.
        InputError, ConfigError, PluginError: it leads to one that cannot be read, or none can be.
    """
    found: list[_Read] = []
    problems: list[tuple[Path, Exception]] = []
    for path in paths:
        for run in [path] if models and path.is_file() else runs_within(path):
            try:
                found.append(read(run))
            except (InputError, ConfigError, PluginError) as error:
                if run == path:
                    raise
                problems.append((run, error))
    if not found:
        raise problems[0][1]
    return found, [f"{run} is left out: {one_line(error)}" for run, error in problems]


def _place(path: Path) -> tuple[Path, str, int, str]:
    """Where a run is among others: by number, `seed_2` before `seed_10`."""
    stem, _, number = path.name.rpartition("_")
    by_number = (stem, int(number), "") if number.isdecimal() else ("", 0, path.name)
    return path.parent, *by_number
