"""Processes that are forks of one which has imported everything."""

import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from stable_baselines3.common.save_util import load_from_zip_file

from pyrl_sb3.training.engines import Job, LocalProcess, LocalProcesses
from pyrl_sb3.training.errors import RunStoppedError
from pyrl_sb3.training.forks import ForkedProcess, ForkServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are Linux's")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def shared():
    """One for the tests that leave it alive: it takes seconds to start."""
    with closing(ForkServer()) as forks:
        yield forks


@pytest.fixture
def server():
    """One that a test may end."""
    with closing(ForkServer()) as forks:
        yield forks


def wait_for(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def ended(process):
    wait_for(lambda: process.poll() is not None)
    return process.poll()


def learns(run):
    monitor = run / "0.monitor.csv"
    return monitor.is_file() and len(monitor.read_text().splitlines()) > 2


TRAIN = ["td3-train", "Pendulum-v1", "--eval-freq", "0", "--eval-episodes", "1", "--save", "runs"]
LONG = ["--timesteps", "1000000", "--set", "learning_starts=1000000"]


@pytest.mark.learning
def test_a_fork_gives_what_a_process_of_its_own_gives(tmp_path, shared):
    """Exit codes, what is printed, what is learned, and what the run says of itself."""
    words = [*TRAIN, "--timesteps", "150", "--threads", "1", "--seed", "3"]
    words += ["--set", "policy_kwargs.net_arch=[8]", "--set", "learning_starts=50"]
    alone = LocalProcess(Job(name="alone", arguments=tuple(words), log=tmp_path / "alone.log"))
    assert ended(alone) == 0, (tmp_path / "alone.log").read_text()
    forked = shared.start(words, tmp_path / "forked.log", {"OMP_NUM_THREADS": "1"})
    assert ended(forked) == 0, (tmp_path / "forked.log").read_text()
    texts = [(tmp_path / f"{name}.log").read_text() for name in ("alone", "forked")]
    assert "model saved" in texts[1]
    assert texts[1].replace("Pendulum-v1_2", "Pendulum-v1_1") == texts[0]
    runs = [tmp_path / "runs" / f"Pendulum-v1_{n}" for n in (1, 2)]
    assert yaml.safe_load((runs[1] / "run.yml").read_text())["command"] == ["pyrl", *words]
    models = [load_from_zip_file(run / "model.zip", load_data=False)[1]["policy"] for run in runs]
    for name, tensor in models[0].items():
        assert tensor.equal(models[1][name]), name


def test_mistakes_and_signals_are_its_exit_code(tmp_path, shared):
    log = tmp_path / "log"
    assert ended(shared.start(["td3-train", "Pendulum"], log, {})) == 2
    assert "did you mean Pendulum-v1?" in log.read_text()
    words = [*TRAIN, *LONG]
    stopped, killed = (shared.start(words, tmp_path / name, {}) for name in ("a", "b"))
    assert stopped.poll() is killed.poll() is None
    wait_for(lambda: sum(map(learns, tmp_path.glob("runs/*"))) == 2)
    assert os.getsid(stopped.pid) == stopped.pid
    killed_run = next(run for run in tmp_path.glob("runs/*") if _is_of(run, killed.pid))
    stopped.stop()
    os.kill(killed.pid, signal.SIGKILL)
    assert ended(stopped) == 130
    assert ended(killed) == -signal.SIGKILL
    stopped.stop()  # it has ended, and nobody else gets its signal
    (saved,) = tmp_path.glob("runs/*/model.zip")
    assert saved.parent != killed_run


def _is_of(run, pid):
    files = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
    return any(file.startswith(str(run)) for file in files)


def test_variables_and_folder_are_those_of_each(tmp_path, shared, monkeypatch):
    monkeypatch.setenv("THERE", "elsewhere")
    config = tmp_path / "here.py"
    config.write_text("""
import os
print("it is", os.environ["HERE"], "and", os.environ["THERE"])
hyperparams = {"Pendulum-v1": {}}
""")
    words = [*TRAIN, "--timesteps", "1", "--config", "../here.py", "--trust"]
    for here in ("one", "two"):
        (tmp_path / here).mkdir()
        monkeypatch.chdir(tmp_path / here)
        log = Path("log")
        assert ended(shared.start(words, log, {"HERE": here})) == 0, log.read_text()
        assert f"it is {here} and elsewhere" in log.read_text()
        assert (tmp_path / here / "runs/Pendulum-v1_1/model.zip").is_file()


def test_the_end_of_the_server_is_said_and_what_it_started_saves(tmp_path, server):
    words = [*TRAIN, *LONG]
    process = server.start(words, tmp_path / "log", {})
    run = tmp_path / "runs/Pendulum-v1_1"
    wait_for(lambda: learns(run))
    server._server.kill()
    with pytest.raises(RunStoppedError, match="those that run save and end"):
        process.poll()
    wait_for((run / "model.zip").is_file)


def test_what_goes_wrong_at_first_is_said(tmp_path, monkeypatch):
    """Here: a module in the way of PyTorch."""
    (tmp_path / "torch.py").write_text("raise ImportError('no torch today')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    forks = ForkServer()
    with pytest.raises(RunStoppedError, match="no torch today"):
        forks.start(["--version"], tmp_path / "log", {})
    forks.close()


@pytest.mark.learning
def test_a_stop_is_heard_at_once_where_a_shell_has_interrupts_ignored(tmp_path):
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    forks = ForkServer()
    try:
        words = [*TRAIN, *LONG]
        process = forks.start(words, tmp_path / "log", {})
        wait_for((tmp_path / "runs").is_dir)  # where nothing listens to signals yet
        process.stop()
        assert ended(process) in (130, -signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, earlier)
        forks.close()


def test_nobody_waits_for_a_server_that_has_nothing_to_do():
    forks = ForkServer()
    forks.close()
    assert forks._server.returncode == -signal.SIGKILL


def test_the_engine_of_this_machine_forks(tmp_path):
    job = Job(name="version", arguments=("--version",), log=tmp_path / "log")
    with closing(LocalProcesses()) as engine:
        first, second = engine.start(job), engine.start(job)
        assert isinstance(first, ForkedProcess)
        assert ended(first) == ended(second) == 0
    assert (tmp_path / "log").read_text().count("pyrl-sb3") == 2
