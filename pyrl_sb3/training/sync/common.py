"""The last checkpoint that all copies have: from there they go on together."""

import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress

import numpy as np

from pyrl_sb3.training.checkpoint_folder import CheckpointFolder
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.facts import FACTS, read_written
from pyrl_sb3.training.folders import CHECKPOINTS
from pyrl_sb3.training.resume import check_configs
from pyrl_sb3.training.run import checked
from pyrl_sb3.training.seeds import SeedGroup
from pyrl_sb3.training.sync.group import DistributedGroup
from pyrl_sb3.training.unfinished import may_be_emptied

_LISTED = 64  # checkpoints of a copy that the others hear of


def common_checkpoint(seeds: SeedGroup, group: DistributedGroup) -> int:
    """
    Return the steps of the last checkpoint that all copies have, 0 where they are to begin anew;
    this copy's later ones, which others do not have, are deleted.

    Raises:
        InputError: as `in_common`; nothing is deleted.
    """
    run = seeds.run(seeds.seeds[group.rank])
    checkpoints = CheckpointFolder(run / CHECKPOINTS).by_steps()
    listed = np.zeros(_LISTED, np.int64)
    newest = list(checkpoints)[-_LISTED:]
    listed[: len(newest)] = newest
    everybody = group.all_gather({"checkpoints": listed})
    last = in_common(
        seeds,
        {
            seeds.seeds[rank]: [int(steps) for steps in each["checkpoints"] if steps]
            for rank, each in everybody.items()
        },
    )
    for steps, path in checkpoints.items():
        if steps > last:
            shutil.rmtree(path)
    return last


def in_common(seeds: SeedGroup, checkpoints: Mapping[int, Collection[int]]) -> int:
    """
    Return the steps of the last checkpoint that all copies have, 0 where they are to begin anew.

    Args:
        seeds: the group.
        checkpoints: of each seed, by steps.

    Raises:
        InputError: there are checkpoints, but none that all have.
    """
    last = max(set.intersection(*map(set, checkpoints.values())), default=0)
    # One that has none beside those with their first ones was killed before its own.
    first = all(len(each) <= 1 for each in checkpoints.values()) and seeds.request.save_freq
    if not last and any(checkpoints.values()) and (all(checkpoints.values()) or not first):
        there = "; ".join(
            f"seed {seed} has {', '.join(map(str, sorted(steps))) or 'none'}"
            for seed, steps in checkpoints.items()
        )
        ended = ended_by_callbacks(seeds)
        advice = f"{ended};" if ended else "put one back, or"
        raise InputError(
            f"{seeds.folder}: the copies have no checkpoint in common to go on from: {there}; "
            f"{advice} begin others by `pyrl {seeds.request.agent}-train`"
        )
    return last


def ended_by_callbacks(seeds: SeedGroup) -> str:
    """Say which copies on this disk callbacks have ended, and after how many steps; or nothing."""
    ended = {}
    for seed in seeds.seeds:
        with suppress(OSError, ValueError, AttributeError):  # no run, or a damaged one
            ended[seed] = read_written(seeds.run(seed) / FACTS).get("ended")
    words = [f"seed {seed} after {steps} steps" for seed, steps in ended.items() if steps]
    return f"a callback has ended {', '.join(words)}" if words else ""


def check_in_common(seeds: SeedGroup) -> None:
    """
    Check a group of copies on this disk, before they are started.

    Raises:
        InputError: as `in_common` or `refuse_loss`.
        InputError, ConfigError, PluginError: as `checked`, where they are to begin anew, or as
            `check_configs`.
    """
    last = in_common(
        seeds,
        {
            seed: CheckpointFolder(seeds.run(seed) / CHECKPOINTS).by_steps().keys()
            for seed in seeds.seeds
        },
    )
    if last:
        check_configs(seeds.request, map(seeds.run, seeds.seeds))
        return
    for seed in seeds.seeds:
        refuse_loss(seeds, seed)
    checked(seeds.request_of(seeds.seeds[0]))


def refuse_loss(seeds: SeedGroup, seed: int) -> None:
    """Raise InputError where a copy that is to begin anew would lose a model by that."""
    if not may_be_emptied(seeds, seed):
        raise InputError(
            f"{seeds.run(seed)} has no checkpoint to go on from, but a model, or is a link; when "
            f"it is deleted, --resume {seeds.folder} begins again with all copies"
        )
