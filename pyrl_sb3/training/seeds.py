"""
Several seeds of one experiment: a folder with one run for each, and what they have in common.

`<root>/<environment>_<n>/` holds `seeds.yml`, a run's folder `seed_<s>/` for each seed, and what
each printed in `seed_<s>.log`.
"""

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pyrl_sb3.training.engines import PROCESSES
from pyrl_sb3.training.errors import InputError, first_line
from pyrl_sb3.training.facts import FACTS, read_facts, request_from, request_written
from pyrl_sb3.training.folders import (
    CHECKPOINTS,
    MODEL,
    SEEDS,
    new_run_folder,
    saved_timesteps,
    write_whole,
)
from pyrl_sb3.training.logs import EVALUATIONS
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.untrusted import read_arrays

_MOST_SEEDS = 1000


def parse_seeds(text: str, first: int | None = None) -> tuple[int, ...]:
    """
    Return the seeds that `--seeds` means: `10` is ten of them, `3,7,11` are these three.

    Args:
        text: a number of seeds, or the seeds themselves.
        first: that a number of seeds counts from; 0 by default.

    Raises:
        InputError: neither, a seed twice, or `first` with seeds that are named.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise InputError(f"--seeds {text}: write how many, such as 10, or which, such as 3,7,11")
    numbers = [int(word) for word in words]
    if len(words) == 1:
        if not 1 <= numbers[0] <= _MOST_SEEDS:
            raise InputError(f"--seeds {text}: must be at least 1, and at most {_MOST_SEEDS}")
        return tuple(range(first or 0, (first or 0) + numbers[0]))
    if first is not None:
        raise InputError(f"--seed {first} and --seeds {text} both say which; leave out --seed")
    twice = [seed for seed in numbers if numbers.count(seed) > 1]
    if twice:
        raise InputError(f"--seeds {text}: {twice[0]} is there twice")
    return tuple(numbers)


@dataclass(frozen=True, kw_only=True)
class SeedGroup:
    """
    Several seeds of one experiment; what `seeds.yml` says.

    Attributes:
        folder: of the group.
        seeds: of its runs.
        request: that all have in common; its seed, folder and place mean nothing.
        engine: what ran them.
        sync: the strategy that synchronises them; None for independent ones.
        couples_seeds: whether they are one sample, since they learn from each other.
        jobs: processes at a time.
        extra: what else `seeds.yml` is to say, or says.
    """

    folder: Path
    seeds: tuple[int, ...]
    request: TrainingRequest
    engine: str = PROCESSES
    sync: str | None = None
    couples_seeds: bool = False
    jobs: int = 1
    extra: Mapping[str, Any] = field(default_factory=dict)

    def run(self, seed: int) -> Path:
        """Return the folder of a seed's run."""
        return self.folder / f"seed_{seed}"

    def log(self, seed: int) -> Path:
        """Return the file with what the process of a seed printed."""
        return self.folder / f"seed_{seed}.log"

    def request_of(self, seed: int) -> TrainingRequest:
        """Return what one seed is to do, in its folder."""
        return dataclasses.replace(self.request, seed=seed, folder=self.run(seed), save=None)


def new_group(root: Path, group: SeedGroup) -> SeedGroup:
    """
    Make the next folder for a group in `root`; earlier ones stay untouched.

    Args:
        root: where groups and runs are.
        group: with everything but its folder.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    folder = new_run_folder(root, group.request.env_id)
    group = dataclasses.replace(group, folder=folder)
    write_group(group)
    return group


def write_group(group: SeedGroup) -> None:
    """Write `seeds.yml`, whole or not at all."""
    facts = {
        "seeds": list(group.seeds),
        "engine": group.engine,
        "sync": group.sync,
        "couples_seeds": group.couples_seeds,
        "jobs": group.jobs,
        "command": list(sys.argv),
        **group.extra,
        "request": request_written(group.request),
    }
    text = yaml.safe_dump(facts, sort_keys=False)
    write_whole(group.folder / SEEDS, lambda part: part.write_text(text, "utf-8"))


def read_group(folder: Path) -> SeedGroup:
    """
    Read what a group of seeds is.

    Raises:
        InputError: it is not there, or not as it was written.
    """
    path = folder / SEEDS
    try:
        facts = yaml.safe_load(path.read_text(encoding="utf-8"))
        sync = facts.pop("sync")
        seeds = tuple(int(seed) for seed in facts.pop("seeds"))
        if not seeds:
            raise ValueError("no seeds")
        return SeedGroup(
            folder=folder,
            seeds=seeds,
            request=request_from(facts.pop("request")),
            engine=str(facts.pop("engine")),
            sync=None if sync is None else str(sync),
            couples_seeds=bool(facts.pop("couples_seeds")),
            jobs=int(facts.pop("jobs", 1)),
            extra={key: value for key, value in facts.items() if key != "command"},
        )
    except Exception as error:  # whatever reading a damaged file comes to
        raise InputError(f"{path} cannot be read as a group's: {first_line(error)}") from error


def is_finished(run: Path, timesteps: int | None = None) -> bool:
    """
    Whether a run has had all of its steps and has been saved.

    Args:
        run: its folder, which need not be there.
        timesteps: that it is to have; by default those it was to have when it was last begun.
    """
    from pyrl_sb3.training.checkpoint import Checkpoint  # brings PyTorch
    from pyrl_sb3.training.checkpoint_folder import CheckpointFolder

    saved = saved_timesteps(run / MODEL)
    if saved is None or not (run / FACTS).is_file():
        return False
    wanted = timesteps or read_facts(run).timesteps
    latest = CheckpointFolder(run / CHECKPOINTS).latest()
    if latest is None:  # --save-freq 0, and nobody stopped it
        return timesteps is None or timesteps <= read_facts(run).timesteps
    return min(saved, Checkpoint(latest).moment.timesteps) >= wanted


def unfinished(group: SeedGroup, timesteps: int | None = None) -> list[int]:
    """
    Return the seeds that have not had all of their steps.

    Args:
        group: of the seeds.
        timesteps: as in `is_finished`.

    Raises:
        InputError: one is to have more steps, and has kept no checkpoint to go on from.
    """
    left = [seed for seed in group.seeds if not is_finished(group.run(seed), timesteps)]
    for run in map(group.run, left):
        if is_finished(run) and not has_checkpoint(run):
            raise InputError(
                f"--timesteps {timesteps}: {run} is finished and has kept no checkpoint to go on "
                "from, because of --save-freq 0"
            )
    return left


def best_seed(group: SeedGroup) -> Path:
    """
    Return the run whose last evaluation had the highest mean return that is a finite number; one
    without is never better.

    Raises:
        InputError: none of its runs has a model.
    """
    runs = [run for seed in group.seeds if ((run := group.run(seed)) / MODEL).is_file()]
    if not runs:
        raise InputError(f"no seed of {group.folder} has a {MODEL} yet")
    return max(runs, key=_last_return)


def _last_return(run: Path) -> float:
    if not (run / EVALUATIONS).is_file():
        return -math.inf
    results = read_arrays(run / EVALUATIONS).get("results")
    if results is None or not results.size:
        return -math.inf
    with np.errstate(invalid="ignore"):  # infinities of both signs
        last = float(results[-1].mean())
    return last if math.isfinite(last) else -math.inf


def has_checkpoint(run: Path) -> bool:
    """Whether a run can go on; otherwise it has to begin again."""
    from pyrl_sb3.training.checkpoint_folder import CheckpointFolder  # brings PyTorch

    return (run / FACTS).is_file() and CheckpointFolder(run / CHECKPOINTS).latest() is not None


def group_seeds(folders: Sequence[Path]) -> list[Path]:
    """Sort the folders of seeds by number, `seed_2` before `seed_10`."""
    return sorted(folders, key=lambda path: (path.parent, *_place(path)))


def _place(path: Path) -> tuple[str, int, str]:
    stem, _, number = path.name.rpartition("_")
    return (stem, int(number), "") if number.isdecimal() else ("", 0, path.name)
