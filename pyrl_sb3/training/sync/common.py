"""The last checkpoint that all copies have: from there they go on together."""

import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress

import numpy as np

from pyrl_sb3.errors import counted
from pyrl_sb3.training.checkpoint_folder import CheckpointFolder
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.facts import FACTS, read_facts, read_written
from pyrl_sb3.training.folders import CHECKPOINTS, check_writable
from pyrl_sb3.training.resume import check_configs
from pyrl_sb3.training.run import checked_for_others
from pyrl_sb3.training.seeds import SeedGroup
from pyrl_sb3.training.sync.group import DistributedGroup
from pyrl_sb3.training.unfinished import has_all_steps, last_checkpoint, may_be_emptied

_LISTED = 64  # checkpoints of a copy that the others hear of


def common_checkpoint(seeds: SeedGroup, group: DistributedGroup) -> tuple[int, set[int]]:
    """
    Return what `in_common` does, and delete this copy's later checkpoints, which others lack.

    Raises:
        InputError: as `in_common`; nothing is deleted.
    """
    seed = seeds.seeds[group.rank]
    run = seeds.run(seed)
    checkpoints = CheckpointFolder(run / CHECKPOINTS).by_steps()
    listed = np.zeros(_LISTED, np.int64)
    newest = list(checkpoints)[-_LISTED:]
    listed[: len(newest)] = newest
    mine = {"checkpoints": listed, "end": np.array(end_of(seeds, seed))}
    everybody = group.all_gather(mine)
    last, ended = in_common(
        seeds,
        {
            seeds.seeds[rank]: [int(steps) for steps in each["checkpoints"] if steps]
            for rank, each in everybody.items()
        },
        {seeds.seeds[rank]: int(each["end"]) for rank, each in everybody.items()},
    )
    for steps, path in checkpoints.items():
        if steps > last:
            shutil.rmtree(path)
    return last, ended


def in_common(
    seeds: SeedGroup, checkpoints: Mapping[int, Collection[int]], ends: Mapping[int, int]
) -> tuple[int, set[int]]:
    """
    Find where copies go on together, of the steps of each seed's checkpoints and its `end_of`.

    Returns:
        the steps of the last checkpoint that all have which are to go on, 0 where they are to begin
        anew; and the seeds that are not, since callbacks had ended them by then.

    Raises:
        InputError: there are checkpoints, but none that all have.
    """
    together = {seed for seed in checkpoints if not ends[seed]}
    last = max(ends.values())
    while True:
        if together:
            shared = set.intersection(*(set(checkpoints[seed]) for seed in together))
            last = max(shared, default=0)
        # One whose end was later takes part again, and comes to it again.
        later = {seed for seed, end in ends.items() if end > last} - together
        if not later:
            break
        together |= later
    # Where some have their first checkpoint only, those that have none were killed before theirs.
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
    return last, set(checkpoints) - together


def end_of(seeds: SeedGroup, seed: int) -> int:
    """
    Return the steps after which a callback has ended a copy, whose end is whole on this disk and
    which is not to be made longer; otherwise 0.
    """
    run = seeds.run(seed)
    done = last_checkpoint(run)
    with suppress(InputError):  # no run, or a damaged one, which is named when it goes on
        if done and has_all_steps(seeds, seed) and read_facts(run).ended == done:
            return done
    return 0


def ended_by_callbacks(seeds: SeedGroup) -> str:
    """Say which copies on this disk callbacks have ended, and after how many steps; or nothing."""
    ended = {}
    for seed in seeds.seeds:
        with suppress(OSError, ValueError, AttributeError):  # no run, or a damaged one
            ended[seed] = read_written(seeds.run(seed) / FACTS).get("ended")
    words = [f"seed {seed} after {counted(had, 'step')}" for seed, had in ended.items() if had]
    return f"a callback has ended {', '.join(words)}" if words else ""


def check_in_common(seeds: SeedGroup) -> None:
    """
    Check a group of copies on this disk, before they are started.

    Raises:
        InputError: as `in_common` or `refuse_loss`; or one cannot be written to.
        InputError, ConfigError, PluginError: as `checked_for_others`, where they are to begin anew,
            or as `check_configs`.
    """
    last, _ = in_common(
        seeds,
        {
            seed: CheckpointFolder(seeds.run(seed) / CHECKPOINTS).by_steps().keys()
            for seed in seeds.seeds
        },
        {seed: end_of(seeds, seed) for seed in seeds.seeds},
    )
    for seed in seeds.seeds:  # one that fails ends all
        check_writable(seeds.run(seed))
    if last:
        check_configs(seeds.request, map(seeds.run, seeds.seeds))
        return
    for seed in seeds.seeds:
        refuse_loss(seeds, seed)
    checked_for_others(seeds.request_of(seeds.seeds[0]))


def refuse_loss(seeds: SeedGroup, seed: int) -> None:
    """Raise InputError where a copy that is to begin anew would lose a model by that."""
    # What a callback ended before the others had a checkpoint is made again.
    again = seeds.request.save_freq and end_of(seeds, seed)
    if not again and not may_be_emptied(seeds, seed):
        raise InputError(
            f"{seeds.run(seed)} has no checkpoint to go on from, but a model, or is a link; when "
            f"it is deleted, --resume {seeds.folder} begins again with all copies"
        )
