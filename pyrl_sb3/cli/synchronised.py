"""`pyrl td3-train ENV --seeds 4 --sync mean`: the copies started, or this one of them trained."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

from pyrl_sb3.cli import output, sync_options
from pyrl_sb3.cli.stated import Asked, request_of_several
from pyrl_sb3.plugins import get_plugin_manager
from pyrl_sb3.training.command_line import options
from pyrl_sb3.training.engines import PROCESSES, Engine, check_noted, engine
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.facts import check_run
from pyrl_sb3.training.folders import MODEL, held, is_group
from pyrl_sb3.training.progress import ProgressReport
from pyrl_sb3.training.resume import changes_in, refuse_differences
from pyrl_sb3.training.seeds import SeedGroup, new_group, parse_seeds, read_group, write_group
from pyrl_sb3.training.sync import launch as launching
from pyrl_sb3.training.sync.common import check_in_common, ended_by_callbacks
from pyrl_sb3.training.sync.group import DistributedGroup, in_torchrun
from pyrl_sb3.training.sync.job import (
    ELASTIC,
    SyncPlan,
    begun_together,
    changes_of_new,
    plan_of,
    save_freq,
    synchronised,
    train_copy,
    with_changes,
)
from pyrl_sb3.training.threads import available_cores, threads_each
from pyrl_sb3.training.unfinished import refuse_fewer, unfinished
from pyrl_sb3.training.versions import other_versions


def run(asked: Asked) -> int:
    """Train all copies, or under torchrun that which this process is; return the exit code."""
    if asked.jobs is not None:
        raise InputError(
            f"--jobs {asked.jobs}: copies that synchronise run all at a time; leave it out"
        )
    if in_torchrun():
        if asked.engine is not None:
            raise InputError(f"--engine {asked.engine}: torchrun has started this copy already")
        with DistributedGroup.of_torchrun() as group:
            return _copy(asked, group)
    return _all(asked)


def _new(asked: Asked, copies: int) -> tuple[SeedGroup, Path]:
    """The group that is asked for, and the folder to make its own in."""
    given, seeds = asked.given, asked.seeds
    numbers = parse_seeds(seeds or str(copies), given.get("seed"))
    if copies not in (0, len(numbers)):
        raise InputError(f"--seeds {seeds}: torchrun has started {copies} processes")
    if len(numbers) < 2:
        raise InputError(f"--seeds {seeds}: one copy cannot be synchronised; give at least 2")
    threads = given.get("threads") or threads_each(len(numbers), available_cores())
    request = request_of_several(given, threads=threads)
    root = (request.save or Path(asked.agent.name)).absolute()
    return synchronised(request, numbers, SyncPlan(**asked.plan), root), root


def _all(asked: Asked) -> int:
    if asked.resume is not None:
        _refuse_changes(asked, asked.resume)
        with held(asked.resume):  # before it is read: whoever was training here has written by now
            return _go_on(asked, asked.resume)
    if asked.seeds is None:
        raise InputError(
            f"sync {asked.plan['name']}: say how many copies with --seeds, such as --seeds 4; "
            "--set sync=null trains one alone"
        )
    return _start(asked, *_new(asked, copies=0))


def _go_on(asked: Asked, resume: Path) -> int:
    group, timesteps = read_group(resume), asked.given.get("timesteps")
    refuse_fewer(group, timesteps)
    group = with_changes(group, changes_in(asked.given))
    console = output.console_for_log()
    written = not group.couples_seeds or (resume / MODEL).is_file()
    if written and not unfinished(group, timesteps):
        ended = ended_by_callbacks(group)
        why = f"its copies have had all steps{', but ' if ended else ''}{ended}"
        console.print(f"{resume} is finished: {why}", markup=False)
        return 0
    for change in other_versions({}, group.components):
        console.print(change, markup=False)
    plan_of(group)  # that its strategy can be had is found here, not by each copy
    if asked.engine is None:
        check_noted(group.engine, trust=group.request.trust)
    for run in filter(Path.is_dir, map(group.run, group.seeds)):
        with held(run):  # copies outlive a launcher that is killed, for a second or so
            pass
    check_in_common(group)
    return _start(asked, group)


def _start(asked: Asked, group: SeedGroup, root: Path | None = None) -> int:
    """Run the copies of a group; of a new one, in a folder that is made in `root`."""
    console, agent = output.console_for_log(), asked.agent
    if asked.engine is not None:
        group = replace(group, engine=asked.engine)
    with _engine(group.engine) as runs, ExitStack() as opened:
        if runs:
            launching.require_room(runs, group)
        if root:
            group = new_group(root, group)
            opened.enter_context(held(group.folder))
        else:
            write_group(group)
        many, folder = len(group.seeds), group.folder
        console.print(f"{many} copies synchronised by {group.sync}: {folder}", markup=False)
        arguments = _of_one_copy(asked, group)
        if runs:
            console.print(f"what the copies say: {group.log(group.seeds[0])}", markup=False)
            stopped = launching.launch_on(runs, group, arguments)
        else:
            stopped = launching.launch(group, arguments)
    if stopped:
        console.print(f"{stopped.name}: stopped", markup=False)
        output.say_how_to_go_on(console, agent.name, folder, trust=group.needs_trust)
        return 128 + stopped
    trust = group.needs_trust
    output.say_how_to_test(console, agent.name, group.request.env_id, folder, trust=trust)
    return 0


def _of_one_copy(asked: Asked, group: SeedGroup) -> list[str]:
    """The command line, after `pyrl`, of each copy."""
    changes = changes_in(asked.given) if asked.resume else changes_of_new(group)
    resume = str(group.folder.absolute())
    return [f"{asked.agent.name}-train", "--resume", resume, *options(changes)]


@contextmanager
def _engine(name: str) -> Iterator[Engine | None]:
    """The engine of that name; None where torch's elastic agent runs processes of this machine."""
    if name == ELASTIC or get_plugin_manager().find("engine", name).spec.name == PROCESSES:
        yield None
    else:
        with closing(engine(name)) as runs:
            yield runs


def _refuse_changes(asked: Asked, resume: Path, copies: int = 0) -> None:
    """Raise InputError for options that differ from those the group was begun with."""
    if not is_group(resume):
        check_run(resume)
        raise InputError(f"--sync: {resume} is a single run, which learns alone; leave it out")
    group, given = read_group(resume), dict(asked.given)
    seed = given.pop("seed", None)
    # Under torchrun, --seed is the first of as many as there are processes.
    group.refuse_others(asked.seeds or (str(copies) if copies and seed is not None else None), seed)
    if not given.get("overrides"):  # all were settings of the strategy
        given.pop("overrides", None)
    if "save_freq" in given and group.sync:
        given["save_freq"] = save_freq(given["save_freq"], group.extra.get("sync_every", 0))
    refuse_differences(resume, group.request, given)
    sync_options.refuse_other_plan(group, asked.plan)


def _copy(asked: Asked, group: DistributedGroup) -> int:
    """Train the copy that this process is; the first one says how it is going."""
    console = output.console_for_log()
    if group.rank:
        logging.getLogger("pyrl_sb3").setLevel(logging.WARNING)
    if asked.resume is None:
        new, root = _new(asked, copies=group.size)
        changes = changes_of_new(new)
        folder = begun_together(new, root, group)
    else:
        _refuse_changes(asked, asked.resume, group.size)
        folder = asked.resume
        changes = changes_in(asked.given)
    with closing(ProgressReport(console)) as shown:
        result = train_copy(folder, group, [] if group.rank else [shown], changes)
    if group.rank == 0 and result.evaluation:
        console.print(f"final evaluation of the first copy: {result.evaluation}")
    return 128 + result.stopped_by if result.stopped_by else 0
