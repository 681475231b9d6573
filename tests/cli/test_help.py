"""`--help` and `--version`: complete, and without waiting for torch."""

import json
import subprocess
import sys

import pytest

import pyrl_sb3
from pyrl_sb3.cli.app import app
from pyrl_sb3.cli.train import example_env
from pyrl_sb3.training import agents
from pyrl_sb3.training.environments import env_spec

COMMANDS = [command.name for command in app.registered_commands]
AGENTS = ("sac", "td3", "ddpg", "tqc", "crossq", "dqn", "qrdqn", "sac-discrete")
HEAVY = {"torch", "stable_baselines3", "gymnasium", "numpy", "matplotlib", "rich"}


def test_the_commands():
    agents = [prefix + name for prefix in ("", "her-") for name in AGENTS]
    expected = {f"{agent}-{verb}" for agent in agents for verb in ("train", "test")}
    assert set(COMMANDS) == expected | {"demo", "evaluate", "list", "plot", "record", "report"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(pyrl, command):
    outcome = pyrl(command, "--help")
    assert outcome.code == 0
    assert f"pyrl {command}" in outcome.out.partition("Example")[2]


@pytest.mark.parametrize(
    "command",
    [f"plugins {name}" for name in ("list", "show", "check", "doctor")] + ["demos record"],
)
def test_help_of_a_group_has_examples(pyrl, command):
    outcome = pyrl(*command.split(), "--help")
    assert f"pyrl {command}" in outcome.out.partition("Example")[2]


def test_help_loads_nothing_heavy():
    code = (
        "import json, sys\n"
        "from pyrl_sb3.cli.app import run\n"
        "for arguments in json.loads(sys.argv[1]): assert run(arguments) == 0\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    calls = [[], ["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)]
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(calls)], capture_output=True, text=True, check=True
    )
    assert not HEAVY & set(done.stdout.splitlines()[-1].split())


def test_version(pyrl):
    assert pyrl("--version").out == f"pyrl-sb3 {pyrl_sb3.__version__}\n"


def test_module_runs_the_same_commands():
    done = subprocess.run(
        [sys.executable, "-m", "pyrl_sb3", "sac-tran", "Pendulum-v1"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("pyrl: No such command 'sac-tran'. Did you mean 'sac-train'")


@pytest.mark.parametrize("agent", agents.AGENTS.values(), ids=agents.AGENTS)
def test_examples_are_of_environments_that_there_are(agent):
    if example_env(agent).startswith("Fetch"):
        pytest.importorskip("gymnasium_robotics")
    assert env_spec(example_env(agent)).id == example_env(agent)
