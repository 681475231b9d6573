"""Jobs on an engine that fails on the way."""

import pytest

from pyrl_sb3.training import engines
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
