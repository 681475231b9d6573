import os
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from pyrl_sb3.cli.app import run
from pyrl_sb3.training import engines
from pyrl_sb3.training.forks import ForkServer


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder to work in; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture(scope="session")
def lasting_server():
    """Makes what stands for a `ForkServer`, of which there is one as long as the tests run."""
    made = []

    def server():
        made[:] = made or [ForkServer()]
        return SimpleNamespace(start=made[0].start, close=lambda: None)

    yield server
    for each in made:
        each.close()


@pytest.fixture(autouse=True)
def one_server(monkeypatch, lasting_server):
    """The seeds of all commands in this process are forks of one: it takes seconds to start."""
    monkeypatch.setattr(engines, "ForkServer", lasting_server)


@pytest.fixture
def pyrl(capsys):
    """Run a command in this process."""

    def call(*arguments):
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def fresh_pyrl():
    """Run a command in a new interpreter; `before` is code that runs first."""

    def call(*arguments, before="", **environment):
        code = f"{before}\nfrom pyrl_sb3.cli import main\nmain()"
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            timeout=1200,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return call
