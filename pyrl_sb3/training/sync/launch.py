"""Copies started, watched and started again: here by torch's elastic agent, or by an engine."""

import logging
import os
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from pyrl_sb3.training.command_line import going_on
from pyrl_sb3.training.engines import Engine, Job
from pyrl_sb3.training.errors import HopelessError, InputError, RunStoppedError
from pyrl_sb3.training.jobs import State, Task, run_jobs
from pyrl_sb3.training.orphans import bound_to_this_process
from pyrl_sb3.training.seeds import SeedGroup
from pyrl_sb3.training.signals import hangup_is_ignored
from pyrl_sb3.training.sync.common import end_of
from pyrl_sb3.training.sync.group import DistributedGroup
from pyrl_sb3.training.unfinished import last_checkpoint

log = logging.getLogger("pyrl_sb3")

RESTARTS = 3
_HERE = "127.0.0.1"
_AGAIN = "all copies start again from the last checkpoint they have in common; %s starts left"
_WAIT = 600  # seconds for copies to come to an exchange and save when they are stopped
# Of torch, which say what the package's log says; the last has a level of its own.
_SILENT = ("elastic", "run", "elastic.agent.server.api")
_TERMINATED = (-signal.SIGTERM, 128 + signal.SIGTERM)
_HANGUP = "torch %s stops copies when the terminal is closed, under `nohup` too; 2.10 does not"
_HANDLED = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM")  # by torch, unless it is told others


class _Ends:
    """
    How often copies have ended, and whether they would come to the same end once more.

    A copy that complains again, before there is a newer checkpoint, does so whenever it is started;
    a `HopelessError` is not even tried again.
    """

    def __init__(self, seeds: SeedGroup) -> None:
        self.times = 0
        self._seeds = seeds
        self._before: tuple[set[tuple[int, int | None]], int] = set(), 0
        self._hopeless = False

    def come_again(self, codes: Mapping[int, int | None]) -> bool:
        """Note the exit codes of seeds; return whether more starts are in vain."""
        self.times += 1
        # By SIGTERM torch ends those that are left. Where a signal has ended one, the others
        # complain that it is gone.
        complained = all(code in (1, 2, *_TERMINATED) for code in codes.values())
        ends = {end for end in codes.items() if complained and end[1] in (1, 2)}
        left = (seed for seed in self._seeds.seeds if not end_of(self._seeds, seed))
        kept = min((last_checkpoint(self._seeds.run(seed)) for seed in left), default=0)
        (ends_before, kept_before), self._before = self._before, (ends, kept)
        again = kept == kept_before and not ends.isdisjoint(ends_before)
        self._hopeless = HopelessError.exit_code in codes.values()
        return again or self._hopeless

    def too_many(self) -> RunStoppedError:
        """Return the error that says so."""
        seeds = self._seeds
        command = going_on(seeds.request.agent, seeds.folder, trust=seeds.needs_trust)
        often = "once" if self.times == 1 else f"{self.times} times"
        first = " when what they say is mended, or begin anew" if self._hopeless else ""
        return RunStoppedError(f"copies ended {often}; go on with `pyrl {command}`{first}")


class _ElasticAgent(LocalElasticAgent):
    """Says in the package's log what became of a copy, and gives those that are stopped time."""

    def __init__(self, seeds: SeedGroup, spec: WorkerSpec, **keywords: Any) -> None:
        super().__init__(spec, **keywords)
        self._seeds = seeds
        self.ends = _Ends(seeds)

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        codes = {}
        for rank, failure in result.failures.items():
            seed, code = self._seeds.seeds[rank], failure.exitcode
            codes[seed] = code
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            log.warning("seed %s (process %s) ended: %s", seed, failure.pid, how)
        if result.is_failed():
            if self.ends.come_again(codes):
                self._remaining_restarts = 0
            if self._remaining_restarts:
                log.warning(_AGAIN, self._remaining_restarts)
        return result

    def _shutdown(self, death_sig: signal.Signals | None = None, timeout: int = 30) -> None:
        # Torch before 2.12 cannot be told how long it waits before it kills.
        if death_sig and self._pcontext:
            self._pcontext.close(death_sig, _WAIT)
        super()._shutdown(death_sig or signal.SIGTERM)


def launch(seeds: SeedGroup, arguments: list[str]) -> signal.Signals | None:
    """
    Run `pyrl ARGUMENTS` for each copy of a group, in processes of their own, until all have ended.

    When one ends early all are started again, unless it has come to the same end before; each goes
    on from the last checkpoint that all have.

    Returns:
        the signal that has stopped the copies, if one has.

    Raises:
        RunStoppedError: copies end too often.
    """
    spec = _spec(len(seeds.seeds), arguments)
    for name in _SILENT:
        logging.getLogger(f"torch.distributed.{name}").setLevel(logging.CRITICAL)
    if hangup_is_ignored():  # for copies too
        os.environ.setdefault("TORCHELASTIC_SIGNALS_TO_HANDLE", "SIGTERM,SIGINT,SIGQUIT")
        if torch.__version__ < "2.10":  # which does not look there; compared as versions
            log.warning(_HANGUP, torch.__version__)
    os.environ.update(bound_to_this_process())  # which the copies inherit
    try:
        # Copies print to the console, and keep logs of runs.
        with _handlers_put_back(), TemporaryDirectory() as scratch:
            logs = DefaultLogsSpecs(log_dir=scratch)
            agent = _ElasticAgent(seeds, spec, logs_specs=logs, start_method="spawn")
            result = agent.run()
    except SignalException as error:
        return signal.Signals(error.sigval)
    finally:
        spec.rdzv_handler.shutdown()
    if result.is_failed():
        raise agent.ends.too_many()
    return None


def _spec(copies: int, arguments: list[str]) -> WorkerSpec:
    """What torch's elastic agent is to run: so many copies, on this machine alone."""
    parameters = RendezvousParameters(
        backend="c10d",
        endpoint=f"{_HERE}:0",
        run_id=uuid.uuid4().hex,
        min_nodes=1,
        max_nodes=1,
        is_host=True,
        local_addr=_HERE,
    )
    return WorkerSpec(
        role="copies",
        local_world_size=copies,
        entrypoint=sys.executable,
        args=("-m", "pyrl_sb3", *arguments),
        rdzv_handler=get_rendezvous_handler(parameters),
        max_restarts=RESTARTS,
        monitor_interval=0.2,
        local_addr=_HERE,
    )


@contextmanager
def _handlers_put_back() -> Iterator[None]:
    """Put the handlers of signals back: torch leaves its own, which raise when nobody listens."""
    numbers = [getattr(signal, name) for name in _HANDLED if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)


def require_room(engine: Engine, seeds: SeedGroup) -> None:
    """
    Check that an engine can run all copies at a time: they wait for each other.

    Raises:
        InputError: it has fewer cores than they have threads.
    """
    many, threads = len(seeds.seeds), seeds.request.threads or 1
    if many * threads > engine.cores():
        raise InputError(
            f"--engine {seeds.engine} has {engine.cores()} cores: "
            f"{many} copies with --threads {threads} each need {many * threads}"
        )


def launch_on(engine: Engine, seeds: SeedGroup, arguments: list[str]) -> signal.Signals | None:
    """
    Run the copies of a group on an engine, all at a time, as `launch` does on this machine.

    A copy that is killed breaks the exchange in the others, which then end as well.

    Raises:
        RunStoppedError: copies end too often.
    """
    many, threads = len(seeds.seeds), seeds.request.threads or 1
    ends = _Ends(seeds)
    store, environ = DistributedGroup.meeting_place(engine.address())
    for left in range(RESTARTS, -1, -1):
        tasks = [
            Task(
                Job(
                    name=f"seed {seed}",
                    arguments=tuple(arguments),
                    log=seeds.log(seed),
                    threads=threads,
                    environ={**environ, "RANK": str(rank), "WORLD_SIZE": str(many)},
                )
            )
            for rank, seed in enumerate(seeds.seeds)
        ]
        stopped = run_jobs(tasks, engine, many, lambda: None)
        failed = {
            seed: task
            for seed, task in zip(seeds.seeds, tasks, strict=True)
            if task.state is not State.FINISHED
        }
        if stopped or not failed:
            return stopped
        for task in failed.values():
            log.warning("%s ended: exit code %s, %s", task.job.name, task.code, task.job.log)
        if ends.come_again({seed: task.code for seed, task in failed.items()}):
            break
        if left:
            log.warning(_AGAIN, left)
    del store  # it was there for as long as there were copies
    raise ends.too_many()
