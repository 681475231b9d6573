"""`pyrl sac-train ENV --seeds 10`: several seeds at once, with a table of all of them."""

from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from pyrl_sb3.cli import output
from pyrl_sb3.cli.seed_table import Seed, SeedTable
from pyrl_sb3.cli.stated import Asked, request_of_several
from pyrl_sb3.errors import counted
from pyrl_sb3.training import seeds as groups
from pyrl_sb3.training import unfinished
from pyrl_sb3.training.command_line import arguments, options, quoted
from pyrl_sb3.training.engines import PROCESSES, Engine, Job, check_noted, engine
from pyrl_sb3.training.errors import InputError, RunStoppedError
from pyrl_sb3.training.folders import empty, held
from pyrl_sb3.training.jobs import State, Task, run_jobs
from pyrl_sb3.training.request import require_if_given
from pyrl_sb3.training.resume import changes_in, check_configs, refuse_differences
from pyrl_sb3.training.run import checked_for_others
from pyrl_sb3.training.seeds import SeedGroup
from pyrl_sb3.training.threads import share_cores


def train_seeds(asked: Asked, runs: Engine) -> int:
    """
    Train several seeds on an engine; return the exit code.

    Raises:
        InputError, ConfigError, PluginError: what was asked for cannot be done; nothing has
            been written.
    """
    assert asked.seeds is not None
    request = request_of_several(asked.given, seed=None)
    wanted = groups.parse_seeds(asked.seeds, asked.given.get("seed"))
    require_if_given(1, "jobs", asked.jobs)
    _, complete, _ = checked_for_others(request)
    request = replace(
        request,
        env_id=complete.env_id,
        timesteps=complete.timesteps,
        trained_agent=complete.trained_agent,
    )
    group = SeedGroup(
        folder=Path(), seeds=wanted, request=request, engine=asked.engine or PROCESSES
    )
    group = _shared_out(group, runs, len(wanted), asked.jobs, request.threads)
    group = groups.new_group(request.save or Path(request.agent), group)
    with held(group.folder):
        return _run(group, {seed: _beginning(group, seed) for seed in wanted}, runs)


def go_on_with_seeds(asked: Asked, folder: Path) -> int:
    """
    Go on with those seeds of a group that are unfinished; return the exit code.

    Processes at a time and their engine are by default as at first.

    Raises:
        InputError, ConfigError, PluginError: the group cannot be read, or an option differs from
            what it was begun with; or another process trains in its folder.
    """
    with held(folder):  # before anything is read: whoever was training here has written by now
        group = groups.read_group(folder)
        group.refuse_others(asked.seeds, asked.given.get("seed"))
        return _go_on_with(group, asked)


def _go_on_with(group: SeedGroup, asked: Asked) -> int:
    # Its seed is that of the first of them, and no difference.
    given = {name: value for name, value in asked.given.items() if name != "seed"}
    jobs = asked.jobs
    refuse_differences(group.folder, group.request, given)
    unfinished.refuse_fewer(group, given.get("timesteps"))
    require_if_given(1, "jobs", jobs)
    threads = given.get("threads") or (None if jobs else group.request.threads)
    changes = changes_in(given)
    if asked.engine is None:
        check_noted(group.engine, trust=given.get("trust", False))
    group = replace(
        group,
        request=replace(group.request, **changes),
        engine=asked.engine or group.engine,
        jobs=jobs or group.jobs,
    )
    with closing(engine(group.engine)) as runs:
        left = unfinished.unfinished(group, given.get("timesteps"))
        if jobs is None and "threads" not in given:  # as at first, if there are as many cores
            jobs = min(group.jobs, max(1, runs.cores() // (threads or 1)))
        running = _shared_out(group, runs, len(left), jobs, threads)
        changes["threads"] = running.request.threads
        _check_starting(running, left)
        commands = {seed: _going_on(running, seed, changes) for seed in left}
        if left:  # a group that is finished may be where nobody can write
            groups.write_group(replace(running, jobs=group.jobs))
        return _run(running, commands, runs)


def _shared_out(
    group: SeedGroup, runs: Engine, left: int, jobs: int | None, threads: int | None
) -> SeedGroup:
    """The group with the processes and threads that the engine has room for."""
    jobs, threads = share_cores(max(left, 1), runs.cores(), jobs=jobs, threads=threads)
    request = replace(group.request, threads=threads)
    return replace(group, request=request, jobs=jobs)


def _beginning(group: SeedGroup, seed: int) -> tuple[str, ...]:
    return tuple(arguments(group.request_of(seed)))


def _check_starting(group: SeedGroup, left: Iterable[int]) -> None:
    """Raise what seeds would that start in vain, as if they were: they may need `--trust`."""
    anew = [seed for seed in left if _begins_anew(group, seed)]
    if anew:
        request = group.request_of(anew[0])
        groups.refuse_changed_config(request)
        checked_for_others(request)
    else:
        check_configs(group.request, map(group.run, left))


def _begins_anew(group: SeedGroup, seed: int) -> bool:
    can_go_on = unfinished.has_checkpoint(group.run(seed)) or unfinished.has_all_steps(group, seed)
    # Of one that may not be emptied, its own process says what is wrong.
    return not can_go_on and unfinished.may_be_emptied(group, seed)


def _going_on(group: SeedGroup, seed: int, changes: Mapping[str, Any]) -> tuple[str, ...]:
    run = group.run(seed)
    if _begins_anew(group, seed):
        if run.exists():  # it ended before its first checkpoint and is unfinished: nothing to keep
            empty(run)
        return _beginning(group, seed)
    done = unfinished.last_checkpoint(run)
    total = changes.get("timesteps") or unfinished.total_of(group, seed, done) or 0
    asked = {**changes, "timesteps": max(total, done)}
    return (f"{group.request.agent}-train", "--resume", str(run), *options(asked))


def _run(group: SeedGroup, commands: Mapping[int, tuple[str, ...]], runs: Engine) -> int:
    console = output.console_for_log()
    threads = group.request.threads or 1
    tasks = {
        seed: Task(Job(name=f"seed {seed}", arguments=words, log=group.log(seed), threads=threads))
        for seed, words in commands.items()
    }
    _say_what(console, group, len(tasks))
    seeds = [Seed(seed, group.run(seed), tasks.get(seed)) for seed in group.seeds]
    agent, trust = group.request.agent, group.needs_trust
    try:
        with SeedTable(console, seeds) as table:
            stopped = run_jobs(list(tasks.values()), runs, group.jobs, table.update)
    except (InputError, RunStoppedError):  # no more can be started; those that ran save and end
        output.say_how_to_go_on(console, agent, group.folder, trust=trust)
        raise
    cut = [task for task in tasks.values() if task.ended_at_once and task.state is State.STOPPED]
    if stopped:  # and with it those seeds that did not fail
        tasks = {seed: task for seed, task in tasks.items() if task.state is State.FAILED}
    code = _say_unfinished(console, group, tasks)
    wrong = None if stopped else _why_none_has_begun(group, tasks)
    if stopped:
        if cut:
            names = ", ".join(task.job.name for task in cut)
            console.print(f"ended at once, as they are in their checkpoints: {names}")
        each = "each other seed" if code or cut else "each seed"
        console.print(f"{stopped.name}: stopped; what {each} has learned is saved")
        code = 128 + stopped
    if wrong:
        console.print(f"none has begun: {wrong}", markup=False)
    elif code:
        output.say_how_to_go_on(console, agent, group.folder, trust=trust)
    else:
        console.print(f"statistics: pyrl report {quoted(group.folder)}", markup=False)
    return code


def _say_what(console: Console, group: SeedGroup, left: int) -> None:
    request = group.request
    console.print(
        f"{request.agent} on {request.env_id}: {counted(len(group.seeds), 'seed')}, {left} to run, "
        f"{group.jobs} at a time, threads {request.threads} each"
    )
    folder = group.folder
    console.print(f"writing to {folder}" if left else f"{folder} is finished", markup=False)


def _say_unfinished(console: Console, group: SeedGroup, tasks: Mapping[int, Task]) -> int:
    """Name the seeds of these that failed or were stopped; return the exit code."""
    code = 0
    for state in (State.FAILED, State.STOPPED):
        ended = [seed for seed, task in tasks.items() if task.state is state]
        if ended:
            code = 1
            ways = (f"{seed} (exit code {tasks[seed].code}, {group.log(seed)})" for seed in ended)
            console.print(
                f"{state.value}: {len(ended)} of {len(group.seeds)} seeds: {', '.join(ways)}",
                markup=False,
            )
    return code


def _why_none_has_begun(group: SeedGroup, tasks: Mapping[int, Task]) -> str | None:
    """What seeds say is wrong with what was asked for, where none has left a run to go on with."""
    mistaken = bool(tasks) and all(task.code == 2 for task in tasks.values())
    if mistaken and not any(group.run(seed).exists() for seed in group.seeds):
        with suppress(OSError, IndexError):
            said = group.log(min(tasks)).read_text(encoding="utf-8", errors="replace")
            return said.splitlines()[-1].removeprefix("pyrl: ")
    return None
