"""`pyrl plugins` and `pyrl list`."""

import json
import os
import re
import subprocess
import sys
import warnings

import pytest
import typer
from typer.testing import CliRunner

from pyrl_sb3.cli.plugin_options import configure, plain_warnings
from pyrl_sb3.cli.plugins import app, list_components
from pyrl_sb3.plugins import PluginWarning, UnknownComponentError, get_plugin_manager

CAUSES = [
    "import-error (pyrl-import-error 1.0) failed at import: ModuleNotFoundError",
    "exits (pyrl-exits 1.0) failed at import: SystemExit: not on this machine",
    "bad-signature (pyrl-bad-signature 1.0) failed at register: PluginValidationError",
    "misspelt-hook (pyrl-misspelt-hook 1.0) failed at register: ValueError: unknown hook",
    "junk (pyrl-junk 1.0) failed at collect: TypeError",
    "late-generator (pyrl-late-generator 1.0) failed at collect: RuntimeError: too late",
    "newer-api (pyrl-newer-api 1.0) failed at api: ValueError: it is written for API 99",
]


def run(*arguments, code=0):
    result = CliRunner().invoke(app, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def run_list(*arguments):
    listing = typer.Typer()
    listing.command()(list_components)
    result = CliRunner().invoke(listing, arguments)
    if result.exception:
        raise result.exception
    return result.output


def test_list(good):
    plugin, distribution, components = "good", "pyrl-good 1.0", "good/brown"
    assert run("list").splitlines()[1].split(maxsplit=1)[0] == plugin
    assert distribution in run("list")
    assert components in run("list")
    assert "pyrl/ou" not in run("list")
    assert "pyrl/ou" in run("list", "--all")
    assert run("list", "--requirements") == "pyrl-good==1.0\n"
    assert "good" in run("list", "--kind", "noises")
    assert "good" not in run("list", "--kind", "buffers")
    [listed] = json.loads(run("list", "--json"))["plugins"]
    assert (listed["name"], listed["distribution"], listed["version"]) == (
        "good",
        "pyrl-good",
        "1.0",
    )
    assert listed["components"][0]["name"] == "good/brown"


def test_list_names_the_broken_ones(good, broken):
    output = run("list")
    assert "failed at api" in output
    assert "pyrl plugins doctor" in output
    assert len(json.loads(run("list", "--json"))["failures"]) == len(CAUSES)


def test_doctor_names_each_cause_with_its_traceback(good, broken):
    output = run("doctor", code=1)
    for cause in CAUSES:
        assert cause in output
    assert "ok      good (pyrl-good 1.0), imported in" in output
    assert 'raise RuntimeError("too late")' in output
    report = json.loads(run("doctor", "--json", code=1))
    assert len(report["failures"]) == len(CAUSES)


def test_doctor_is_content_and_tells_of_shared_names(good, fake_dist):
    fake_dist("acme", (good / "pyrl_good.py").read_text())
    assert "noise brown is provided as acme/brown, good/brown" in run("doctor")


def test_show(good):
    output = run("show", "good")
    assert "noise good/brown" in output
    assert "parameters: sigma=0.5" in output
    assert "target: pyrl_sb3.noise.action:gaussian" in output
    [shown] = json.loads(run("show", "good/brown", "--json"))
    assert shown["parameters"] == {"sigma": "0.5"}
    with pytest.raises(
        UnknownComponentError, match="no plugin or component 'bad'; plugins: good, pyrl"
    ):
        run("show", "bad")


def test_check(good, fake_dist):
    assert run("check", "good") == "ok     noise good/brown\n"
    fake_dist("acme", (good / "pyrl_good.py").read_text().replace(":gaussian", ":typo"))
    get_plugin_manager.cache_clear()
    assert "FAILED noise acme/brown: " in run("check", "acme", code=1)


ALGORITHMS = """
from pathlib import Path
from stable_baselines3 import TD3
from pyrl_sb3.plugins import AlgorithmSpec, hookimpl

class Never(TD3):
    def train(self, gradient_steps, batch_size=64):
        pass

CONFIG = Path(__file__).with_name("typo.yml")
CONFIG.write_text("default: {n_timesteps: 9}\\nPendulum-v1: {batch_sise: 3}")

@hookimpl
def pyrl_algorithms():
    yield AlgorithmSpec(name="fine", target=TD3, defaults={"learning_starts": 1000})
    yield AlgorithmSpec(name="never", target=Never)
    yield AlgorithmSpec(name="config", target=TD3, config=CONFIG)
    yield AlgorithmSpec(name="policy", target=TD3, policy="pyrl/tdd3")
"""


def test_check_of_algorithms(fake_dist):
    fake_dist("acme", ALGORITHMS)
    config, fine, never, policy = run("check", "acme", code=1).splitlines()
    assert config.startswith("FAILED algorithm acme/config: ")
    assert config.endswith("batch_sise: TD3 has no such setting; did you mean batch_size?")
    assert fine == "ok     algorithm acme/fine"
    assert never.endswith("acme/never: 40 steps of learning change nothing")
    assert "Did you mean 'pyrl/td3'?" in policy


def test_list_components(good):
    output = run_list("noises")
    assert "good/brown" in output
    assert re.search("^pyrl/ou  +Ornstein-Uhlenbeck", output, re.MULTILINE)
    names = [each["name"] for each in json.loads(run_list("algos", "--json"))]
    known = ["crossq", "ddpg", "dqn", "qrdqn", "sac", "sac-discrete", "td3", "tqc"]
    assert names == [f"pyrl/{name}" for name in known]
    with pytest.raises(UnknownComponentError, match="unknown kind of component 'noisy'"):
        run_list("noisy")


def test_warnings_are_one_line(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    plain_warnings()
    assert warnings.formatwarning("odd", PluginWarning, "f.py", 3) == "warning: odd\n"
    assert "f.py:3" in warnings.formatwarning("odd", UserWarning, "f.py", 3)


@pytest.mark.parametrize("command", [["list"], ["doctor"]])
def test_no_torch(good, broken, command):
    code = (
        "import sys; from pyrl_sb3.cli.plugins import app\n"
        f"try: app({command!r})\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch'"
    )
    environment = {**os.environ, "PYTHONPATH": str(good)}
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr


def test_options_reach_the_manager(good, monkeypatch):
    for variable in ("PYRL_LOAD_PLUGINS", "PYRL_DISABLE_PLUGINS"):
        monkeypatch.setenv(variable, "good")
    monkeypatch.delenv("PYRL_DISABLE_PLUGINS")
    assert "good/brown" in run_list("noises")
    monkeypatch.setenv("PYRL_DISABLE_PLUGINS", "")
    configure(plugins=["no:good"])
    assert "good/brown" not in run_list("noises")
    monkeypatch.setenv("PYRL_DISABLE_PLUGINS", "")
    configure(no_plugins=True)
    assert get_plugin_manager().settings.load == frozenset()


@pytest.mark.parametrize("arguments", [["--help"], ["plugins", "list"], ["list", "noises"]])
def test_commands_work_beside_broken_plugins(good, broken, arguments):
    process = subprocess.run(
        [sys.executable, "-m", "pyrl_sb3", *arguments],
        env={**os.environ, "PYTHONPATH": str(good)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    if arguments[0] != "--help":
        assert "good/brown" in process.stdout
