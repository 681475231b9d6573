import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from pyrl_sb3.cli.app import run


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
