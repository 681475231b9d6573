"""Jobs on an engine that fails on the way, and jobs that are asked to stop."""

import logging
import signal
from itertools import count
from types import SimpleNamespace

import pytest

from pyrl_sb3.training import engines, jobs, signals
from pyrl_sb3.training.engines import Job, engine
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.jobs import State, Task, run_jobs


class Running:
    """Runs until it is asked to stop, and for one look more."""

    code = None
    stopping = False

    def poll(self):
        if self.stopping:
            self.code, self.stopping = -2, False
            return None
        return self.code

    def stop(self):
        self.stopping = True


class Full:
    """There is room for one job."""

    def __init__(self):
        self.started = []

    def cores(self):
        raise RuntimeError("nobody knows")

    def address(self):
        raise RuntimeError("nowhere")

    def start(self, job):
        if self.started:
            raise OSError("cluster is\ndown")
        self.started.append(Running())
        return self.started[0]

    def close(self):
        raise RuntimeError("it is stuck")


@pytest.fixture
def full(monkeypatch):
    made = Full()
    monkeypatch.setattr(engines, "get_plugin_manager", lambda: Found(made))
    return made, engine("acme/full")


class Found:
    """A registry with one engine."""

    def __init__(self, made):
        self.made = made

    def load(self, kind, name):
        return lambda: self.made


def test_what_was_started_is_stopped_where_the_engine_starts_no_more(full, tmp_path):
    made, named = full
    tasks = [Task(Job(name=f"seed {n}", arguments=(), log=tmp_path / "log")) for n in range(3)]
    with pytest.raises(InputError, match=r"^engine acme/full: OSError: cluster is$"):
        run_jobs(tasks, named, 3, lambda: None)
    assert made.started[0].code == -2
    assert [task.state for task in tasks] == [State.STOPPED, State.WAITING, State.WAITING]


@pytest.mark.parametrize("method", ["cores", "address", "close"])
def test_what_an_engine_raises_names_it(full, method):
    with pytest.raises(InputError, match=r"^engine acme/full: RuntimeError: \w+"):
        getattr(full[1], method)()


class Hanging:
    """Runs until it is asked to stop for the second time; the first may do too."""

    def __init__(self, stops):
        self.left, self.code, self.asked = stops, None, []

    def poll(self):
        return self.code

    def stop(self):
        self.asked.append(jobs.time.monotonic())
        self.left -= 1
        if not self.left:
            self.code = 128 + signal.SIGINT


@pytest.fixture
def clock(monkeypatch):
    """Time that goes by with each look at the jobs only."""
    ticks = count(0, 0.2)
    now = [next(ticks)]
    clock = SimpleNamespace(
        monotonic=lambda: now[0], sleep=lambda _: now.__setitem__(0, next(ticks))
    )
    monkeypatch.setattr(jobs, "time", clock)
    monkeypatch.setattr(signals, "monotonic", clock.monotonic)
    return clock


def test_a_signal_that_comes_again_ends_the_jobs_that_are_left(clock, tmp_path, caplog):
    """More than a second apart also for those jobs, which may count on their own."""
    caplog.set_level(logging.INFO, "pyrl_sb3")
    processes = [Hanging(stops) for stops in (1, 2)]
    engine = SimpleNamespace(start=lambda job: processes[int(job.name[-1])])
    tasks = [Task(Job(name=f"seed {n}", arguments=(), log=tmp_path / "log")) for n in range(3)]
    looks = count()

    def watch():
        look = next(looks)
        assert look < 50
        if look in (2, 4, 8):  # after 0.4, 0.8 and 1.6 seconds: the second is one with it
            signal.raise_signal(signal.SIGINT)

    assert run_jobs(tasks, engine, 2, watch) == signal.SIGINT
    assert [task.state for task in tasks] == [State.STOPPED, State.STOPPED, State.WAITING]
    assert [task.ended_at_once for task in tasks] == [False, True, False]
    assert [len(process.asked) for process in processes] == [1, 2]
    first, second = processes[1].asked
    assert second - first > signals.ONE_SIGNAL
    assert caplog.messages == [
        "stopping, and waiting for what these save: seed 0, seed 1; once more ends them at once",
        "ending at once: seed 1",
    ]
