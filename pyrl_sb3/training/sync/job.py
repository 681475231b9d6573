"""One copy of a synchronised training, from what its group is to a folder with a model in it."""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from pyrl_sb3.config import ConfigError
from pyrl_sb3.config.syncs import sync_plan
from pyrl_sb3.plugins import PluginError, SyncCallbackSpec, SyncContext, get_plugin_manager
from pyrl_sb3.plugins import SeedGroup as Copies
from pyrl_sb3.training.errors import HopelessError, InputError, RunStoppedError, made_by
from pyrl_sb3.training.folders import MODEL, SEEDS, empty, held, is_group, make_folder
from pyrl_sb3.training.request import TrainingRequest, TrainingResult, require_at_least
from pyrl_sb3.training.resume import resume
from pyrl_sb3.training.run import checked_for_others, train
from pyrl_sb3.training.seeds import SeedGroup, new_group, read_group, write_group
from pyrl_sb3.training.sync.alone import Alone
from pyrl_sb3.training.sync.callback import SeedSyncCallback
from pyrl_sb3.training.sync.common import common_checkpoint, refuse_loss
from pyrl_sb3.training.sync.group import DistributedGroup
from pyrl_sb3.training.sync.master import SaveMaster
from pyrl_sb3.training.sync.replay import check_sharing
from pyrl_sb3.training.sync.signals import GroupSignals
from pyrl_sb3.training.sync.state import LayoutError
from pyrl_sb3.training.unfinished import total_of

log = logging.getLogger("pyrl_sb3")

ELASTIC = "torch.distributed"  # the elastic agent of this machine, no engine


@dataclass(frozen=True, kw_only=True)
class SyncPlan:
    """
    How copies are to be synchronised.

    Attributes:
        name: of a synchronisation callback in the registry.
        every: environment steps of one copy between two synchronisations.
        params: of the callback; its plugin's defaults are added.
    """

    name: str
    every: int = 1000
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_at_least(1, "sync-every", self.every)
        params = get_plugin_manager().check_params("sync-callback", self.name, self.params)
        object.__setattr__(self, "params", params)
        self.callback(Alone(), 0, 1_000_000)

    @property
    def couples_seeds(self) -> bool:
        """Whether the copies are one sample."""
        spec = get_plugin_manager().find("sync-callback", self.name).spec
        assert isinstance(spec, SyncCallbackSpec)
        return spec.couples_seeds

    def callback(self, group: Copies, seed: int, timesteps: int | None) -> BaseCallback:
        """
        Return the callback of one copy; the seed is the same in all of them.

        Raises:
            InputError: it cannot be made, or what is made is no callback.
        """
        context = SyncContext(
            group=group,
            interval=self.every,
            rng=np.random.default_rng(seed),
            total_timesteps=timesteps,
        )
        factory = get_plugin_manager().load("sync-callback", self.name)
        callback = made_by(partial(factory, context, **self.params), f"sync {self.name}")
        if not isinstance(callback, BaseCallback):
            kind = type(callback).__name__
            raise InputError(f"sync {self.name} gives {kind}, which is no BaseCallback of SB3's")
        return callback


def synchronised(
    request: TrainingRequest, seeds: Sequence[int], plan: SyncPlan, folder: Path
) -> SeedGroup:
    """
    Return the group that is asked for, checked; nothing is written.

    Raises:
        InputError, ConfigError, PluginError: it cannot be.
    """
    agent, completed, experiment = checked_for_others(request)
    if plan.params.get("share_replay"):
        check_sharing(agent, experiment, completed.env_id)
    frequency = experiment.arguments.get("train_freq")
    if isinstance(frequency, (list, tuple)) and frequency[1] == "episode":
        raise InputError(
            "copies that train after each episode are never at the same step: "
            "--set train_freq=64 trains every 64 steps"
        )
    freq = save_freq(completed.save_freq, plan.every)
    # Less than complete again: what is of one copy is left open.
    common = {**vars(completed), "seed": None, "folder": None, "save": None, "save_freq": freq}
    return SeedGroup(
        folder=folder,
        seeds=tuple(seeds),
        request=_keeping_three(TrainingRequest(**common)),
        engine=ELASTIC,
        sync=get_plugin_manager().find("sync-callback", plan.name).name,
        couples_seeds=plan.couples_seeds,
        jobs=len(seeds),
        extra={"sync_every": plan.every, "sync_params": dict(plan.params)},
    )


def save_freq(wanted: int, every: int) -> int:
    """Return the steps between two checkpoints of copies that are synchronised that often."""
    return max(wanted, every) if wanted else 0


def _keeping_three(request: TrainingRequest) -> TrainingRequest:
    # No copy is ahead of another by more than an interval: with two checkpoints, one is common. Of
    # one that a callback ends they may be ahead by two, before its end is on the disk.
    return replace(request, keep_last=max(request.keep_last, 3))


def with_changes(group: SeedGroup, changes: Mapping[str, Any]) -> SeedGroup:
    """Return a group as it goes on with other attributes of its request."""
    return replace(group, request=_keeping_three(replace(group.request, **changes)))


def plan_of(group: SeedGroup) -> SyncPlan:
    """
    Return how the copies of a group are synchronised, as its file says.

    Raises:
        InputError, ConfigError, PluginError: it says no such thing, or names code of a package
            that is not trusted.
    """
    every, params = group.extra.get("sync_every"), group.extra.get("sync_params")
    noted = {"name": group.sync, "every": every, "params": params}
    try:
        plan = sync_plan(noted, trust=group.request.trust)
    except (ConfigError, PluginError):
        raise
    except ValueError as error:
        raise InputError(f"{group.folder / SEEDS}: sync: {error}") from error
    assert plan is not None
    return SyncPlan(**plan)


def changes_of_new(group: SeedGroup) -> dict[str, Any]:
    """
    Return what the copies of a group that has just begun are to hear from its command line.

    They read the group's file, which is not believed that code may be run; a strategy that was
    named by its path may.
    """
    assert group.sync is not None
    return {"trust": True} if group.request.trust or ":" in group.sync else {}


def train_copy(
    folder: Path,
    group: DistributedGroup,
    callbacks: Sequence[BaseCallback] = (),
    changes: Mapping[str, Any] | None = None,
) -> TrainingResult:
    """
    Train the copy that this process is, from the last checkpoint that all copies have.

    Args:
        folder: of the group.
        group: of the processes, as many as the group has seeds.
        callbacks: besides that which synchronises.
        changes: as of `resume`.

    Raises:
        InputError: the group is of another size, or cannot be read; or another process trains
            in the copy's folder.
        RunStoppedError: another copy is gone.
        HopelessError: the copies exchange different arrays.
    """
    changes = changes or {}
    seeds = with_changes(read_group(folder), changes)
    if group.size != len(seeds.seeds):
        raise InputError(f"{folder} has {len(seeds.seeds)} seeds, and here are {group.size} copies")
    seed, plan = seeds.seeds[group.rank], plan_of(seeds)
    run = seeds.run(seed)
    with held(run) if run.exists() else nullcontext():  # of another job, perhaps
        begin, ended = common_checkpoint(seeds, group)
    total = changes.get("timesteps") or total_of(seeds, seed, begin)
    sync = plan.callback(group, seeds.seeds[0], total)
    _say_where_they_go_on(group.size, begin, ended)
    # As the group has them: some are not as they were asked for.
    changed = {**{name: getattr(seeds.request, name) for name in changes}, "timesteps": total}
    try:
        every = [sync, SaveMaster(seeds, group, sync), *callbacks]
        result = _train(seeds, group, begin, every, changed)
        with GroupSignals(group):  # one that had ended before waits here
            group.leave()
        _say_what_all_had(seeds, sync, group, result.timesteps)
        return result
    except LayoutError as error:
        raise HopelessError(f"seed {seed}: {error}") from error
    except RuntimeError as error:
        if isinstance(error, RunStoppedError) or not group.is_broken(error):
            raise
        raise RunStoppedError(f"seed {seed}: another copy is gone") from error


def _say_where_they_go_on(size: int, begin: int, ended: Collection[int]) -> None:
    start = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) + 1
    if 0 < len(ended) < size:
        words = "start %s: %s of %s copies go on after %s steps; callbacks have ended the others"
        log.info(words, start, size - len(ended), size, begin)
    elif start > 1 and not ended:
        log.info("start %s: all %s copies go on after %s steps", start, size, begin)


def _say_what_all_had(
    seeds: SeedGroup, sync: BaseCallback, group: DistributedGroup, timesteps: int
) -> None:
    """Exchange how many steps copies have had, which a callback of one may have ended early."""
    said = group.all_gather({"timesteps": np.array(timesteps)})
    group.leave()
    total = sum(int(each["timesteps"]) for each in said.values())
    if seeds.couples_seeds:
        one = isinstance(sync, SeedSyncCallback)  # others know of no agent that is made of all
        what = "all copies as one" if one else "one of the copies, for all"
        log.info("%s: %s", what, seeds.folder / MODEL)
    log.info("%s copies, %s environment steps together", group.size, total)


def _train(
    seeds: SeedGroup,
    group: DistributedGroup,
    begin: int,
    callbacks: Sequence[BaseCallback],
    changes: Mapping[str, Any],
) -> TrainingResult:
    seed = seeds.seeds[group.rank]
    request = seeds.request_of(seed)
    assert request.folder is not None
    signals = GroupSignals(group)
    if begin:
        return resume(request.folder, **changes, callbacks=callbacks, signals=signals)
    if request.folder.exists():  # from before a copy was lost
        refuse_loss(seeds, seed)
        empty(request.folder)
    notes = {
        "sync": {"name": seeds.sync, **seeds.extra},
        "couples_seeds": seeds.couples_seeds,
        "group": list(seeds.seeds),
    }
    return train(request, callbacks, signals=signals, notes=notes)


def begun_together(seeds: SeedGroup, root: Path, group: DistributedGroup) -> Path:
    """
    Return the folder of a group that torchrun has started, made where it is not there yet.

    The first copy chooses it, in `root`. The launcher keeps the choice, so that copies which are
    started again find it; machines that share no disk get a folder of the same name each.
    """
    chosen = ""
    if group.rank == 0:
        chosen = group.kept() or str(new_group(root, seeds).folder)
        group.keep(chosen)
    folder = Path(group.broadcast_text(chosen))
    make_folder(folder)
    if not is_group(folder):
        write_group(replace(seeds, folder=folder))
    return folder
