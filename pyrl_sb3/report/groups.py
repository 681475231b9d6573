"""Groups of runs that are to be compared, and what each run scored."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pyrl_sb3.config import ConfigError
from pyrl_sb3.config.documents import read_document
from pyrl_sb3.errors import without_addresses
from pyrl_sb3.report.curves import Curve, Values, read_episodes, read_evaluations
from pyrl_sb3.training.errors import InputError, one_line
from pyrl_sb3.training.facts import FACTS, read_facts
from pyrl_sb3.training.folders import is_group
from pyrl_sb3.training.hyperparams import CONFIG
from pyrl_sb3.training.logs import EVALUATIONS
from pyrl_sb3.training.monitors import monitor_files
from pyrl_sb3.training.recorded import runs_within
from pyrl_sb3.training.seeds import SeedGroup, read_group
from pyrl_sb3.training.unfinished import has_all_steps, is_finished


@dataclass(frozen=True, kw_only=True)
class Group:
    """
    Runs of one agent and configuration.

    Attributes:
        label: for tables.
        curves: `{environment: one curve for each run}`. Those of one environment are all scored by
            success, or all by returns: in all groups that are read together.
        seconds: as `curves`, the wall-clock of each point, from the run's start; a run's time at
            its last finished training episode before that; None for runs of `untimed`.
        failed: the runs that ended without having had all of their steps, or without evaluations.
        couples_seeds: whether the runs learned from each other: then they are one sample.
        unevaluated: the runs that have no evaluations, and so no curve.
        damaged: the runs whose facts or evaluations cannot be read, likewise, and what is wrong
            with each.
        diverged: the runs whose last score is no finite number; these have failed too. Such scores
            are the worst that the group has had there instead; without any, runs have no curve.
        untimed: the runs without training episodes that can be read, and what is wrong with each.
    """

    label: str
    curves: dict[str, list[Curve]]
    seconds: dict[str, list[Values | None]]
    failed: list[Path]
    couples_seeds: bool
    unevaluated: list[Path] = field(default_factory=list)
    damaged: dict[Path, str] = field(default_factory=dict)
    diverged: list[Path] = field(default_factory=list)
    untimed: dict[Path, str] = field(default_factory=dict)


def read_groups(folders: Sequence[Path], labels: Sequence[str] = ()) -> list[Group]:
    """
    Read groups: a folder of several seeds is one; other runs are put together by configuration.

    Damaged runs that may be of any group are in a last one, which has no label and no curves.

    Args:
        folders: of runs, of groups, or of several of these.
        labels: for the groups, in their order; by default agent and environment.

    Raises:
        InputError: a folder has no runs, or labels do not fit.
        InputError, ConfigError: what all runs are cannot be read.
    """
    found: dict[str, tuple[str, list[Path], SeedGroup | None]] = {}
    damaged: dict[Path, InputError | ConfigError] = {}
    for run in dict.fromkeys(run for folder in folders for run in runs_within(folder)):
        group = run.parent if is_group(run.parent) else None
        try:
            key, name = (str(group), str(group)) if group else _configured(run)
        except (InputError, ConfigError) as error:
            damaged[run] = error
            continue
        if key not in found:
            found[key] = name, [], read_group(group) if group else None
        found[key][1].append(run)
    if damaged and not found:
        raise next(iter(damaged.values()))
    if labels and len(labels) != len(found):
        there = ", ".join(name for name, _, _ in found.values())
        raise InputError(f"--label: {len(labels)} for {len(found)} groups: {there}")
    names = list(labels) or _distinct([name for name, _, _ in found.values()])
    evaluations = [_read(runs) for _, runs, _ in found.values()]
    by_return = _by_return(evaluations)
    groups = [
        _group(name, runs, seeds, read, by_return)
        for name, (_, runs, seeds), read in zip(names, found.values(), evaluations, strict=True)
    ]
    if damaged:
        lines = {run: one_line(error) for run, error in damaged.items()}
        groups.append(
            Group(label="", curves={}, seconds={}, failed=[], couples_seeds=False, damaged=lines)
        )
    _require_curves(groups)
    return groups


def _require_curves(groups: Sequence[Group]) -> None:
    if any(group.curves for group in groups):
        return
    damage = [each for group in groups for each in group.damaged.values()]
    if damage:
        raise InputError(damage[0])
    if any(group.diverged for group in groups):
        raise InputError("no run there had a return that is a finite number")
    raise InputError(f"no run there has an {EVALUATIONS} yet: nothing to report")


def _configured(run: Path) -> tuple[str, str]:
    """What a run by itself has in common with those of its group, and its agent."""
    facts = read_facts(run)
    request, config = facts.request, _config(run)
    if facts.unwritable:  # objects of one file are the same wherever they were in memory
        config = without_addresses(config) + facts.config_sha256
    name = f"{request.agent} (trained before)" if request.trained_agent else request.agent
    return f"{name} {request.stock} {request.n_envs} {config}", name


def _config(run: Path) -> str:
    """What a run was configured as; runs of different environments may be of one group."""
    path = run / CONFIG
    config = read_document(path).data if path.is_file() else None
    entry = next(iter(config.values())) if isinstance(config, dict) and config else config
    if isinstance(entry, dict):  # without what the request has, wherever it was said
        entry = {key: value for key, value in entry.items() if key != "n_envs"}
    return repr(entry)


def _distinct(names: list[str]) -> list[str]:
    return [f"{n} ({i})" if names.count(n) > 1 else n for i, n in enumerate(names, 1)]


class _Evaluations(NamedTuple):
    """What was read of the runs of a group, see `Group`: curves by environment and run."""

    curves: dict[str, dict[Path, Curve]]
    unevaluated: list[Path]
    damaged: dict[Path, str]


def _read(runs: Sequence[Path]) -> _Evaluations:
    read = _Evaluations({}, [], {})
    for run in runs:
        try:
            env_id = read_facts(run).request.env_id
            if not (run / EVALUATIONS).is_file():
                read.unevaluated.append(run)
                continue
            read.curves.setdefault(env_id, {})[run] = read_evaluations(run)
        except InputError as error:
            read.damaged[run] = str(error)
    return read


def _by_return(groups: Sequence[_Evaluations]) -> set[str]:
    """The environments in which some run never says success: returns are what all have there."""
    return {
        env_id
        for group in groups
        for env_id, there in group.curves.items()
        if any(curve.successes is None for curve in there.values())
    }


def _group(
    label: str,
    runs: Sequence[Path],
    seeds: SeedGroup | None,
    read: _Evaluations,
    by_return: Container[str],
) -> Group:
    scored = {
        env_id: {
            run: replace(curve, successes=None) if env_id in by_return else curve.carried()
            for run, curve in there.items()
        }
        for env_id, there in read.curves.items()
    }
    diverged = [
        run
        for there in scored.values()
        for run, curve in there.items()
        if not np.isfinite(curve.scores[-1])
    ]
    finite = {env_id: _finite(there) for env_id, there in scored.items()}
    failed = _never_begun(seeds) if seeds else []
    lost = {*diverged, *read.damaged}
    failed += [run for run in runs if run in lost or not _has_all_steps(run, seeds)]
    curves = {env_id: list(there.values()) for env_id, there in finite.items() if there}
    times, untimed = _times(run_curve for there in finite.values() for run_curve in there.items())
    return Group(
        label=label,
        curves=curves,
        seconds={env_id: [times.get(run) for run in finite[env_id]] for env_id in curves},
        failed=failed,
        couples_seeds=seeds is not None and seeds.couples_seeds,
        unevaluated=read.unevaluated,
        damaged=read.damaged,
        diverged=diverged,
        untimed=untimed,
    )


def _finite(curves: Mapping[Path, Curve]) -> dict[Path, Curve]:
    """
    The curves with the worst score of all in the place of what is no finite number.

    Left out, an agent that diverges now and then would be as good as one that never does.
    """
    scores = np.concatenate([curve.scores for curve in curves.values()])
    known = scores[np.isfinite(scores)]
    if not len(known):
        return {}
    return {
        run: curve.scored(np.where(np.isfinite(curve.scores), curve.scores, known.min()))
        for run, curve in curves.items()
    }


def _has_all_steps(run: Path, seeds: SeedGroup | None) -> bool:
    """Whether a run is finished; that of a group by what the group is to have."""
    if seeds is not None:
        for seed in seeds.seeds:
            if seeds.run(seed) == run:
                return has_all_steps(seeds, seed)
    return is_finished(run)


def _never_begun(seeds: SeedGroup) -> list[Path]:
    """The seeds of a group that left nothing that `runs_within` could find."""
    return [run for seed in seeds.seeds if not ((run := seeds.run(seed)) / FACTS).is_file()]


def _times(curves: Iterable[tuple[Path, Curve]]) -> tuple[dict[Path, Values], dict[Path, str]]:
    """The wall-clock at the points of runs' curves, and why that of others cannot be read."""
    times, problems = {}, {}
    for run, curve in curves:
        try:
            times[run] = _seconds(run, curve.steps)
        except InputError as error:
            problems[run] = str(error)
    return times, problems


def _seconds(run: Path, steps: Values) -> Values:
    """Wall-clock at each of these steps, between the ends of training episodes interpolated."""
    files = monitor_files(run)
    ended = [
        (each.steps, each.seconds)
        for file in files[:1]  # environments step together
        for each in read_episodes(file, len(files))
    ]
    if not ended:
        raise InputError("no training episode has finished")
    at, times = np.array([(0.0, 0.0), *ended]).T
    return np.interp(steps, at, times)
