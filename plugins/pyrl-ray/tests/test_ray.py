"""On a Ray of this machine, with two workers."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install ray")

from pyrl_ray.engine import Ray

from pyrl_sb3.plugins import get_plugin_manager
from pyrl_sb3.training.checkpoint import Checkpoint
from pyrl_sb3.training.checkpoint_folder import CheckpointFolder
from pyrl_sb3.training.engines import Job
from pyrl_sb3.training.loading import saved_timesteps
from pyrl_sb3.training.unfinished import has_checkpoint, is_finished

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own

STARTED_IN = "PYRL_TEST_STARTED_IN"  # by which all processes of a command are known
TINY = ["--eval-freq", "0", "--eval-episodes", "1", "--save-freq", "100", "--threads", "1"]
TINY += ["--set", "policy_kwargs.net_arch=[8]", "--set", "learning_starts=50"]


@pytest.fixture(scope="module")
def engine():
    engine = Ray()
    yield engine
    engine.close()


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def wait_for_checkpoints(group, process):
    """Wait until both seeds have one; which it is changes while they go on."""

    def they_have():
        assert process.poll() is None, process.communicate()[0]
        return all(has_checkpoint(group / f"seed_{seed}") for seed in range(2))

    wait_for(they_have)


@pytest.fixture
def pyrl(tmp_path):
    """Start a command; it ends with the test."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "pyrl_sb3", *arguments],
            cwd=tmp_path,
            env={**os.environ, STARTED_IN: str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def weights(path):
    from stable_baselines3.common.save_util import load_from_zip_file

    return load_from_zip_file(path, load_data=False)[1]["policy"]


def test_it_is_found_by_its_name():
    assert get_plugin_manager().load("engine", "ray") is Ray


def test_a_job_and_one_that_fails(engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert engine.cores() >= 2
    good = Job(name="good", arguments=("list", "engines"), log=Path("good.log"))
    bad = Job(name="bad", arguments=("sac-train", "Pendulun-v1"), log=Path("bad.log"))
    jobs = [engine.start(job) for job in (good, bad)]
    wait_for(lambda: None not in [job.poll() for job in jobs])
    assert [job.poll() for job in jobs] == [0, 2]
    assert "ray/ray" in (tmp_path / "good.log").read_text()
    assert "Pendulum-v1" in (tmp_path / "bad.log").read_text()


def test_seeds_are_stopped_and_go_on(pyrl, tmp_path):
    command = ["td3-train", "Pendulum-v1", "--seeds", "2", "--engine", "ray", *TINY]
    process = pyrl(*command, "--timesteps", "100000")
    group = tmp_path / "td3" / "Pendulum-v1_1"
    wait_for_checkpoints(group, process)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + signal.SIGINT, output
    assert "what each seed has learned is saved" in output
    steps = [
        Checkpoint(CheckpointFolder(group / f"seed_{s}" / "checkpoints").latest()).moment.timesteps
        for s in range(2)
    ]
    more = str(max(steps) + 200)
    process = pyrl("td3-train", "--resume", str(group), "--timesteps", more)
    assert "failed" not in process.communicate(timeout=120)[0]
    assert process.returncode == 0
    assert all(is_finished(group / f"seed_{seed}", int(more)) for seed in range(2))


def test_synchronised_copies_end_as_on_this_machine_alone(pyrl, tmp_path):
    command = ["td3-train", "Pendulum-v1", "--seeds", "2", "--sync", "mean", "--timesteps", "400"]
    for more in ([], ["--engine", "ray"]):
        process = pyrl(*command, "--sync-every", "100", *TINY, *more)
        output = process.communicate(timeout=200)[0]
        assert process.returncode == 0, output
    one, other = (weights(tmp_path / "td3" / f"Pendulum-v1_{n}" / "model.zip") for n in (1, 2))
    for name, value in one.items():
        assert value.equal(other[name]), name


def test_a_copy_that_is_killed_comes_back(pyrl, tmp_path):
    command = ["td3-train", "Pendulum-v1", "--seeds", "2", "--sync", "mean", "--timesteps", "2000"]
    process = pyrl(*command, "--sync-every", "100", *TINY, "--engine", "ray")
    group = tmp_path / "td3" / "Pendulum-v1_1"
    wait_for_checkpoints(group, process)
    os.kill(copies_of(group)[-1], signal.SIGKILL)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert "ended: exit code -9" in output
    assert "all copies start again" in output


@pytest.mark.parametrize("more", [(), ("--sync", "mean", "--sync-every", "100")])
def test_all_stop_and_save_when_their_command_is_killed(pyrl, tmp_path, more):
    command = ["td3-train", "Pendulum-v1", "--seeds", "2", "--engine", "ray", *TINY, *more]
    process = pyrl(*command, "--timesteps", "1000000")
    group = tmp_path / "td3" / "Pendulum-v1_1"
    wait_for_checkpoints(group, process)
    assert len(processes_in(tmp_path)) > 2
    process.kill()
    process.wait()
    wait_for(lambda: not processes_in(tmp_path))
    for seed in range(2):
        run = group / f"seed_{seed}"
        assert (
            saved_timesteps(run / "model.zip")
            == Checkpoint(CheckpointFolder(run / "checkpoints").latest()).moment.timesteps
        )


def processes_in(folder):
    """All processes that commands in a folder have started: seeds, actors, those of Ray itself."""
    mark = f"{STARTED_IN}={folder}".encode()
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _has(entry, mark)]


def _has(entry, mark):
    with suppress(OSError):  # it has ended meanwhile
        return mark in (entry / "environ").read_bytes().split(b"\0")
    return False


def copies_of(group):
    """The processes of the copies."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _is_copy(entry, group)]


def _is_copy(entry, group):
    with suppress(OSError):  # it has ended meanwhile
        words = (entry / "cmdline").read_bytes().split(b"\0")
        return str(group).encode() in words and b"RANK=" in (entry / "environ").read_bytes()
    return False
