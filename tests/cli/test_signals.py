"""Ctrl-C, SIGTERM and a terminal that goes away: what was learned is saved, and where is said."""

import gc
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import gymnasium as gym
import pytest
from gymnasium.envs.classic_control import PendulumEnv

from pyrl_sb3.cli import main
from pyrl_sb3.training import outermost
from pyrl_sb3.training.checkpoint import Checkpoint
from pyrl_sb3.training.folders import held
from pyrl_sb3.training.logs import evaluation_tables

LONG = ("--timesteps", "20000", "--seed", "1", "--save", "runs")


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "pyrl_sb3", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def no_nohup():
    """Have hangups heard by what is started, also where these tests are run under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def wait_for(process, text):
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"{text!r} never came: {process.stderr.read()}")


@pytest.mark.parametrize(
    ("number", "arguments", "moment"),
    [
        # in training, before any learning starts and no evaluation is near
        (signal.SIGINT, ("td3-train", "Pendulum-v1", "--eval-freq", "0"), "1000/20000 steps"),
        (signal.SIGHUP, ("td3-train", "Pendulum-v1", "--eval-freq", "0"), "1000/20000 steps"),
        # in an evaluation that would go on for hours: it starts at the step of the line waited for
        (
            signal.SIGTERM,
            ("td3-train", "Pendulum-v1", "--eval-freq", "1000", "--eval-episodes", "1000000"),
            "1000/20000 steps",
        ),
    ],
    ids=["Ctrl-C in training", "a terminal that is closed", "SIGTERM in an evaluation"],
)
@pytest.mark.usefixtures("no_nohup")
def test_a_stopped_run_is_saved(pyrl, number, arguments, moment):
    process = start(*arguments, *LONG)
    try:
        wait_for(process, moment)
        process.send_signal(number)
        out, err = process.communicate(timeout=900)
    finally:
        process.kill()
    assert (process.returncode, err) == (128 + number, "")
    steps = int(re.search(rf"{number.name}: stopped after (\d+) steps", out).group(1))
    assert 1000 <= steps < 20000
    assert "model saved: runs/Pendulum-v1_1/model.zip" in out
    tested = pyrl("td3-test", "Pendulum-v1", "runs", "--episodes", 1)
    assert f"trained for {steps} steps" in tested.out


@pytest.mark.parametrize(
    "end",
    [SystemExit(128 + signal.SIGTERM), KeyboardInterrupt(), OSError()],
    ids=["SIGTERM", "Ctrl-C", "an error"],
)
def test_python_ends_as_soon_after_what_ends_a_command_as_otherwise(end, monkeypatch):
    """What is imported is not searched for garbage again, which takes as long as an import."""
    steps = []
    monkeypatch.setattr(gc, "collect", lambda: steps.append("collect"))
    monkeypatch.setattr(gc, "freeze", lambda: steps.append("freeze"))
    monkeypatch.setattr("pyrl_sb3.cli.app.run", mock.Mock(side_effect=end))
    with pytest.raises((SystemExit, OSError)):
        main([])
    assert steps == ["collect", "freeze"]


HANGING = """
import time
from pathlib import Path
import gymnasium as gym
from gymnasium.envs.classic_control import PendulumEnv

class Hanging(PendulumEnv):
    def step(self, action):
        if list(Path().glob("runs/*/checkpoints/step_40")):
            Path("hangs").touch()
            while True:
                time.sleep(60)
        return super().step(action)

gym.register("Hanging-v0", Hanging, max_episode_steps=20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks are Linux's")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_step_without_end_is_ended_by_a_second_signal(folder, lasting_server, number):
    (folder / "hanging.py").write_text(HANGING)
    words = ["-p", "hanging.py", "td3-train", "Hanging-v0", "--save-freq", "40", "--no-exact"]
    words += ["--set", "learning_starts=1000", "--set", "policy_kwargs.net_arch=[4]"]
    process = lasting_server().start([*words, *LONG], folder / "log", {})

    def wait_for(what, seconds=120):
        end = time.monotonic() + seconds
        while not what() and time.monotonic() < end:
            time.sleep(0.02)
        return what()

    assert wait_for((folder / "hangs").exists), (folder / "log").read_text()
    said = folder / "log"
    for _ in range(20):  # the first may be heard late, and those within a second are one
        # Not once it is ending: one more might find its handlers gone, and change its exit code
        if process.poll() is None and "ended at once" not in said.read_text():
            os.kill(process.pid, number)
            wait_for(lambda: process.poll() is not None, 1.1)
    if not wait_for(lambda: process.poll() is not None, 20):
        os.kill(process.pid, signal.SIGKILL)
        pytest.fail("it goes on")
    run = Path("runs/Hanging-v0_1")
    assert process.poll() == 128 + number
    last = said.read_text().splitlines()[-1]
    kept = f"the last checkpoint is {run}/checkpoints/step_40"
    assert last == f"ended at once; {kept}; --resume {run} goes on"
    Checkpoint(run / "checkpoints/step_40").check()
    assert not (run / "model.zip").exists()
    with held(run):
        pass


class Endless(PendulumEnv):
    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 70:  # in the evaluation, since the training has fewer
            signal.raise_signal(signal.SIGINT)
        return super().step(action)


@pytest.fixture
def endless():
    gym.register("Endless-v0", Endless)
    yield "Endless-v0"
    del gym.registry["Endless-v0"]


def test_an_evaluation_without_end_is_told_of_and_can_be_stopped(
    pyrl, folder, endless, monkeypatch
):
    monkeypatch.setattr(outermost, "_VERY_MANY_STEPS", 50)
    line = ("sac-train", endless, "--timesteps", 40, "--eval-episodes", 1)
    stopped = pyrl(*line)
    said = " ".join(stopped.out.split())
    assert said.count("an episode of Endless-v0 has had 50 steps and has no time limit") == 1
    assert stopped.code == 128 + signal.SIGINT
    assert "SIGINT: stopped after 40 steps" in stopped.out
    assert (folder / "sac" / "Endless-v0_1" / "model.zip").is_file()

    limit = re.search(r"A line of the config that sets one: (.*?\]) ", said)[1]
    (folder / "my.yml").write_text(f"default:\n  {limit.replace('1000', '20')}\n")
    limited = pyrl(*line, "--config", "my.yml")
    assert (limited.code, limited.err) == (0, "")
    assert "length 20.0 steps" in limited.out


SHORT = (
    "td3-train",
    "Pendulum-v1",
    "--timesteps",
    "3000",
    "--save",
    "runs",
    "--eval-episodes",
    "1",
)
FEW_GRADIENTS = ("--set", "learning_starts=2900", "--set", "policy_kwargs.net_arch=[8]")


class Simulated(PendulumEnv):
    """As one whose simulator is another process, that the terminal's Ctrl-C ends."""

    steps, interrupted, says_why = 0, False, True

    def step(self, action):
        Simulated.steps += 1
        if Simulated.steps == 30:
            if Simulated.interrupted:
                signal.raise_signal(signal.SIGINT)
            try:
                raise ConnectionResetError("no licence")
            except ConnectionResetError as error:
                if Simulated.says_why:
                    raise EOFError from error
                raise EOFError  # noqa: B904  # as most do
        return super().step(action)


@pytest.fixture
def simulated(monkeypatch):
    monkeypatch.setattr(Simulated, "steps", 0)
    gym.register("Simulated-v0", Simulated, max_episode_steps=10)
    yield ("sac-train", "Simulated-v0", "--timesteps", 40, "--eval-freq", 0, "--eval-episodes", 1)
    del gym.registry["Simulated-v0"]


def test_an_environment_that_the_same_signal_ends_has_not_failed(
    pyrl, folder, simulated, monkeypatch
):
    monkeypatch.setattr(Simulated, "interrupted", True)
    stopped = pyrl(*simulated)
    assert stopped.code == 128 + signal.SIGINT
    assert "the environment failed as it was to stop: EOFError()" in stopped.out
    assert "SIGINT: stopped after 29 steps" in stopped.out
    run = folder / "sac" / "Simulated-v0_1"
    assert (run / "model.zip").is_file()
    assert pyrl("sac-train", "--resume", run).code == 0


@pytest.mark.parametrize(
    "options", [("--eval-freq", 25), ("--timesteps", 25)], ids=["on the way", "at the end"]
)
def test_nor_where_it_is_evaluated(pyrl, folder, simulated, monkeypatch, options):
    monkeypatch.setattr(Simulated, "interrupted", True)
    stopped = pyrl(*simulated, *options)
    assert stopped.code == 128 + signal.SIGINT
    assert "in an evaluation, the environment failed as it was to stop" in stopped.out
    run = folder / "sac" / "Simulated-v0_1"
    assert "SIGINT: stopped after 25 steps" in stopped.out
    assert pyrl("sac-train", "--resume", run).code == 0
    assert evaluation_tables(run / "evaluations.npz")["timesteps"][0] == 25


def test_nor_where_a_finished_run_is_evaluated(pyrl, folder, simulated, monkeypatch):
    monkeypatch.setattr(Simulated, "interrupted", True)
    assert pyrl(*simulated, "--timesteps", 25).code == 128 + signal.SIGINT
    run = folder / "sac" / "Simulated-v0_1"
    monkeypatch.setattr(Simulated, "steps", 27)
    stopped = pyrl("sac-train", "--resume", run)
    assert stopped.code == 128 + signal.SIGINT
    assert "the evaluation failed as it was to stop: EOFError()" in stopped.out
    assert f"go on: pyrl sac-train --resume {run}\n" in stopped.out
    assert pyrl("sac-train", "--resume", run).code == 0
    assert evaluation_tables(run / "evaluations.npz")["timesteps"].tolist() == [25]


def test_an_evaluation_of_a_finished_run_that_nobody_stops_fails(
    pyrl, folder, simulated, monkeypatch
):
    with pytest.raises(EOFError):
        pyrl(*simulated, "--timesteps", 25)
    monkeypatch.setattr(Simulated, "steps", 27)
    with pytest.raises(EOFError):
        pyrl("sac-train", "--resume", folder / "sac" / "Simulated-v0_1")


@pytest.mark.parametrize("says_why", [True, False], ids=["from another", "while it was handled"])
def test_the_error_of_an_environment_is_told_as_it_is(
    pyrl, folder, simulated, monkeypatch, says_why
):
    monkeypatch.setattr(Simulated, "says_why", says_why)
    with pytest.raises(EOFError) as raised:
        pyrl(*simulated)
    error = raised.value
    assert repr(error.__context__) == "ConnectionResetError('no licence')"
    assert (error.__cause__, error.__suppress_context__) == (
        error.__context__ if says_why else None,
        says_why,
    )
    assert (folder / "sac" / "Simulated-v0_1" / "model.zip").is_file()


def test_training_goes_on_when_nobody_reads_its_output_any_more(folder):
    with start(*SHORT, *FEW_GRADIENTS) as process:
        wait_for(process, "/3000 steps")
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert (folder / "runs" / "Pendulum-v1_1" / "model.zip").is_file()


@pytest.mark.learning
@pytest.mark.learning
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_training_goes_on_when_its_output_has_no_space(folder):
    command = [sys.executable, "-m", "pyrl_sb3"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*command, *SHORT, *FEW_GRADIENTS], stdout=full, stderr=subprocess.PIPE, text=True
        )
        listed = subprocess.run(
            [*command, "list", "algos"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.stderr == "pyrl: nothing more can be printed: No space left on device\n"
    assert done.returncode == 0
    assert (folder / "runs" / "Pendulum-v1_1" / "model.zip").is_file()
    assert (listed.returncode, listed.stderr.count("\n")) == (1, 1)
    assert "No space left on device" in listed.stderr


@pytest.mark.learning
def test_training_is_saved_when_its_terminal_is_gone(folder):
    """With the progress bar on it; nothing can be said any more."""
    controller, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pyrl_sb3", *SHORT, *FEW_GRADIENTS],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        preexec_fn=os.setsid,
    )
    os.close(terminal)
    shown = b""
    while b"/3000" not in shown:
        shown += os.read(controller, 4096)
    os.close(controller)
    assert process.wait(timeout=600) in (0, 128 + signal.SIGHUP)
    assert (folder / "runs" / "Pendulum-v1_1" / "model.zip").is_file()


def test_an_interrupt_as_the_commands_are_imported(monkeypatch):
    class Interrupted:
        def find_spec(self, name, *_):
            if name == "pyrl_sb3.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "pyrl_sb3.cli.app", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 130


@pytest.mark.parametrize(("options", "more"), [((), ""), (("--trust",), " --trust")])
def test_a_run_that_is_stopped_says_how_to_go_on(pyrl, folder, monkeypatch, options, more):
    said = {"stopped_by": signal.SIGINT, "timesteps": 1, "folder": Path("r"), "model": Path("r/m")}
    monkeypatch.setattr("pyrl_sb3.training.run.train", lambda *_: SimpleNamespace(**said))
    outcome = pyrl("td3-train", "Pendulum-v1", *options)
    assert outcome.code == 128 + signal.SIGINT
    assert outcome.out == (
        f"SIGINT: stopped after 1 step\nmodel saved: r/m\ngo on: pyrl td3-train --resume r{more}\n"
    )
